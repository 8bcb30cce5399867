"""Tokenizers, vocabulary and ids.

Shapes: B reviews, T tokens.
"""

from collections import Counter
from pathlib import Path

import pytest
from conftest import make_reviews, write_csv
from prepared import data_of, texts_of

from lit_imdb.data.text import TextEncoder, build_vocabulary


def test_reviews_keep_their_last_80_tokens_with_zeros_in_front() -> None:
    words = [f"w{n}" for n in range(100)]
    encoder = TextEncoder(["<pad>", "<unk>", *words])
    ids = encoder.encode([" ".join(words), "w1 never-seen w2", ""])  # (B, T)
    assert ids[0].tolist() == list(range(22, 102))
    assert ids[1].tolist() == [0] * 76 + [3, 1, 1, 4]
    assert ids[2].tolist() == [0] * 80


def test_vocabulary_has_pad_and_unk_in_front_and_the_frequent_words() -> None:
    counter = Counter({"rare": 1, "b": 3, "a": 3, "often": 9})
    assert build_vocabulary(counter, 5) == ["<pad>", "<unk>", "often", "a", "b"]


def test_vocabulary_comes_from_the_training_split_alone() -> None:
    reviews = [(f"{text} only{n}", label) for n, (text, label) in enumerate(make_reviews(50))]
    corpus = write_csv(Path("corpus.csv"), reviews)
    vocabulary = set(data_of(corpus, vocab_size=10_000).vocabulary or [])
    for name, rows in texts_of(corpus).items():
        assert all((text.split()[-1] in vocabulary) == (name == "train") for text, _ in rows)


@pytest.mark.parametrize("tokenizer", ["words", "basic_english"])
def test_prepared_ids_labels_and_texts_are_the_reviews(tokenizer: str, corpus: Path) -> None:
    module = data_of(corpus, tokenizer=tokenizer)
    assert ("!" in (module.vocabulary or [])) == (tokenizer == "basic_english")
    for name, rows in texts_of(corpus).items():
        texts, labels = zip(*rows, strict=True)
        assert (module.splits[name].ids.numpy() == module.encoder.encode(texts)).all()
        assert module.splits[name].labels.tolist() == list(labels)
        if name != "train":
            assert [module.splits[name].text(row) for row in range(len(rows))] == list(texts)
