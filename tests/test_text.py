"""Tokenizers, vocabulary and ids.

Shapes: B reviews, T tokens.
"""

from collections import Counter
from pathlib import Path

import pytest
from conftest import make_reviews, write_csv
from prepared import data_of, texts_of

from lit_imdb.data.text import (
    BASIC_ENGLISH,
    WORDS,
    TextEncoder,
    build_vocabulary,
)


def test_words_drop_punctuation_and_basic_english_keeps_it() -> None:
    text = "Don't miss it!<br /><br />GREAT (really) film: 10/10."
    assert WORDS.split(text) == ["don't", "miss", "it", "great", "really", "film", "10", "10"]
    tokens = " ".join(BASIC_ENGLISH.split(text))
    assert tokens == "don ' t miss it ! great ( really ) film 10/10 ."


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


def test_vocabulary_comes_from_the_training_split_alone(tmp_path: Path) -> None:
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
    part = module.splits["test"]
    expected = [
        vocabulary.index(token) if token in vocabulary else 1
        for token in module.encoder.tokens(text)
    ]
    assert [i for i in part.ids[0].tolist() if i] == expected
    assert part.labels[0] == label


def test_held_out_texts_can_be_read_back(corpus: Path) -> None:
    module = data_of(corpus)
    for name in ("val", "test"):
        part = module.splits[name]
        assert [part.text(row) for row in range(len(part))] == [
            t for t, _ in texts_of(corpus)[name]
        ]
