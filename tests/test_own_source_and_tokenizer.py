"""What somebody adds: a source and a tokenizer, one registry entry each."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TINY, Output, make_reviews, results_of
from prepared import data_of

import lit_imdb
from lit_imdb.data.source import SOURCES, note_of
from lit_imdb.data.text import TOKENIZERS, Tokenizer

VOWELS = Tokenizer("vowels", version=1, rules=(("[^aeiou]+", " "),))


class Novels:
    name = "novels"
    note = "Reviews of novels."
    licence = "CC0"

    def fingerprint(self) -> object:
        return "first edition"

    def reviews(self) -> Iterator[tuple[str | None, int, bool]]:
        for seed, count in enumerate((100, 15)):
            for text, label in make_reviews(count, seed):
                yield text, label, seed == 1


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "novels", Novels)
    monkeypatch.setitem(TOKENIZERS, "vowels", VOWELS)


def test_an_added_source_and_tokenizer_train_and_test(run: Callable[..., Output]) -> None:
    done = run(*TINY, "--data.source", "novels", "--data.tokenizer", "vowels")
    assert done.status == 0, done
    results = results_of(Path("logs/imdb/version_0"))
    assert results["source"] == "novels"
    assert results["reviews"] == {"train": 180, "val": 20, "test": 30}
    encoder = lit_imdb.load().encoder
    assert encoder.tokens("A moving film!") == ["a", "o", "i", "i"]
    assert set("".join(encoder.vocabulary[2:])) <= set("aeiou")
    assert "novels" in run("test", "--accelerator", "cpu").out
    assert note_of("novels") == ("Reviews of novels.", "CC0")


def test_another_version_of_a_tokenizer_has_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def folders_after_a_preparation() -> set[Path]:
        data_of(Path("novels"), tokenizer="vowels", cache_dir="own")
        return {path for path in Path("own").iterdir() if path.is_dir()}

    first = folders_after_a_preparation()
    assert folders_after_a_preparation() == first
    monkeypatch.setitem(TOKENIZERS, "vowels", dataclasses.replace(VOWELS, version=2))
    assert folders_after_a_preparation() > first


def test_an_unknown_tokenizer_is_one_line_that_lists_the_known(fails: Callable[..., str]) -> None:
    line = fails(*TINY, "--data.tokenizer", "letters")
    assert "unknown tokenizer 'letters': expected one of words, basic_english, vowels" in line
