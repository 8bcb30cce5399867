"""Files that someone sends: a clear error or a right answer, and nothing else happens."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, Output, Trained, error_line, make_reviews, write_acl_imdb, write_csv

import lit_imdb
from lit_imdb.data.source import open_corpus
from lit_imdb.data.tables import MAX_CHARACTERS, batches_of, read_rows

# ru_maxrss would not do: it starts from what this process held when it forked.
linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

Fails = Callable[..., str]
Change = Callable[[dict[str, Any]], None]


# --- data ---

# What importing the readers takes is near 300 MB of resident memory, most of it torch.
LIMIT = 600 * 2**20


def in_little_memory(statement: str, may_succeed: bool = False) -> str:
    """What `statement` raised, in a process of its own; asserts that memory stayed below LIMIT."""
    code = f"""
from pathlib import Path
from lit_imdb.data.tables import read_rows
from lit_imdb.data.source import open_corpus
from lit_imdb.errors import UserError
message = "no error"
try:
    {statement}
except UserError as error:
    message = str(error)
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak[0].split()[1], message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    peak, message = done.stdout.split(" ", 1)
    assert int(peak) * 1024 < LIMIT, f"{int(peak) // 1024} MB"
    assert may_succeed or not message.startswith("no error"), message
    return message


def gigabyte(path: Path, head: bytes, block: bytes) -> Path:
    with path.open("wb") as file:
        file.write(head)
        for _ in range(-(-32 * 2**20 // len(block))):
            file.write(block)
        file.truncate(2**30)  # the rest is a hole: it reads as zeros and takes no space
    return path


MEGABYTE = b"a" * 2**20
BOMBS: dict[str, tuple[str, bytes, bytes]] = {
    "a cell of 1 GB": ("sent.csv", b'text,label\n"', MEGABYTE),
    "a cell of 1 GB in short lines": ("sent.csv", b'text,label\n"', b"a" * 1023 + b"\n"),
    "a row of endless cells": ("sent.csv", b"text,label\n", b'"' + b"a" * 999 + b'\n",'),
    "a line of 1 GB": ("sent.txt", b"", MEGABYTE),
    "a string of 1 GB": ("sent.jsonl", b'{"text": "', MEGABYTE),
    "an endless list": ("sent.jsonl", b'{"text": ', b"[" * 2**20),
    "a line of 1 GB, tabs": ("sent.tsv", b"text\tlabel\n", MEGABYTE),
    "zeros": ("sent.csv", b"text,label\n", bytes(2**20)),
}


@pytest.mark.parametrize("bomb", BOMBS)
@linux
def test_a_huge_row_is_refused_in_little_memory(bomb: str, tmp_path: Path) -> None:
    name, head, block = BOMBS[bomb]
    path = gigabyte(tmp_path / name, head, block)
    try:
        message = in_little_memory(f"list(read_rows(Path({str(path)!r})))")
    finally:
        path.unlink()
    assert "longer than 16,777,216" in message


@linux
def test_a_huge_text_file_in_a_folder_is_refused(tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "corpus", make_reviews(5))
    huge = gigabyte(tmp_path / "corpus/train/neg/99_1.txt", b"", MEGABYTE)
    corpus = str(tmp_path / "corpus")
    message = in_little_memory(f"list(open_corpus({corpus!r}).parts['train']())")
    huge.unlink()
    assert "99_1.txt" in message


def parquet_writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path, pa.schema({"text": pa.string(), "label": pa.int64()}), compression="zstd"
    )


@linux
def test_a_parquet_file_with_a_huge_cell_is_refused(tmp_path: Path) -> None:
    with parquet_writer(tmp_path / "sent.parquet") as writer:
        writer.write(pa.table({"text": ["a" * (600 * 2**20)], "label": [1]}))
    assert (tmp_path / "sent.parquet").stat().st_size < 2**20
    message = in_little_memory(f"list(read_rows(Path({str(tmp_path / 'sent.parquet')!r})))")
    assert "its cells are too large" in message


@linux
def test_a_parquet_cell_that_many_rows_share_is_not_copied(tmp_path: Path) -> None:
    """A dictionary bomb: 10,000 rows of the same 10 MB, 100 GB when written out."""
    text = pa.array(["a" * 10**7])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), text)
    table = pa.table({"text": column, "label": [1] * 10_000})
    pq.write_table(table, tmp_path / "sent.parquet", compression="zstd")
    count = f"sum(1 for _ in read_rows(Path({str(tmp_path / 'sent.parquet')!r})))"
    in_little_memory(f"assert {count} == 10_000", may_succeed=True)


def test_batches_hold_bounded_texts() -> None:
    def texts() -> Iterator[str]:
        for _ in range(20):
            yield "a" * (MAX_CHARACTERS // 4)

    assert [len(batch) for batch in batches_of(texts(), 1024)] == [4] * 5
    assert [len(batch) for batch in batches_of(iter("abcde"), 2)] == [2, 2, 1]


def test_ten_million_characters_are_read_right(
    run: Callable[..., Output], trained: Trained, tmp_path: Path
) -> None:
    long = "dull plot " * 10**6 + "lovely great moving film"
    classifier = lit_imdb.load(trained.run / "checkpoints/best.ckpt")
    assert classifier.predict(long) == classifier.predict(" ".join(long.split()[-8:]))
    reviews = [*make_reviews(60), (long, 1)]
    corpus = write_csv(tmp_path / "long.csv", reviews)
    rows = list(read_rows(corpus))
    assert rows[-1]["text"] == long
    assert run(*TINY, "--data.source", corpus).status == 0


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\U0010ffff", "\u202e", "\x1b[2J", "\ufeff"])
def test_odd_characters_train_test_and_predict(
    text: str, run: Callable[..., Output], tmp_path: Path
) -> None:
    lines = [
        json.dumps({"text": f"{review} {text} {text}x{number}", "label": label})
        for number, (review, label) in enumerate(make_reviews(60))
    ]
    corpus = tmp_path / "odd.jsonl"
    corpus.write_text("\n".join(lines))
    assert run(*TINY, "--data.source", corpus).status == 0
    assert run("test", "--accelerator", "cpu", "--data.source", corpus).status == 0
    assert lit_imdb.load().predict(f"a {text}x1 film")[0].probability is not None


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "a zip": ("sent.parquet", b"PK\x03\x04" + bytes(100), "not a readable Parquet"),
    "no Parquet": ("sent.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "not a readable Parquet"),
    "an empty Parquet": ("sent.parquet", b"", "not a readable Parquet"),
    "bytes": ("sent.csv", b"text,label\n\xff\xfe,1\n", "line 2: not utf-8"),
    "too many columns": ("sent.csv", b"a," * 10**6 + b"text,label\n1\n", "1,000,002 columns"),
    "a column twice": ("sent.csv", b"text,label,text\na,1,b\n", "more than one column 'text'"),
    "an open quote": ("sent.csv", b'text,label\n"a,1\n', "broken CSV"),
    "nested deep": ("sent.jsonl", b'{"text":' + b"[" * 100_000, "broken JSON"),
    "nested as a label": (
        "sent.jsonl",
        b'{"text": "a", "label": ' + b"[" * 900 + b"]" * 900 + b"}",
        "label of type list",
    ),
    "a label that is NaN": ("sent.jsonl", b'{"text": "a", "label": NaN}', "label nan"),
    "a label of many digits": ("sent.jsonl", b'{"text": "a", "label": ' + b"9" * 5000, "broken"),
    "a text of a megabyte of numbers": (
        "sent.jsonl",
        b'{"label": 1, "text": [1' + b",1" * 2**19 + b"]}",
        "text of type list",
    ),
    "a label of a megabyte": ("sent.csv", b"text,label\na," + MEGABYTE, "is outside 0/1"),
    "no such column": ("sent.jsonl", b'{"' + MEGABYTE + b'": 1}', "no column 'text'"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_is_one_short_line(broken: str, fails: Fails, tmp_path: Path) -> None:
    name, content, message = BROKEN[broken]
    (tmp_path / name).write_bytes(content)
    line = fails(*TINY, "--data.source", tmp_path / name)
    assert message in line
    assert len(line) < 1000


def test_of_json_keys_that_repeat_the_last_counts(tmp_path: Path) -> None:
    (tmp_path / "sent.jsonl").write_text('{"text": "a", "label": 0, "label": 1}')
    corpus = open_corpus(str(tmp_path / "sent.jsonl"))
    assert list(corpus.parts["train"]()) == [("a", 1)]


def test_cells_with_separators_come_back_whole(tmp_path: Path) -> None:
    texts = ['a,"b"\r\nc', "\x00", "", "\t"]
    with (tmp_path / "sent.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    assert [row["text"] for row in read_rows(tmp_path / "sent.csv")] == texts


# --- folders ---


def plant_link_out(folder: Path) -> None:
    folder.parents[2].joinpath("secret.txt").write_text("a secret")
    (folder / "99_1.txt").symlink_to("../../../secret.txt")


def plant_link_by_dots(folder: Path) -> None:
    (folder / "99_1.txt").symlink_to(folder / "../../../../../../etc/passwd")


PLANTS: dict[str, Callable[[Path], Any]] = {
    "a link out of the folder": plant_link_out,
    "a link with dots": plant_link_by_dots,
    "a link to itself": lambda folder: (folder / "99_1.txt").symlink_to("99_1.txt"),
    "a link to nothing": lambda folder: (folder / "99_1.txt").symlink_to("nowhere"),
    "a pipe": lambda folder: os.mkfifo(folder / "99_1.txt"),
    "a folder": lambda folder: (folder / "99_1.txt").mkdir(),
    "a device": lambda folder: (folder / "99_1.txt").symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_file_of_the_folder_is_refused(plant: str, fails: Fails, tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "corpus", make_reviews(20))
    PLANTS[plant](tmp_path / "corpus/train/neg")
    line = fails(*TINY, "--data.source", tmp_path / "corpus")
    assert "99_1.txt" in line
    assert "secret" not in line


def test_a_label_folder_that_leads_away_is_refused(fails: Fails, tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "corpus", make_reviews(20))
    write_acl_imdb(tmp_path / "other", make_reviews(20))
    (tmp_path / "corpus/test").mkdir()
    (tmp_path / "corpus/test/neg").symlink_to(tmp_path / "other/train/neg")
    assert "leads out of" in fails(*TINY, "--data.source", tmp_path / "corpus")


def test_a_link_within_the_folder_is_read(tmp_path: Path) -> None:
    corpus = write_acl_imdb(tmp_path / "corpus", make_reviews(2))
    (corpus / "train/neg/99_1.txt").symlink_to("0_1.txt")
    (tmp_path / "link").symlink_to(corpus)
    assert len(list(open_corpus(str(tmp_path / "link")).parts["train"]())) == 5


@pytest.mark.parametrize("source", ["/dev/zero", "pipe.csv", "loop", "a" * 5000, "a\n\x1bb"])
def test_a_source_that_is_no_file_is_one_line(source: str, fails: Fails) -> None:
    os.mkfifo("pipe.csv")
    Path("loop").symlink_to("loop")
    assert len(fails(*TINY, "--data.source", source)) < 1000


def test_nothing_is_written_outside_the_cache_and_the_run_folder(
    run: Callable[..., Output], tmp_path: Path
) -> None:
    write_acl_imdb(tmp_path / "corpus/.. a", make_reviews(60))
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert run(*TINY, "--data.source", tmp_path / "corpus/.. a").status == 0
    after = set(tmp_path.rglob("*")) - before
    new = {path.relative_to(tmp_path).parts[0] for path in after}
    assert new == {"cache", "logs"}


def test_an_error_line_stays_one_line(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "sent\nerror: all is well.jsonl").write_text("{")
    error_line(Output(2, "", fails(*TINY, "--data.source", "sent\nerror: all is well.jsonl")))
