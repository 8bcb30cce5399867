"""Random and mutated input: a right answer or a `UserError`, nothing else.

`pytest -m slow` has 2,600 cases, always the same; `pytest -m fuzz` ten times as many, new ones each
time.
"""

import contextlib
import csv
import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from conftest import Trained
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_imdb.data.source import open_source
from lit_imdb.data.tables import READERS, read_rows
from lit_imdb.data.text import BASIC_ENGLISH, TOKENIZERS, WORDS
from lit_imdb.errors import UserError
from lit_imdb.training.checkpoint import read_checkpoint

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

# Any character, lone surrogates included, and pieces that the filter knows.
PIECES = st.sampled_from(["<br />", "Film", "isn't", *"\"'?;. \n\x00\ud800\u0130ß\x1f\u2028"])
TEXTS = st.text(st.characters(exclude_categories=())) | st.lists(PIECES).map("".join)
FILTER = set('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n')  # Keras's
Many = Callable[..., Callable[[Callable[..., None]], None]]


@pytest.fixture
def many(request: pytest.FixtureRequest) -> Many:
    """`many(n, strategy, ...)` runs the function below it on n cases, ten times n with -m fuzz."""
    longer = request.config.getoption("markexpr") == "fuzz"

    def decorate(cases: int, *strategies: Any) -> Callable[[Callable[..., None]], None]:
        profile = settings(
            max_examples=cases * (10 if longer else 1),
            derandomize=not longer,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        return lambda check: profile(given(*strategies)(check))()

    return decorate


# --- texts ---


def test_tokens_are_what_the_exported_rules_and_torchtext_say(many: Many) -> None:
    from torchtext.data.utils import get_tokenizer

    basic_english = get_tokenizer("basic_english")

    @many(800, TEXTS, st.integers(1, 12))
    def check(text: str, count: int) -> None:
        for tokenizer in TOKENIZERS.values():
            by_rules = text.lower()
            for pattern, replacement in tokenizer.rules:
                by_rules = re.sub(pattern, replacement, by_rules)
            assert tokenizer.split(text) == by_rules.split()
            assert tokenizer.split(text, count) == by_rules.split()[-count:]
        assert BASIC_ENGLISH.split(text) == basic_english(text)
        assert not any(set(word) & FILTER for word in WORDS.split(text))


# --- files ---

PARTS = [
    *(b"text,label\n", b"text\tlabel\n", b"text;label\n", b'{"text": "a", "label": 1}\n'),
    *(b"a,1\n", b"a\t0\n", b"a;1\n", b"pos,", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b'"', b"\r", b"\n", b"\x00", b"\xff", b"{", b"[", b"\\ud800", b"PAR1"),
]
LINES = st.lists(st.sampled_from(PARTS)).map(b"".join)
ENCODINGS = ["utf-16", "cp1252", "utf-7", "idna", "hex", "undefined", "cp037", ""]


def test_any_bytes_in_any_encoding_are_reviews_or_an_error(many: Many, tmp_path: Path) -> None:
    encodings = st.just("utf-8") | st.sampled_from(ENCODINGS) | st.text(max_size=8)

    @many(800, st.sampled_from(sorted(READERS)), st.binary() | LINES, encodings, st.booleans())
    def check(ending: str, content: bytes, encoding: str, compress: bool) -> None:
        path = tmp_path / f"sent{ending}{'.gz' * compress}"
        path.write_bytes(gzip.compress(content) if compress else content)
        with contextlib.suppress(UserError):
            assert all(isinstance(row, dict) for row in read_rows(path, encoding))
        with contextlib.suppress(UserError):
            reviews = open_source(str(path), encoding=encoding).reviews()
            assert all(label in (0, 1) for _, label, _ in reviews)


def mutations_of(content: bytes) -> st.SearchStrategy[bytes]:
    """A few bytes changed and perhaps the end cut off."""

    def mutated(changes: list[tuple[int, int]], kept: float) -> bytes:
        changed = bytearray(content)
        for place, value in changes:
            changed[place] = value
        return bytes(changed[: round(len(content) * kept)])

    change = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    kept = st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.5])
    return st.builds(mutated, st.lists(change, min_size=1, max_size=8), kept)


@pytest.mark.parametrize(("ending", "write"), [("csv.gz", "to_csv"), ("parquet", "to_parquet")])
def test_a_mutated_binary_file_is_rows_or_an_error(ending: str, write: str, many: Many) -> None:
    path = Path(f"sent.{ending}")
    getattr(pandas.DataFrame({"text": ["a", "b", None], "label": [0, 1, 1]}), write)(path)

    @many(200, mutations_of(path.read_bytes()))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            list(read_rows(path))


def test_what_the_csv_and_json_writers_write_comes_back(many: Many) -> None:
    cells = st.text(st.characters(exclude_categories=["Cs"]))

    @many(300, st.lists(st.tuples(cells, st.sampled_from(["0", "1"])), min_size=1))
    def check(rows: list[tuple[str, str]]) -> None:
        frame = pandas.DataFrame(rows, columns=["text", "label"])
        frame.to_csv("written.csv", index=False, quoting=csv.QUOTE_ALL)
        frame.to_csv("written.tsv", sep="\t", index=False, quoting=csv.QUOTE_ALL)
        frame.to_json("written.jsonl", orient="records", lines=True)
        for ending in ("csv", "tsv", "jsonl"):
            assert list(read_rows(Path(f"written.{ending}"))) == frame.to_dict("records")


def test_a_mutated_checkpoint_is_refused_or_sound(
    many: Many, trained: Trained, tmp_path: Path
) -> None:
    good = (trained.run / "checkpoints/last.ckpt").read_bytes()
    shapes = {n: w.shape for n, w in torch.load(io.BytesIO(good))["state_dict"].items()}

    @many(300, mutations_of(good))
    def check(content: bytes) -> None:
        path = tmp_path / "sent.ckpt"
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            weights = read_checkpoint(path)["state_dict"]
            assert {name: weight.shape for name, weight in weights.items()} == shapes
            assert all(torch.isfinite(weight).all() for weight in weights.values())
