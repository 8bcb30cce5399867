"""Tables and folders as people have them: the right reviews, or one line that says why not."""

import gzip
import json
import os
import re
import shutil
import sys
from functools import partial
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
    with pytest.raises(UserError, match=r"\A.{1,1000}\Z") as caught:
        data_of(Path(source), **form)
    return str(caught.value)


def found_in(source: Path, **form: str) -> list[tuple[str, int]]:
    return sorted(review for split in texts_of(source, **form).values() for review in split)


def table(mark: str = ",", end: str = "\n", labels: tuple[str, str] = ("0", "1")) -> str:
    """`REVIEWS` as a table whose last column is empty."""
    rows = [f'"{text}"{mark}{labels[label]}{mark}' for text, label in REVIEWS]
    return end.join([f"text{mark}label{mark}other", *rows])


JSONL = "\n".join(json.dumps({"text": text, "label": label}) for text, label in REVIEWS)
FILES: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "UTF-8 from Excel": ("a.csv", table(end="\r\n").encode("utf-8-sig"), {}),
    "Unicode text from Excel": ("a.tsv", table("\t").encode("utf-16"), {}),
    "compressed UTF-16": ("a.csv.gz", gzip.compress(f"\ufeff{table()}".encode("utf-16-be")), {}),
    "a mark and a flag": ("a.csv", table().encode("utf-8-sig"), {"encoding": "cp1252"}),
    "UTF-16 without a mark": ("a.csv", table().encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "tabs in .csv": ("a.csv", table("\t").encode(), {}),
    "semicolons": ("a.csv", table(";").encode(), {}),
    "bars, Excel for Mac": ("a.tsv", table("|", "\r").encode(), {}),
    "empty rows": ("a.csv", f"\n{table()}\n,,\n\n , ,\n,\n,,,".encode(), {}),
    "compressed with tabs": ("a.TSV.GZ", gzip.compress(table("\t").encode()), {}),
    "compressed JSON with a mark": ("a.jsonl.gz", gzip.compress(JSONL.encode("utf-8-sig")), {}),
    "labels in words": ("a.csv", table(labels=("NEG", " Positive ")).encode(), {}),
    "labels as decimals": ("a.csv", table(labels=("0.0", "1.0")).encode(), {}),
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
    own = (*own, "--data.source", "IMDB Dataset.csv", "--data.encoding", "cp1252")
    assert run(*TINY, "--max_epochs", "1", *own).status == 0
    # the encoding is that of this file: another would be read without an error, but wrong
    test = ("test", "--accelerator", "cpu")
    both = [run(*test, *other).out for other in ((), ("--data.source", "other.csv"))]
    first, second = (re.findall("loss.*", out) for out in both)
    assert first == second != []
    written = {path.name for path in Path().iterdir()} - {"IMDB Dataset.csv", "other.csv"}
    assert written == {"cache", "logs"}


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


@pytest.mark.parametrize(("ending", "content", "said"), TABLES, ids=range(len(TABLES)))
def test_a_table_that_cannot_be_used_is_explained(ending: str, content: Any, said: str) -> None:
    Path(f"odd.{ending}").write_bytes(content.encode() if isinstance(content, str) else content)
    line = error_of(f"odd.{ending}")
    assert f"odd.{ending}" in line
    assert said in line


LONG_ROWS = {
    "a cell of short lines.csv": (b'text,label\n"', b"a" * 1023 + b"\n"),
    "a row of endless cells.csv": (b"text\n", b'"' + b"a" * 999 + b'\n",'),
    "a line.txt": (b"", MEGABYTE),
    "an endless list.jsonl": (b'{"text": ', b"[" * 2**20),
    "pos/99_1.txt": (b"", MEGABYTE),
}
READ_ALL = """
from pathlib import Path
from lit_imdb.data.source import open_source
for path in filter(Path.is_file, Path("bombs").rglob("*")):
    try:
        print("read:", path.name, sum(1 for _ in open_source(str(path)).reviews()))
    except Exception as error:
        print(repr(error))
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_row_of_a_gigabyte_is_refused_in_little_memory(tmp_path: Path) -> None:
    folder = tmp_path / "bombs"
    (folder / "pos").mkdir(parents=True)
    for name, (head, block) in LONG_ROWS.items():
        with (folder / name).open("wb") as file:
            file.write(head + block * (32 * 2**20 // len(block)))
            file.truncate(2**30)  # the rest is a hole: it reads as zeros and takes no space
    (folder / "compressed.jsonl.gz").write_bytes(gzip.compress(MEGABYTE) * 1024)
    # 200 rows of the same 10 MB: 2 GB when written out
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), ["a" * 10**7])
    for name, texts in (("shared", shared), ("cell", ["a" * (MAX_CHARACTERS + 1)])):
        columns = pa.table({"text": texts, "label": ["pos"] * len(texts)})
        pq.write_table(columns, folder / f"{name}.parquet", compression="zstd")
    done = run_script(READ_ALL, tmp_path)
    shutil.rmtree(folder)
    *lines, peak = done.out.splitlines()
    refused = [line for line in lines if re.match("UserError.*longer than 16,777,216", line)]
    assert len(refused) == len(LONG_ROWS) + 2, lines
    assert {*lines} - {*refused} == {"read: shared.parquet 200"}
    assert int(peak) < 600 * 1024


def test_batches_hold_bounded_texts() -> None:
    texts = ["a" * (MAX_CHARACTERS // 4)] * 20
    assert [len(batch) for batch in batches_of(texts, 1024)] == [4] * 5
    assert [len(batch) for batch in batches_of("abcde", 2)] == [2, 2, 1]


@pytest.mark.parametrize("kept", ["train.csv", "train/pos/20_9.txt", "pos/20_9.txt"])
def test_files_that_systems_leave_behind_are_left_alone(kept: str) -> None:
    file = Path("reviews", kept)
    if kept == "train.csv":
        file.parent.mkdir()
        write_csv(file, REVIEWS)
    else:
        write_acl_imdb(Path("reviews"), REVIEWS, kept.removesuffix("pos/20_9.txt"))
    for name in (f"._{file.name}", f"~${file.name}", ".DS_Store", "Thumbs.db", "desktop.ini"):
        file.with_name(name).write_bytes(b"\x00\x05\x16\x07\xff")
    assert found_in(Path("reviews")) == sorted(REVIEWS)


def test_the_acl_layout_in_another_encoding_says_which_flag() -> None:
    write_acl_imdb(Path("imdb"), make_reviews(20))
    Path("imdb/train/pos/99_9.txt").write_bytes(b"caf\xe9")
    line = error_of("imdb")
    assert "99_9.txt" in line
    assert "--data.encoding (predict: --encoding), for example cp1252" in line
    assert ("café", 1) in found_in(Path("imdb"), encoding="cp1252")
    assert "not x (unknown encoding: x)" in error_of("imdb", encoding="x")


@pytest.mark.parametrize(
    ("plant", "place", "said"),
    [
        (partial(os.symlink, "/etc/hostname"), "train/neg/99_1.txt", "is not a file"),
        (os.mkfifo, "train/neg/99_1.txt", "is not a file"),
        (os.mkdir, "train/neg/99_1.txt", "is not a file"),
        (partial(os.symlink, "../other/train"), "test", "leads elsewhere"),
    ],
    ids=["link", "pipe", "folder", "linked folder"],
)
def test_what_is_no_file_of_the_folder_is_refused(plant: Any, place: str, said: str) -> None:
    for name in ("corpus", "other"):
        write_acl_imdb(Path(name), make_reviews(20))
    plant(f"corpus/{place}")
    assert said in error_of("corpus")


@pytest.mark.parametrize("source", ["/dev/zero", "pipe.csv", "a" * 5000, "a\n\x1bb", "folder"])
def test_a_source_without_reviews_is_one_line_that_says_what_is_expected(source: str) -> None:
    os.mkfifo("pipe.csv")
    Path("folder").mkdir()
    assert ("expected train|test/pos|neg" in error_of(source)) == (source == "folder")
