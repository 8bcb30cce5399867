"""Tables and folders that someone sends: the right reviews, or one line that says what is wrong."""

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
from prepared import data_of

import lit_imdb
from lit_imdb.data.source import open_source
from lit_imdb.data.tables import MAX_CHARACTERS, batches_of, read_rows
from lit_imdb.errors import UserError

# ru_maxrss would not do: it starts from what this process held when it forked.
linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

Fails = Callable[..., str]
MEGABYTE = b"a" * 2**20


def error_of(source: Path | str, **form: str) -> str:
    """Return the one line that ends the preparation of `source`."""
    with pytest.raises(UserError) as caught:
        data_of(Path(source), **form)
    line = str(caught.value)
    assert len(line) < 1000
    assert "\n" not in line
    return line


# --- tables ---

TABLES: dict[str, tuple[str, str]] = {
    "no text column": ("review,label\nfine,1", "no column 'text'"),
    "no label column": ("text,stars\nfine,1", "no column 'label'"),
    "capitals": ("Text,Label\nfine,1", "only 'Text', 'Label'; expected 'text' and 'label'"),
    "a space": ("text, label\nfine,1", "only 'text', ' label'"),
    "what to do": ("review,label\nfine,1", "rename them, or name the text's with --data.text_c"),
    "empty file": ("", "empty"),
    "header alone": ("text,label", "empty"),
    "label outside": ("text,label\nfine,1\nbad,x", "label 'x' is outside 0/1 (or neg/pos)"),
    "stars": ("text,label\nfine,1\nbad,2", "row 2 below the header: label '2' is outside 0/1"),
    "stars in halves": ("text,label\nfine,3.5", "map stars to 0 and 1, and leave the middle out"),
    "label empty": ("text,label\nfine,", "the label is empty"),
    "all empty": ('text,label\n"",1\n" ",0', "all 2 texts are empty"),
    "one class": ("text,label" + "".join(f"\nfilm {n},1" for n in range(50)), "labelled neg"),
    "too few": ("text,label\na,1\nb,0", "too few"),
    "too many cells": ("text,label\nfine, but long,1", "line 2: expected 2 columns"),
    "an open quote": ('text,label\n"a,1', "line 2: broken CSV"),
    "semicolons": ("text;label\nfine;1", "separated by semicolons: save it with commas"),
    "semicolons and commas": ("text;label\nfine, but long;1", "separated by semicolons"),
    "quoted semicolons": ('"text";"label"\n"fine";"1"', "separated by semicolons"),
    "tabs": ("text\tlabel\nfine\t1", "separated by tabs: name it .tsv"),
    "a column twice": ("text,label,text\na,1,b", "more than one column 'text'"),
    "a million columns": ("a," * 10**6 + "text,label\n1", "more than one column 'a'"),
    "a label of a megabyte": ("text,label\na," + "a" * 2**20, "is outside 0/1"),
    "all the same": ("text,label" + "\na,1\na,0" * 50, "texts equal"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_cannot_be_used_is_explained(case: str) -> None:
    content, expected = TABLES[case]
    Path("odd.csv").write_text(content)
    line = error_of("odd.csv")
    assert line.startswith("odd.csv") or "/odd.csv" in line
    assert expected in line


OTHERS: dict[str, tuple[str, bytes, str]] = {
    "another encoding": ("odd.csv", b"text,label\n\xff\xfe,1\n", "odd.csv, line 2: not utf-8"),
    "another program's": ("odd.docx", b"text", "expected one of .csv, .tsv, .jsonl, .parquet"),
    "a zip": ("odd.parquet", b"PK\x03\x04" + bytes(100), "not a readable Parquet"),
    "no Parquet": ("odd.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "not a readable Parquet"),
    "an empty Parquet": ("odd.parquet", b"", "not a readable Parquet"),
    "a label that is null": ("odd.jsonl", b'{"text": "a", "label": null}', "row 1: the label is"),
    "a label that is NaN": ("odd.jsonl", b'{"text": "a", "label": NaN}', "label nan"),
    "a label of digits": ("odd.jsonl", b'{"text": "a", "label": ' + b"9" * 5000, "broken JSON"),
    "a label deep down": (
        "odd.jsonl",
        b'{"text": "a", "label": ' + b"[" * 900 + b"]" * 900 + b"}",
        "label [[[",
    ),
    "a number as text": ("odd.jsonl", b'{"text": 5, "label": 1}', "text 5 is not a string"),
    "a megabyte of numbers": (
        "odd.jsonl",
        b'{"label": 1, "text": [1' + b",1" * 2**19 + b"]}",
        "text [1, 1, 1, 1, 1, 1, ...] is not a string",
    ),
    "texts that are null": (
        "odd.jsonl",
        b'{"text": null, "label": 1}\n{"text": null, "label": 0}',
        "all 2 texts are empty",
    ),
    "cut off": ("odd.jsonl", b'{"text": "cut', "line 1: broken JSON"),
    "nested deep": ("odd.jsonl", b'{"text":' + b"[" * 100_000, "broken JSON"),
    "no such column": ("odd.jsonl", b'{"' + MEGABYTE + b'": 1}', "no column 'text'"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_file_that_is_broken_or_not_what_its_name_says_is_explained(case: str) -> None:
    name, content, expected = OTHERS[case]
    Path(name).write_bytes(content)
    assert expected in error_of(name)


def test_the_command_says_it_in_one_line(fails: Fails) -> None:
    Path("odd.csv").write_text("text,label\nfine,x\n")
    assert "label 'x' is outside 0/1 (or neg/pos)\n" in fails("--data.source", "odd.csv", *TINY)


def test_an_error_line_stays_one_line(fails: Fails) -> None:
    name = "sent\nerror: all is well.jsonl"
    Path(name).write_text("{")
    error_line(Output(2, "", fails(*TINY, "--data.source", name)))


def test_cells_with_separators_come_back_whole() -> None:
    texts = ['a,"b"\r\nc', "\x00", "", "\t", "NA", "null"]
    with Path("sent.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    assert [row["text"] for row in read_rows(Path("sent.csv"))] == texts


def test_of_json_keys_that_repeat_the_last_counts() -> None:
    Path("sent.jsonl").write_text('{"text": "a", "label": 0, "label": 1}')
    assert list(open_source("sent.jsonl").parts()["train"]()) == [("a", 1)]


def test_odd_characters_train_test_and_predict(run: Callable[..., Output]) -> None:
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


def in_little_memory(statement: str, may_succeed: bool = False) -> str:
    """Return the message of the `UserError` that `statement` raises with less memory than LIMIT."""
    code = f"""
from pathlib import Path
from lit_imdb.data.source import open_source
from lit_imdb.data.tables import read_rows
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


BOMBS: dict[str, tuple[str, bytes, bytes]] = {
    "a cell of 1 GB": ("sent.csv", b'text,label\n"', MEGABYTE),
    "a cell of 1 GB in short lines": ("sent.csv", b'text,label\n"', b"a" * 1023 + b"\n"),
    "a row of endless cells": ("sent.csv", b"text,label\n", b'"' + b"a" * 999 + b'\n",'),
    "a line of 1 GB": ("sent.txt", b"", MEGABYTE),
    "a string of 1 GB": ("sent.jsonl", b'{"text": "', MEGABYTE),
    "an endless list": ("sent.jsonl", b'{"text": ', b"[" * 2**20),
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
    message = in_little_memory(f"list(open_source({corpus!r}).parts()['train']())")
    huge.unlink()
    assert "99_1.txt" in message


def test_a_huge_cell_of_a_parquet_file_is_refused() -> None:
    table = pa.table({"text": ["a" * (MAX_CHARACTERS + 1)], "label": [1]})
    pq.write_table(table, "sent.parquet", compression="zstd")
    assert Path("sent.parquet").stat().st_size < 2**20
    assert "row 1: longer than 16,777,216" in error_of("sent.parquet")


@linux
def test_a_parquet_cell_that_many_rows_share_does_not_fill_the_memory(tmp_path: Path) -> None:
    """A dictionary bomb: 1,000 rows of the same 10 MB, 10 GB when written out."""
    text = pa.array(["a" * 10**7])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), text)
    table = pa.table({"text": column, "label": [1] * 1000})
    pq.write_table(table, tmp_path / "sent.parquet", compression="zstd")
    count = f"sum(1 for _ in read_rows(Path({str(tmp_path / 'sent.parquet')!r})))"
    in_little_memory(f"assert {count} == 1000", may_succeed=True)


def test_batches_hold_bounded_texts() -> None:
    def texts() -> Iterator[str]:
        for _ in range(20):
            yield "a" * (MAX_CHARACTERS // 4)

    assert [len(batch) for batch in batches_of(texts(), 1024)] == [4] * 5
    assert [len(batch) for batch in batches_of(iter("abcde"), 2)] == [2, 2, 1]


def test_ten_million_characters_are_read_right(trained: Trained, tmp_path: Path) -> None:
    long = "dull plot " * 10**6 + "lovely great moving film"
    classifier = lit_imdb.load(trained.run / "checkpoints/best.ckpt")
    assert classifier.predict(long) == classifier.predict(" ".join(long.split()[-8:]))
    corpus = write_csv(tmp_path / "long.csv", [*make_reviews(60), (long, 1)])
    assert list(read_rows(corpus))[-1]["text"] == long
    assert len(data_of(corpus).splits["test"]) == 24


# --- folders ---


def test_a_folder_without_reviews_says_what_is_expected() -> None:
    Path("nothing").mkdir()
    assert "expected train|test/pos|neg" in error_of("nothing")


def test_the_acl_layout_in_another_encoding_says_which_flag(tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "imdb", make_reviews(20))
    (tmp_path / "imdb/train/pos/99_9.txt").write_bytes(b"caf\xe9")
    line = error_of("imdb")
    assert "99_9.txt" in line
    assert "--data.encoding cp1252" in line
    assert "unknown encoding: x" in error_of("imdb", encoding="x")


def test_one_class_in_the_acl_layout_is_named(tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "imdb", [r for r in make_reviews(30) if r[1] == 1])
    assert "neg" in error_of("imdb")


def plant_link_out(folder: Path) -> None:
    folder.parents[2].joinpath("secret.txt").write_text("a secret")
    (folder / "99_1.txt").symlink_to("../../../secret.txt")


PLANTS: dict[str, Callable[[Path], Any]] = {
    "a link out of the folder": plant_link_out,
    "a link with dots": lambda folder: (folder / "99_1.txt").symlink_to(
        folder / "../../../../../../etc/passwd"
    ),
    "a link to itself": lambda folder: (folder / "99_1.txt").symlink_to("99_1.txt"),
    "a link to nothing": lambda folder: (folder / "99_1.txt").symlink_to("nowhere"),
    "a pipe": lambda folder: os.mkfifo(folder / "99_1.txt"),
    "a folder": lambda folder: (folder / "99_1.txt").mkdir(),
    "a device": lambda folder: (folder / "99_1.txt").symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_file_of_the_folder_is_refused(plant: str, tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "corpus", make_reviews(20))
    PLANTS[plant](tmp_path / "corpus/train/neg")
    line = error_of("corpus")
    assert "99_1.txt" in line
    assert "secret" not in line


def test_a_label_folder_that_leads_away_is_refused(tmp_path: Path) -> None:
    write_acl_imdb(tmp_path / "corpus", make_reviews(20))
    write_acl_imdb(tmp_path / "other", make_reviews(20))
    (tmp_path / "corpus/test").mkdir()
    (tmp_path / "corpus/test/neg").symlink_to(tmp_path / "other/train/neg")
    assert "leads out of" in error_of("corpus")


def test_a_link_within_the_folder_is_read(tmp_path: Path) -> None:
    corpus = write_acl_imdb(tmp_path / "corpus", make_reviews(2))
    (corpus / "train/neg/99_1.txt").symlink_to("0_1.txt")
    (tmp_path / "link").symlink_to(corpus)
    assert len(list(open_source("link").parts()["train"]())) == 5


@pytest.mark.parametrize("source", ["/dev/zero", "pipe.csv", "loop", "a" * 5000, "a\n\x1bb"])
def test_a_source_that_is_no_file_is_one_line(source: str) -> None:
    os.mkfifo("pipe.csv")
    Path("loop").symlink_to("loop")
    error_of(source)


def test_nothing_is_written_outside_the_cache_and_the_run_folder(
    run: Callable[..., Output], tmp_path: Path
) -> None:
    write_acl_imdb(tmp_path / "corpus/.. a", make_reviews(60))
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert run(*TINY, "--data.source", tmp_path / "corpus/.. a").status == 0
    after = set(tmp_path.rglob("*")) - before
    new = {path.relative_to(tmp_path).parts[0] for path in after}
    assert new == {"cache", "logs"}
