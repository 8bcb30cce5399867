"""What somebody adds: a source and a tokenizer, one registry entry each."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TINY, Output, make_reviews, results_of

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

    def parts(self) -> dict[str, Callable[[], Iterator[tuple[str | None, int]]]]:
        return {
            "train": lambda: iter(make_reviews(100)),
            "test": lambda: iter(make_reviews(15, seed=1)),
        }


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "novels", Novels)
    monkeypatch.setitem(TOKENIZERS, "vowels", VOWELS)


OWN = [*TINY, "--data.source", "novels", "--data.tokenizer", "vowels"]


def test_an_added_source_and_tokenizer_train_and_test(run: Callable[..., Output]) -> None:
    done = run(*OWN)
    assert done.status == 0, done
    results = results_of(Path("logs/imdb/version_0"))
    assert results["source"] == "novels"
    assert results["reviews"] == {"train": 180, "val": 20, "test": 30}
    encoder = lit_imdb.load().encoder
    assert encoder.tokens("A moving film!") == ["a", "o", "i", "i"]
    assert set("".join(encoder.vocabulary[2:])) <= set("aeiou")
    done = run("test", "--accelerator", "cpu")
    assert "novels" in done.out, done
    assert note_of("novels") == ("Reviews of novels.", "CC0")


def test_another_version_of_a_tokenizer_has_another_cache(
    run: Callable[..., Output], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders_after_a_run() -> set[Path]:
        assert run(*OWN, "--max_epochs", "1", "--data.cache_dir", "own").status == 0
        return {path for path in (tmp_path / "own").iterdir() if path.is_dir()}

    first = folders_after_a_run()
    assert folders_after_a_run() == first
    monkeypatch.setitem(TOKENIZERS, "vowels", dataclasses.replace(VOWELS, version=2))
    assert folders_after_a_run() > first


def test_an_unknown_tokenizer_is_one_line_that_lists_the_known(fails: Callable[..., str]) -> None:
    line = fails(*TINY, "--data.source", "novels", "--data.tokenizer", "letters")
    assert "unknown tokenizer 'letters': expected one of words, basic_english, vowels" in line
