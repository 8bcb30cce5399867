"""Prepared reviews on disk: what makes the program prepare them again, and what does not."""

from pathlib import Path

import pytest
import torch
from conftest import make_reviews, write_csv
from prepared import data_of, preparation

from lit_imdb.data import cache
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.prepare import Preparation
from lit_imdb.errors import UserError


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
    preparation(corpus, root).open()
    before = folders(root)
    preparation(corpus, root, **change).open()
    assert folders(root) > before


@pytest.mark.parametrize("change", [{"text_column": "title"}, {"encoding": "cp1252"}], ids=str)
def test_another_column_or_encoding_of_the_same_file_is_prepared_again(
    change: dict[str, str], tmp_path: Path
) -> None:
    rows = [f'"{text} café","title {text}",{label}' for text, label in make_reviews(50)]
    (tmp_path / "own.csv").write_text("\n".join(["text,title,label", *rows]), encoding="utf-8")
    first, _, _ = preparation(tmp_path / "own.csv", tmp_path / "own").open()
    second, _, _ = preparation(tmp_path / "own.csv", tmp_path / "own", **change).open()
    assert first.vocabulary != second.vocabulary


def test_a_changed_file_is_prepared_again(corpus: Path, tmp_path: Path) -> None:
    _, first, _ = preparation(corpus, tmp_path / "own").open()
    write_csv(corpus, make_reviews(60, seed=3))
    _, second, _ = preparation(corpus, tmp_path / "own").open()
    assert (len(first["test"]), len(second["test"])) == (40, 24)


def test_a_checkpoints_vocabulary_has_its_own_cache(corpus: Path, tmp_path: Path) -> None:
    own = ["<pad>", "<unk>", "lovely", "awful"]
    preparation(corpus, tmp_path / "own").open()
    _, parts, _ = preparation(corpus, tmp_path / "own", vocabulary=own).open()
    assert parts["train"].ids.max() == 3


def test_a_checkpoint_with_another_vocabulary_says_where_to_put_it() -> None:
    data = ImdbDataModule("package")
    for vocabulary in (None, ["<pad>", "<unk>", "film"]):
        data.vocabulary = vocabulary
        with pytest.raises(UserError, match=r"set datamodule\.vocabulary to the checkpoint's"):
            data.load_state_dict({"vocabulary": "<pad>\n<unk>\nplot"})
    data.load_state_dict({"vocabulary": "<pad>\n<unk>\nfilm"})


def test_a_second_start_builds_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data_of(corpus)

    def never(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(cache, "_build_locked", never)
    monkeypatch.setattr(Preparation, "batches", never)
    second = data_of(corpus)
    assert torch.equal(first.parts["train"].ids, second.parts["train"].ids)


def test_a_build_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build_once(tmp_path / "own" / "key", build)
    assert not folders(tmp_path / "own")
