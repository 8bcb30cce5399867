"""Random and mutated input: a right answer or a `UserError`, nothing else.

`pytest -m slow` has 2,600 cases, always the same; `pytest -m fuzz` ten times as many, new ones each
time.
"""

import contextlib
import csv
import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchtext.data.utils import get_tokenizer

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
    always: dict[str, Any] = {"database": None, "deadline": None, "derandomize": not longer}
    always["suppress_health_check"] = list(HealthCheck)

    def decorate(cases: int, *strategies: Any) -> Callable[[Callable[..., None]], None]:
        profile = settings(max_examples=cases * (10 if longer else 1), **always)
        return lambda check: profile(given(*strategies)(check))()

    return decorate


def test_tokens_are_what_the_exported_rules_and_torchtext_say(many: Many) -> None:
    @many(800, TEXTS, st.integers(1, 12))
    def check(text: str, count: int) -> None:
        for tokenizer in TOKENIZERS.values():
            by_rules = text.lower()
            for pattern, replacement in tokenizer.rules:
                by_rules = re.sub(pattern, replacement, by_rules)
            assert tokenizer.split(text) == by_rules.split()
            assert tokenizer.split(text, count) == by_rules.split()[-count:]
        assert BASIC_ENGLISH.split(text) == get_tokenizer("basic_english")(text)
        assert not any(set(word) & FILTER for word in WORDS.split(text))


PARTS = [
    *(b"text,label\n", b"text\tlabel\n", b"text;label\n", b'{"text": "a", "label": 1}\n'),
    *(b"a,1\n", b"a\t0\n", b"a;1\n", b"pos,", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b'"', b"\r", b"\n", b"\x00", b"\xff", b"{", b"[", b"\\ud800", b"PAR1"),
]
CONTENTS = st.binary() | st.lists(st.sampled_from(PARTS)).map(b"".join)
ENCODINGS = ["utf-16", "cp1252", "utf-7", "idna", "hex", "undefined", "cp037", ""]
ANY_ENCODING = st.just("utf-8") | st.sampled_from(ENCODINGS) | st.text(max_size=8)
ANY_FILE = st.tuples(st.sampled_from(sorted(READERS)), CONTENTS)
ANY_FILE |= ANY_FILE.map(lambda file: (f"{file[0]}.gz", gzip.compress(file[1])))


def mutations_of(content: bytes) -> st.SearchStrategy[bytes]:
    """A few bytes changed and perhaps the end cut off."""

    def mutate(changes: dict[int, int], kept: float) -> bytes:
        changed = (changes.get(place, byte) for place, byte in enumerate(content))
        return bytes(changed)[: round(len(content) * kept)]

    places, values = st.integers(0, len(content) - 1), st.integers(0, 255)
    changes = st.dictionaries(places, values, min_size=1, max_size=8)
    return st.builds(mutate, changes, st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.5]))


def test_any_and_mutated_bytes_in_any_encoding_are_reviews_or_an_error(many: Many) -> None:
    frame = pandas.DataFrame({"text": ["a", "b", None], "label": [0, 1, 1]})
    good = {".csv.gz": gzip.compress(frame.to_csv().encode()), ".parquet": frame.to_parquet()}
    mutated = [st.tuples(st.just(end), mutations_of(good[end])) for end in good]

    @many(1200, st.one_of(ANY_FILE, ANY_FILE, *mutated), ANY_ENCODING)
    def check(file: tuple[str, bytes], encoding: str) -> None:
        ending, content = file
        path = Path(f"sent{ending}")
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            assert all(isinstance(row, dict) for row in read_rows(path, encoding))
        with contextlib.suppress(UserError):
            reviews = open_source(str(path), encoding=encoding).reviews()
            assert all(label in (0, 1) for _, label, _ in reviews)


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


def test_a_mutated_checkpoint_is_refused_or_sound(many: Many, best: Path) -> None:
    shapes = {name: weight.shape for name, weight in torch.load(best)["state_dict"].items()}

    @many(300, mutations_of(best.read_bytes()))
    def check(content: bytes) -> None:
        Path("sent.ckpt").write_bytes(content)
        with contextlib.suppress(UserError):
            weights = read_checkpoint(Path("sent.ckpt"))["state_dict"]
            assert {name: weight.shape for name, weight in weights.items()} == shapes
            assert all(torch.isfinite(weight).all() for weight in weights.values())
