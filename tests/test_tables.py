"""Tables and folders as people have them: the right reviews, or one line that says why not."""

import gzip
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, Run, make_reviews, run_script, write_acl_imdb, write_csv
from prepared import data_of, texts_of

from lit_imdb.data.tables import MAX_CHARACTERS, batches_of
from lit_imdb.errors import UserError

MEGABYTE = b"a" * 2**20
REVIEWS = [(f"{text} café, “naïve”", label) for text, label in make_reviews(20)]


def error_of(source: str, **form: str) -> str:
    """Return the one line that ends the preparation of `source`."""
    with pytest.raises(UserError) as caught:
        data_of(Path(source), **form)
    line = str(caught.value)
    assert len(line) < 1000
    assert "\n" not in line
    return line


def found_in(source: Path, **form: str) -> list[tuple[str, int]]:
    return sorted(review for split in texts_of(source, **form).values() for review in split)


# --- tables that are read ---


def table(
    separator: str = ",",
    end: str = "\n",
    names: str = "text,label",
    labels: tuple[str, str] = ("0", "1"),
) -> str:
    """`REVIEWS` as a table whose last column is empty."""
    rows = [f"{names},other".replace(",", separator)]
    rows += [f'"{text}"{separator}{labels[label]}{separator}' for text, label in REVIEWS]
    return end.join(rows)


JSONL = "\n".join(json.dumps({"text": text, "label": label}) for text, label in REVIEWS)
FILES: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "UTF-8 from Excel": ("a.csv", table(end="\r\n").encode("utf-8-sig"), {}),
    "Unicode text from Excel": ("a.tsv", table("\t").encode("utf-16"), {}),
    "compressed UTF-16": ("a.csv.gz", gzip.compress(f"\ufeff{table()}".encode("utf-16-be")), {}),
    "a mark and a flag": ("a.csv", table().encode("utf-8-sig"), {"encoding": "cp1252"}),
    "UTF-16 without a mark": ("a.csv", table().encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "cp1252": ("a.csv", table().encode("cp1252"), {"encoding": "cp1252"}),
    "tabs in .csv": ("a.csv", table("\t").encode(), {}),
    "semicolons": ("a.csv", table(";").encode(), {}),
    "bars, Excel for Mac": ("a.tsv", table("|", "\r").encode(), {}),
    "empty rows": ("a.csv", f"\n{table()}\n,,\n\n , ,\n,\n,,,".encode(), {}),
    "compressed with tabs": ("a.TSV.GZ", gzip.compress(table("\t").encode()), {}),
    "compressed JSON with a mark": ("a.jsonl.gz", gzip.compress(JSONL.encode("utf-8-sig")), {}),
    "labels in words": ("a.csv", table(labels=("NEG", " Positive ")).encode(), {}),
    "labels as decimals": ("a.csv", table(labels=("0.0", "1.0")).encode(), {}),
    "other names": (
        "IMDB Dataset.csv",
        table(names="review,sentiment").encode(),
        {"text_column": "review", "label_column": "sentiment"},
    ),
}


@pytest.mark.parametrize("form", FILES)
def test_a_table_as_people_have_it_is_read(form: str) -> None:
    name, content, flags = FILES[form]
    Path(name).write_bytes(content)
    assert found_in(Path(name), **flags) == sorted(REVIEWS)


def test_own_columns_count_in_fit_and_in_a_test_without_flags(run: Run) -> None:
    rows = [f'"{text} café",{("negative", "positive")[y]}' for text, y in make_reviews(50)]
    for name, encoding in (("IMDB Dataset.csv", "cp1252"), ("other.csv", "utf-8")):
        Path(name).write_text("\n".join(["review,sentiment", *rows]), encoding)
    own = ("--data.text_column", "review", "--data.label_column", "sentiment")
    own = (*TINY, "--max_epochs", "1", "--data.source", "IMDB Dataset.csv", *own)
    assert "--data.encoding (predict" in run(*own).err
    assert run(*own, "--data.encoding", "cp1252").status == 0
    test = ("test", "--accelerator", "cpu")
    # the encoding is that of this file: another would be read without an error, but wrong
    both = (run(*test, *other).out for other in ((), ("--data.source", "other.csv")))
    first, second = (re.findall("loss.*", out) for out in both)
    assert first == second != []
    written = {path.name for path in Path().iterdir()} - {"IMDB Dataset.csv", "other.csv"}
    assert written == {"cache", "logs"}


# --- tables that are not ---

TABLES = [
    ("csv", "review,label\nfine,1", "data row 1: expected a text in the column 'text', found {'l"),
    ("csv", "text,y\nfine,1", "or name their column with --data.label_column"),
    ("csv", "text~label\nfine~1", "found {'text~label': 'fine~1'}"),
    ("csv", "", "both labels are needed"),
    ("csv", "text,label\nfine,1\nbad,4", "data row 2: expected 0/1 or neg/pos in the column 'la"),
    ("csv", 'text,label\n"",1\n" ",0', "too few reviews labelled neg, 0"),
    ("csv", "text,label" + "\na,1\na,0" * 50, "texts equal"),
    ("csv", "text,label\nfine, but long,1", "line 2: 3 columns, expected 2 as in"),
    ("csv", 'text,label\n"a,1', "line 2: broken CSV, unexpected end"),
    ("csv", 'text,label\n"a \\"fine\\" film",1', "line 2: broken CSV, ',' expected after"),
    ("csv", "a," * 10**6 + "text,label\n1", "two columns have the same name: ['a', 'a', "),
    ("csv", "text,label\ncafé,1\n".encode("cp1252"), "line 1: not utf-8 ('utf-8' codec can't"),
    ("csv", "text,label\nfine,1".encode("utf-16-le"), "line 1: not utf-8 (zero bytes); mend the l"),
    ("csv", b"PK\x03\x04\x14\x00\x06\x00!\xb5U0#", "not utf-8"),
    ("csv.gz", b"text,label\nfine,1", "odd.csv.gz: Not a gzipped file"),
    ("csv.gz", gzip.compress(table().encode(), mtime=0)[:-9], "ended before the end"),
    ("docx", "text", "expected one of .csv, .tsv, .jsonl, .parquet"),
    ("parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "not a readable Parquet"),
    ("jsonl", '{"text": "a", "label": ' + "9" * 5000, "broken JSON"),
    ("jsonl", '{"text": "a", "label": ' + "[" * 900 + "]" * 900 + "}", "found {'label': [[["),
    ("jsonl", '{"text": 5, "label": 1}', "found {'label': 1, 'text': 5}"),
    ("jsonl", '[{"text": "a"}]', "line 1: broken JSON (a list): expected one object"),
    ("jsonl", b'{"' + MEGABYTE + b'": 1}', "expected a text in the column 'text'"),
]


@pytest.mark.parametrize(("ending", "content", "expected"), TABLES, ids=range(len(TABLES)))
def test_a_table_that_cannot_be_used_is_explained(
    ending: str, content: str | bytes, expected: str
) -> None:
    content = content if isinstance(content, bytes) else content.encode()
    Path(f"odd.{ending}").write_bytes(content)
    line = error_of(f"odd.{ending}")
    assert f"odd.{ending}" in line
    assert expected in line


# --- what is too large ---


def gigabyte(head: bytes, block: bytes) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.write_bytes(head + block * (32 * 2**20 // len(block)))
        os.truncate(path, 2**30)  # the rest is a hole: it reads as zeros and takes no space

    return write


def write_table(path: Path, texts: Any) -> None:
    table = pa.table({"text": texts, "label": ["pos"] * len(texts)})
    pq.write_table(table, path, compression="zstd")


def write_shared_cells(path: Path) -> None:
    """200 rows of the same 10 MB: 2 GB when written out."""
    places = pa.array([0] * 200, pa.int32())
    column = pa.DictionaryArray.from_arrays(places, pa.array(["a" * 10**7]))
    write_table(path, column)


BOMBS: dict[str, Callable[[Path], object]] = {
    "a cell of short lines.csv": gigabyte(b'text,label\n"', b"a" * 1023 + b"\n"),
    "a row of endless cells.csv": gigabyte(b"text\n", b'"' + b"a" * 999 + b'\n",'),
    "a line.txt": gigabyte(b"", MEGABYTE),
    "an endless list.jsonl": gigabyte(b'{"text": ', b"[" * 2**20),
    "compressed.jsonl.gz": lambda path: path.write_bytes(gzip.compress(MEGABYTE) * 1024),
    "a cell.parquet": lambda path: write_table(path, ["a" * (MAX_CHARACTERS + 1)]),
    "pos/99_1.txt": gigabyte(b"", MEGABYTE),
    "shared cells.parquet": write_shared_cells,
}
READ_ALL = """
from lit_imdb.data.source import open_source
for name in names:
    try:
        print(sum(1 for _ in open_source(name).reviews()), "rows")
    except Exception as error:
        print(repr(error))
print(*[line.strip() for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_row_of_a_gigabyte_is_refused_in_little_memory(tmp_path: Path) -> None:
    Path("pos").mkdir()
    for name, write in BOMBS.items():
        write(Path(name))
    done = run_script(f"names = {list(BOMBS)}\n{READ_ALL}", tmp_path)
    for name in BOMBS:
        Path(name).unlink()
    *refused, read, peak = done.out.splitlines()
    assert len(refused) == len(BOMBS) - 1
    assert all(re.match("UserError.*longer than 16,777,216", line) for line in refused), refused
    assert read == "200 rows"
    assert int(peak.split()[1]) < 600 * 1024, peak


def test_batches_hold_bounded_texts() -> None:
    texts = ["a" * (MAX_CHARACTERS // 4)] * 20
    assert [len(batch) for batch in batches_of(texts, 1024)] == [4] * 5
    assert [len(batch) for batch in batches_of("abcde", 2)] == [2, 2, 1]


# --- folders ---


@pytest.mark.parametrize("kept", ["train.csv", "train/pos/20_9.txt", "pos/20_9.txt"])
def test_files_that_systems_leave_behind_are_left_alone(kept: str) -> None:
    folder = Path("reviews")
    file = folder / kept
    if kept == "train.csv":
        folder.mkdir()
        write_csv(file, REVIEWS)
    else:
        write_acl_imdb(folder, REVIEWS, kept.removesuffix("pos/20_9.txt"))
    for name in (f"._{file.name}", f"~${file.name}", ".DS_Store", "Thumbs.db", "desktop.ini"):
        file.with_name(name).write_bytes(b"\x00\x05\x16\x07\xff")
    assert found_in(folder) == sorted(REVIEWS)


def test_the_acl_layout_in_another_encoding_says_which_flag() -> None:
    write_acl_imdb(Path("imdb"), make_reviews(20))
    Path("imdb/train/pos/99_9.txt").write_bytes(b"caf\xe9")
    line = error_of("imdb")
    assert "99_9.txt" in line
    assert "--data.encoding (predict: --encoding), for example cp1252" in line
    assert ("café", 1) in found_in(Path("imdb"), encoding="cp1252")
    assert "not x (unknown encoding: x)" in error_of("imdb", encoding="x")


@pytest.mark.parametrize(
    ("place", "plant", "said"),
    [
        ("train/neg/99_1.txt", lambda path: path.symlink_to("/etc/hostname"), "is not a file"),
        ("train/neg/99_1.txt", os.mkfifo, "is not a file"),
        ("train/neg/99_1.txt", Path.mkdir, "is not a file"),
        ("test", lambda path: path.symlink_to(Path("other/train").resolve()), "leads elsewhere"),
    ],
    ids=["link", "pipe", "folder", "linked folder"],
)
def test_what_is_no_file_of_the_folder_is_refused(
    place: str, plant: Callable[[Path], object], said: str
) -> None:
    for name in ("corpus", "other"):
        write_acl_imdb(Path(name), make_reviews(20))
    plant(Path("corpus", place))
    assert said in error_of("corpus")


@pytest.mark.parametrize("source", ["/dev/zero", "pipe.csv", "a" * 5000, "a\n\x1bb", "folder"])
def test_a_source_without_reviews_is_one_line_that_says_what_is_expected(source: str) -> None:
    os.mkfifo("pipe.csv")
    Path("folder").mkdir()
    assert ("expected train|test/pos|neg" in error_of(source)) == (source == "folder")
