"""Tables and folders that someone sends: the right reviews, or one line that says what is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, TINY, Output, Trained, make_reviews, write_acl_imdb, write_csv
from prepared import data_of

import lit_imdb
from lit_imdb.data.tables import MAX_CHARACTERS, batches_of, read_rows
from lit_imdb.errors import UserError

# ru_maxrss would not do: it starts from what this process held when it forked.
linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

Run = Callable[..., Output]
MEGABYTE = b"a" * 2**20


def error_of(source: str, **form: str) -> str:
    """Return the one line that ends the preparation of `source`."""
    with pytest.raises(UserError) as caught:
        data_of(Path(source), **form)
    line = str(caught.value)
    assert len(line) < 1000
    assert "\n" not in line
    return line


# --- tables ---

TABLES = [
    ("csv", "review,label\nfine,1", "data row 1: expected a text in the column 'text', found {'l"),
    ("csv", "review,label\nfine,1", "name the column with --data.text_column"),
    ("csv", "Text,Label\nfine,1", "found {'Label': '1', 'Text': 'fine'}"),
    ("csv", "text, label\nfine,1", "no column 'label', only {' label': '1', 'text': 'fine'}"),
    ("csv", "text;label\nfine;1", "found {'text;label': 'fine;1'}"),
    ("csv", "", "both labels are needed"),
    ("csv", "text,label\nfine,1\nbad,x", "data row 2: label 'x' is outside 0/1 (or neg/pos)"),
    ("csv", "text,label\nfine,1\nbad,4", "map stars to 0 and 1, and leave the middle out"),
    ("csv", "text,label\nfine,", "label '' is outside"),
    ("csv", 'text,label\n"",1\n" ",0', "no review is labelled neg"),
    ("csv", "text,label" + "".join(f"\nfilm {n},1" for n in range(50)), "labelled neg"),
    ("csv", "text,label\na,1\nb,0", "too few"),
    ("csv", "text,label" + "\na,1\na,0" * 50, "texts equal"),
    ("csv", "text,label\nfine, but long,1", "line 2: expected 2 columns"),
    ("csv", "text,label\nfine", "line 2: expected 2 columns"),
    ("csv", 'text,label\n"a,1', "line 2: broken CSV"),
    ("csv", "a," * 10**6 + "text,label\n1", "more than one column 'a'"),
    ("csv", "text,label\na," + "a" * 2**20, "is outside 0/1"),
    ("csv", b"text,label\n\xff\xfe,1\n", "not utf-8; name its encoding"),
    ("docx", "text", "expected one of .csv, .tsv, .jsonl, .parquet"),
    ("parquet", "", "not a readable Parquet"),
    ("parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "not a readable Parquet"),
    ("jsonl", '{"text": "a", "label": null}', "data row 1: label None"),
    ("jsonl", '{"text": "a", "label": ' + "9" * 5000, "broken JSON"),
    ("jsonl", '{"text": "a", "label": ' + "[" * 900 + "]" * 900 + "}", "label [[["),
    ("jsonl", '{"text": 5, "label": 1}', "found {'label': 1, 'text': 5}"),
    ("jsonl", '{"text": "cut', "line 1: broken JSON"),
    ("jsonl", '{"text":' + "[" * 100_000, "broken JSON"),
    ("jsonl", b'{"' + MEGABYTE + b'": 1}', "expected a text in the column 'text'"),
]


@pytest.mark.parametrize(("ending", "content", "expected"), TABLES)
def test_a_table_that_cannot_be_used_is_explained(
    ending: str, content: str | bytes, expected: str
) -> None:
    content = content if isinstance(content, bytes) else content.encode()
    Path(f"odd.{ending}").write_bytes(content)
    line = error_of(f"odd.{ending}")
    assert f"odd.{ending}" in line
    assert expected in line


def test_the_command_says_it_in_one_line(fails: Callable[..., str]) -> None:
    name = "sent\nerror: all is well.jsonl"
    Path(name).write_text('{"text": "fine", "label": "x"}')
    assert "label 'x' is outside 0/1 (or neg/pos)" in fails("--data.source", name, *TINY)


def test_odd_characters_train_test_and_predict(run: Run) -> None:
    odd = ["\ud800", "a\x00b", "\U0010ffff", "\u202e", "\x1b[2J", "\ufeff"]
    lines = [
        json.dumps({"text": f"{review} {odd[number % 6]} {number}", "label": label})
        for number, (review, label) in enumerate(make_reviews(60))
    ]
    Path("odd.jsonl").write_text("\n".join(lines))
    assert run(*TINY, "--data.source", "odd.jsonl").status == 0
    assert run("test", "--accelerator", "cpu", "--data.source", "odd.jsonl").status == 0
    answers = lit_imdb.load().predict([f"a {text}x1 film" for text in odd])
    assert all(answer.probability is not None for answer in answers)


# --- what is too large ---

LIMIT = 600 * 2**20


def in_little_memory(statement: str) -> str:
    """Return what `statement` raises, run in a process that stays below LIMIT."""
    code = f"""
from pathlib import Path
from lit_imdb.data.source import open_source
from lit_imdb.data.tables import read_rows
message = ""
try:
    {statement}
except Exception as error:
    message = repr(error)
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak[0].split()[1], message)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    peak, message = output.split(" ", 1)
    assert int(peak) * 1024 < LIMIT, f"{int(peak) // 1024} MB"
    return message.strip()


def gigabyte(path: Path, head: bytes, block: bytes) -> Path:
    path.write_bytes(head + block * (32 * 2**20 // len(block)))
    os.truncate(path, 2**30)  # the rest is a hole: it reads as zeros and takes no space
    return path


BOMBS = {
    "a cell of short lines": ("sent.csv", b'text,label\n"', b"a" * 1023 + b"\n"),
    "a row of endless cells": ("sent.csv", b"text,label\n", b'"' + b"a" * 999 + b'\n",'),
    "a line": ("sent.txt", b"", MEGABYTE),
    "an endless list": ("sent.jsonl", b'{"text": ', b"[" * 2**20),
}


@pytest.mark.parametrize("bomb", BOMBS)
@linux
def test_a_row_of_a_gigabyte_is_refused_in_little_memory(bomb: str, tmp_path: Path) -> None:
    name, head, block = BOMBS[bomb]
    path = gigabyte(tmp_path / name, head, block)
    message = in_little_memory(f"list(read_rows(Path({str(path)!r})))")
    path.unlink()
    assert message.startswith("UserError")
    assert "longer than 16,777,216" in message


@linux
def test_a_text_file_of_a_gigabyte_in_a_folder_is_refused(tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "corpus", make_reviews(5))
    huge = gigabyte(tmp_path / "corpus/train/neg/99_1.txt", b"", MEGABYTE)
    message = in_little_memory(f"list(open_source({str(tmp_path / 'corpus')!r}).reviews())")
    huge.unlink()
    assert "99_1.txt: longer than 16,777,216" in message


def test_a_huge_cell_of_a_parquet_file_is_refused() -> None:
    table = pa.table({"text": ["a" * (MAX_CHARACTERS + 1)], "label": [1]})
    pq.write_table(table, "sent.parquet", compression="zstd")
    assert "row 1: longer than 16,777,216" in error_of("sent.parquet")


@linux
def test_a_parquet_cell_that_many_rows_share_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A dictionary bomb: 1,000 rows of the same 10 MB, 10 GB when written out."""
    text = pa.array(["a" * 10**7])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), text)
    path = tmp_path / "sent.parquet"
    pq.write_table(pa.table({"text": column, "label": [1] * 1000}), path, compression="zstd")
    assert not in_little_memory(f"assert sum(1 for _ in read_rows(Path({str(path)!r}))) == 1000")


def test_batches_hold_bounded_texts() -> None:
    texts = ["a" * (MAX_CHARACTERS // 4)] * 20
    assert [len(batch) for batch in batches_of(texts, 1024)] == [4] * 5
    assert [len(batch) for batch in batches_of("abcde", 2)] == [2, 2, 1]


def test_ten_million_characters_are_read_right(trained: Trained, tmp_path: Path) -> None:
    long = "dull plot " * 10**6 + "lovely great moving film"
    classifier = lit_imdb.load(trained.run / "checkpoints/best.ckpt")
    assert classifier.predict(long) == classifier.predict(" ".join(long.split()[-8:]))
    corpus = write_csv(tmp_path / "long.csv", [*make_reviews(60), (long, 1)])
    assert list(read_rows(corpus))[-1]["text"] == long


# --- folders ---


def test_a_folder_without_reviews_says_what_is_expected() -> None:
    Path("nothing").mkdir()
    assert "expected train|test/pos|neg" in error_of("nothing")


def test_the_acl_layout_in_another_encoding_says_which_flag() -> None:
    write_acl_imdb(Path("imdb"), make_reviews(20))
    Path("imdb/train/pos/99_9.txt").write_bytes(b"caf\xe9")
    line = error_of("imdb")
    assert "99_9.txt" in line
    assert "--data.encoding cp1252" in line
    assert "unknown encoding: x" in error_of("imdb", encoding="x")


PLANTS: dict[str, Callable[[Path], Any]] = {
    "a link out of the folder": lambda path: path.symlink_to("/etc/hostname"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_file_of_the_folder_is_refused(plant: str) -> None:
    write_acl_imdb(Path("corpus"), make_reviews(20))
    PLANTS[plant](Path("corpus/train/neg/99_1.txt"))
    assert "99_1.txt is not a file" in error_of("corpus")


def test_a_label_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "corpus", make_reviews(20))
    write_acl_imdb(tmp_path / "other", make_reviews(20))
    (tmp_path / "corpus/test").symlink_to(tmp_path / "other/train")
    assert "leads elsewhere" in error_of("corpus")


@pytest.mark.parametrize("source", ["/dev/zero", "pipe.csv", "a" * 5000, "a\n\x1bb"])
def test_a_source_that_is_no_file_is_one_line(source: str) -> None:
    os.mkfifo("pipe.csv")
    error_of(source)


def test_nothing_is_written_outside_the_cache_and_the_run_folder(run: Run) -> None:
    write_acl_imdb(Path("corpus/.. a"), make_reviews(60))
    before = set(Path().rglob("*"))
    assert run(*TINY, "--data.source", "corpus/.. a").status == 0
    assert {path.parts[0] for path in set(Path().rglob("*")) - before} == {"cache", "logs"}
