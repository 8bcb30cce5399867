"""Splits, vocabulary, ids, cache and batches: what a run trains and tests on.

Shapes: B reviews, T tokens.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, WRITERS, make_reviews, write_acl_imdb, write_csv

from lit_imdb.data import cache
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.encoded import Encoded
from lit_imdb.data.loader import BatchLoader
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.reviews import PARTS, Reviews
from lit_imdb.data.splits import DROPPED, TEST, TRAIN, VAL, split
from lit_imdb.data.text import TextEncoder, basic_english, build_vocabulary, last_words, words

SETTINGS = {"tokenizer": "words", "vocab_size": 60, "max_length": 8, "val_fraction": 0.1}


def texts_of(source: Path, val_fraction: float = 0.1) -> dict[str, list[tuple[str, int]]]:
    """(text, label) of each part, as the program splits them."""
    reviews = Reviews(str(source), val_fraction)
    texts = [text for batch, _ in reviews.batches() for text in batch]
    return {
        name: [(texts[row], int(reviews.labels[row])) for row in np.flatnonzero(reviews.parts == n)]
        for name, n in PARTS.items()
    }


def data_of(source: Path, **settings: object) -> ImdbDataModule:
    module = ImdbDataModule(str(source), **{**SETTINGS, "batch_size": 16, **settings})  # type: ignore[arg-type]
    module.prepare_data()
    module.setup("fit")
    return module


# --- splits ---


@pytest.mark.parametrize("form", WRITERS)
def test_held_out_parts_are_the_tails_of_each_label_in_every_form(
    form: str, tmp_path: Path
) -> None:
    reviews = make_reviews(100)
    parts = texts_of(WRITERS[form](tmp_path / form, reviews))
    negative, positive = reviews[:100], reviews[100:]
    assert parts["train"] == negative[:72] + positive[:72]
    assert parts["val"] == negative[72:80] + positive[72:80]
    assert parts["test"] == negative[80:] + positive[80:]


def test_a_source_with_its_own_test_part_keeps_it(tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "imdb", make_reviews(20))
    folder = write_acl_imdb(tmp_path / "imdb", make_reviews(10, seed=1), "test")
    parts = texts_of(folder)
    assert parts["test"] == make_reviews(10, seed=1)
    assert len(parts["val"]) == 4  # a tenth of each label of the training part

    tables = tmp_path / "tables"
    tables.mkdir()
    write_csv(tables / "train.csv", make_reviews(20))
    write_csv(tables / "test.csv", make_reviews(10, seed=1))
    assert texts_of(tables) == parts


def test_no_text_stands_on_both_sides_of_any_split(tmp_path: Path) -> None:
    reviews = make_reviews(100)
    for label in (0, 100):
        reviews[label + 5] = reviews[label + 99]  # training and test
        reviews[label + 6] = reviews[label + 75]  # training and validation
        reviews[label + 76] = reviews[label + 98]  # validation and test
        reviews[label + 7] = reviews[label + 8]  # twice in training: no leak
    reviews[20] = (reviews[199][0], 0)  # with the other label, too
    parts = texts_of(write_csv(tmp_path / "twins.csv", reviews))
    train, val, test = ({text for text, _ in parts[name]} for name in PARTS)
    assert not train & val
    assert not train & test
    assert not val & test


def test_a_text_in_two_parts_stays_in_test_before_validation_before_training() -> None:
    labels = np.repeat([0, 1], 20).astype(np.int8)
    texts = np.arange(40)
    texts[0] = texts[16]  # the tail of 4 is test
    texts[1] = texts[15]  # of the 16 left, the tail of 2 validates
    texts[14] = texts[17]
    parts = split(labels, texts, np.zeros(40, bool), 0.1)
    assert parts[[0, 1, 14]].tolist() == [DROPPED, DROPPED, DROPPED]
    assert parts[[15, 16, 17]].tolist() == [VAL, TEST, TEST]
    assert Counter(parts[20:].tolist()) == {TRAIN: 14, VAL: 2, TEST: 4}


def test_the_same_reviews_are_split_the_same_way_twice(corpus: Path) -> None:
    assert texts_of(corpus) == texts_of(corpus)


def test_movies_of_the_acl_layout_keep_their_numbers_order(tmp_path: Path) -> None:
    reviews = make_reviews(30)
    parts = texts_of(write_acl_imdb(tmp_path / "imdb", reviews))
    assert parts["train"][:12] == reviews[:12]  # 2_1.txt before 10_1.txt


def test_empty_texts_are_skipped_and_counted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, labels = map(list, zip(*make_reviews(50), strict=True))
    table = pa.table({"text": [None, "", " \n", *texts], "label": [0, 1, 1, *labels]})
    pq.write_table(table, tmp_path / "some.parquet")
    module = data_of(tmp_path / "some.parquet")
    assert module.counts == {"skipped": 3, "dropped": 0}
    assert sum(map(len, module.parts.values())) == 100


# --- text ---

ODD_TEXTS = [
    *("", "   ", "one", "<br />", "A<br />B", "it's -- NOT; bad!!!", "a\tb\nc\r\nd\x0be"),
    *("\u00a0no\u2003break\u2028line\u3000end\x1c.", "\u0130stanbul \u00c9t\u00c9", "x " * 300),
    *("... leading", "trailing ...", "<BR /><br/>", "\ud800 lone", "zero\u200bwidth", "a.b_c~d"),
    *("\U0001f600 smile", "\x85next", "caf\u00e9\u0301", "=" * 50, "tab\tonly\t"),
]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
@pytest.mark.parametrize("count", [1, 2, 3, 80])
def test_last_words_are_the_last_of_all_words(text: str, count: int) -> None:
    assert last_words(text, count) == words(text)[-count:]


def test_words_drop_punctuation_and_basic_english_keeps_it() -> None:
    text = "Don't miss it!<br /><br />GREAT (really) film: 10/10."
    assert words(text) == ["don't", "miss", "it", "great", "really", "film", "10", "10"]
    assert " ".join(basic_english(text)) == "don ' t miss it ! great ( really ) film 10/10 ."


def test_reviews_keep_their_last_80_tokens_with_zeros_in_front() -> None:
    encoder = TextEncoder(["<pad>", "<unk>", *(f"w{n}" for n in range(100))])
    long, short = (" ".join(f"w{n}" for n in range(count)) for count in (100, 3))
    ids = encoder.encode([long, short, "", "w1 never-seen w2"])  # (B, T)
    assert ids.shape == (4, 80)
    assert ids[0].tolist() == list(range(22, 102))
    assert ids[1].tolist() == [0] * 77 + [2, 3, 4]
    assert not ids[2].any()
    assert ids[3, -4:].tolist() == [3, 1, 1, 4]


def test_vocabulary_has_pad_and_unk_in_front_and_the_frequent_words() -> None:
    counter = Counter({"rare": 1, "b": 3, "a": 3, "often": 9})
    assert build_vocabulary(counter, 5) == ["<pad>", "<unk>", "often", "a", "b"]


def test_vocabulary_comes_from_the_training_part_alone(tmp_path: Path) -> None:
    reviews = [
        (f"{text} only{number}", label) for number, (text, label) in enumerate(make_reviews(50))
    ]
    corpus = write_csv(tmp_path / "corpus.csv", reviews)
    vocabulary = set(data_of(corpus, vocab_size=10_000).vocabulary or [])
    parts = texts_of(corpus)
    for text, _ in parts["train"]:
        assert text.split()[-1] in vocabulary
    for text, _ in parts["val"] + parts["test"]:
        assert text.split()[-1] not in vocabulary


@pytest.mark.parametrize("tokenizer", ["words", "basic_english"])
def test_both_tokenizers_give_the_ids_of_their_vocabulary(tokenizer: str, corpus: Path) -> None:
    module = data_of(corpus, tokenizer=tokenizer)
    vocabulary = module.vocabulary or []
    assert vocabulary[:2] == ["<pad>", "<unk>"]
    assert ("!" in vocabulary) == (tokenizer == "basic_english")
    text, label = texts_of(corpus)["test"][0]
    part = module.parts["test"]
    expected = [
        vocabulary.index(token) if token in vocabulary else 1
        for token in module.encoder.tokens(text)
    ]
    assert [i for i in part.ids[0].tolist() if i] == expected
    assert part.labels[0] == label


def test_held_out_texts_can_be_read_back(corpus: Path) -> None:
    module = data_of(corpus)
    for name in ("val", "test"):
        part = module.parts[name]
        assert [part.text(row) for row in range(len(part))] == [
            t for t, _ in texts_of(corpus)[name]
        ]


# --- cache ---


def prepared(source: Path, root: Path, **settings: object) -> Encoded:
    return Preparation(root, str(source), **{**SETTINGS, **settings}).open()  # type: ignore[arg-type]


def folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


@pytest.mark.parametrize(
    "change",
    [{"tokenizer": "basic_english"}, {"vocab_size": 20}, {"max_length": 4}, {"val_fraction": 0.3}],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_that_changes_the_ids_has_its_own_cache(
    change: dict[str, object], corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "own"
    prepared(corpus, root)
    before = folders(root)
    prepared(corpus, root, **change)
    assert folders(root) > before


def test_a_changed_file_is_prepared_again(corpus: Path, tmp_path: Path) -> None:
    first = prepared(corpus, tmp_path / "own")
    write_csv(corpus, make_reviews(60, seed=3))
    second = prepared(corpus, tmp_path / "own")
    assert (len(first.parts["test"]), len(second.parts["test"])) == (40, 24)


def test_a_checkpoints_vocabulary_has_its_own_cache(corpus: Path, tmp_path: Path) -> None:
    own = ["<pad>", "<unk>", "lovely", "awful"]
    prepared(corpus, tmp_path / "own")
    encoded = prepared(corpus, tmp_path / "own", vocabulary=own)
    assert encoded.parts["train"].ids.max() == 3


def test_a_second_start_builds_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data_of(corpus)

    def never(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(cache, "_build_locked", never)
    monkeypatch.setattr(Reviews, "batches", never)
    second = data_of(corpus)
    assert torch.equal(first.parts["train"].ids, second.parts["train"].ids)


def test_a_damaged_cache_is_rebuilt_with_a_warning(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    whole = prepared(corpus, root).parts["train"].ids.clone()
    (file,) = root.glob("*/train.ids")
    file.write_bytes(b"\x07" * file.stat().st_size)
    with pytest.warns(UserWarning, match="the cache is damaged"):
        again = prepared(corpus, root)
    assert torch.equal(again.parts["train"].ids, whole)


def test_a_build_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.open_or_build(tmp_path / "own" / "key", build)
    assert not folders(tmp_path / "own")


def test_of_two_processes_that_start_together_one_builds(corpus: Path, tmp_path: Path) -> None:
    log = tmp_path / "builds"
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lit_imdb.data import prepare
for name in ("_write_vocabulary", "_write_ids"):
    def write(self, *args, real=getattr(prepare.Preparation, name), name=name):
        with open({str(log)!r}, "a") as file:
            file.write(name + "\\n")
        time.sleep(0.5)  # long enough for the other one to arrive
        real(self, *args)
    setattr(prepare.Preparation, name, write)
root = Path({str(tmp_path / "own")!r})
encoded = prepare.Preparation(root, {str(corpus)!r}, **{SETTINGS!r}).open()
print(len(encoded.parts["train"]))
"""
    command = [sys.executable, "-c", script]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["144\n", "144\n"]
    assert sorted(log.read_text().split()) == ["_write_ids", "_write_vocabulary"]


# --- batches ---


def ids_of(loader: BatchLoader) -> list[torch.Tensor]:
    return [ids for ids, _ in loader]


def test_training_batches_are_full_and_reshuffled_each_epoch(corpus: Path) -> None:
    part = data_of(corpus).parts["train"]  # 144 reviews
    loader = BatchLoader(part, 32, seed=5)
    assert len(loader) == 4
    first = ids_of(loader)
    assert [len(ids) for ids in first] == [32] * 4
    assert first[0].dtype == torch.int32
    loader.set_epoch(1)
    second = ids_of(loader)
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert sorted(loader.order().tolist()) == list(range(144))


def test_validation_and_test_drop_no_review_and_keep_the_order(corpus: Path) -> None:
    module = data_of(corpus, batch_size=15)
    for name, loader in (("val", module.val_dataloader()), ("test", module.test_dataloader())):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert torch.equal(torch.cat([ids for ids, _ in batches]), module.parts[name].ids.int())
        assert torch.equal(torch.cat([y for _, y in batches]), module.parts[name].labels.float())


def test_order_is_a_function_of_seed_and_epoch_alone(corpus: Path) -> None:
    part = data_of(corpus).parts["train"]

    def order(seed: int, epoch: int) -> list[int]:
        torch.rand(3)  # the global generator has no say, and is left alone
        loader = BatchLoader(part, 16, seed=seed)
        loader.set_epoch(epoch)
        return loader.order().tolist()

    torch.manual_seed(1)
    orders = [order(seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    torch.manual_seed(2)
    assert orders == [order(seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(rows) for rows in orders}) == 4

    state = torch.get_rng_state()
    ids_of(BatchLoader(part, 16, seed=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_restored_loader_goes_on_with_the_same_next_batches(corpus: Path) -> None:
    part = data_of(corpus).parts["train"]
    loader = BatchLoader(part, 16, seed=5)
    loader.set_epoch(2)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()
    rest = [ids for ids, _ in batches]

    restored = BatchLoader(part, 16, seed=99)
    restored.load_state_dict(state)
    restored.set_epoch(2)
    torch.testing.assert_close(ids_of(restored), rest)
    restored.set_epoch(3)
    loader.set_epoch(3)
    torch.testing.assert_close(ids_of(restored), ids_of(loader))  # the next epoch is whole again


def test_several_processes_share_the_batches_without_overlap(corpus: Path) -> None:
    part = data_of(corpus).parts["train"]
    alone = ids_of(BatchLoader(part, 16, seed=5))
    shared = [ids_of(BatchLoader(part, 16, 5, rank, 2)) for rank in range(2)]
    assert [len(batches) for batches in shared] == [4, 4]
    torch.testing.assert_close([b for pair in zip(*shared, strict=True) for b in pair], alone[:8])
