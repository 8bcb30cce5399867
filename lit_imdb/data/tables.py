"""Rows of .csv, .tsv, .jsonl, .parquet and .txt files, streamed: no file has to fit in memory."""

import csv
import gzip
import io
import json
import stat
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from reprlib import repr as short_repr  # of values that may be long or deeply nested
from typing import Any, TypeVar

from lit_imdb.errors import UserError, as_user_error

Row = dict[str, Any]
Item = TypeVar("Item")

MAX_CHARACTERS = 16 * 2**20  # in one row: far above any review, far below what fills memory
OWN = "[!.~]*"  # names of the user's own files: macOS and Office leave others beside them
_MARKS = {BOM_UTF8: "utf-8-sig", BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16"}


def read_rows(path: Path, encoding: str = "utf-8", column: str = "text") -> Iterator[Row]:
    """Yield the rows of a file as column -> value; a .txt file has one row per line, `text`.

    Each value of `column` is a text or None; a byte order mark wins over `encoding`.

    Raises:
        UserError: An unknown ending, text in another encoding, a broken line, no such column.
    """
    ending = ending_of(path.name)
    if ending not in READERS:
        raise UserError(
            f"{path.name}: unknown ending, expected one of {', '.join(READERS)} (also .gz)"
        )
    with _open(path, encoding) as file:
        for number, row in enumerate(READERS[ending](file), 1):
            text = row.get(column)
            if column not in row or not isinstance(text, str | None):
                raise UserError(
                    f"{path}, data row {number}: expected a text in the column {column!r}, found "
                    f"{short_repr(row)}; name it with --data.text_column (predict: --text_column)"
                )
            if len(text or "") > MAX_CHARACTERS:
                raise _too_long(f"{path}, data row {number}")
            yield row


def read_text(path: Path, encoding: str) -> str:
    """Return the content of a text file."""
    with _open(path, encoding) as file:
        return "".join(file)


def texts_in(folder: Path) -> list[Path]:
    """Return a folder's .txt files by name; what else has such a name raises `UserError`."""
    texts = sorted(folder.glob(f"{OWN}.txt"))
    for file in texts:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise UserError(f"{file} is not a file (links are not followed): remove it")
    return texts


def ending_of(name: str) -> str:
    """Return the ending that tells the form of a file, in front of .gz."""
    return Path(name.lower().removesuffix(".gz")).suffix


def batches_of(
    items: Iterable[Item], size: int, length: Callable[[Any], int] = len
) -> Iterator[list[Item]]:
    """Yield at most `size` items at a time, fewer when they hold `MAX_CHARACTERS` together."""
    batch: list[Item] = []
    held = 0
    for item in items:
        batch.append(item)
        held += length(item)
        if len(batch) == size or held >= MAX_CHARACTERS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def stamp(path: Path) -> list[Any]:
    """Return what changes whenever the content of a file may have changed."""
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


@contextmanager
def _open(path: Path, encoding: str) -> Iterator["File"]:
    unpack: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with (
        as_user_error(f"cannot read {path}", OSError, EOFError, zlib.error),
        unpack(path, "rb") as binary,
    ):
        yield File(binary, str(path), encoding)


class File:
    """An open file, whose items are its decoded lines; a byte order mark wins over `encoding`.

    Attributes:
        binary: The same, undecoded.
        name: For errors.
        held: Characters read since it was last set to 0: never more than `MAX_CHARACTERS`.
    """

    def __init__(self, binary: Any, name: str, encoding: str) -> None:
        self.binary, self.name, self._encoding = binary, name, encoding
        self._number = self.held = 0

    def __iter__(self) -> Iterator[str]:
        encoding = self._encoding
        try:
            for mark, marked in _MARKS.items():
                if self.binary.peek(3).startswith(mark):
                    encoding = marked
            with io.TextIOWrapper(self.binary, encoding, newline="") as lines:
                while line := lines.readline(MAX_CHARACTERS + 1):
                    if self._number == 0 and "\0" in line:  # UTF-16 can pass for UTF-8
                        raise UnicodeError("zero bytes")
                    self._number += 1
                    self.held += len(line)
                    if self.held > MAX_CHARACTERS:
                        raise _too_long(self.place)
                    yield line
        except (LookupError, ValueError) as error:  # no such encoding, or bytes outside it
            raise UserError(
                f"{self.name}, at or after line {self._number + 1}: not {encoding} "
                f"({error!s:.200}); mend the line, or name the file's encoding with "
                "--data.encoding (predict: --encoding), for example cp1252 or utf-16-le"
            ) from error

    @property
    def place(self) -> str:
        """The line read last."""
        return f"{self.name}, line {self._number}"


def _read_csv(file: File, separators: str = ",;\t|") -> Iterator[Row]:
    """Read a table with the first of `separators` that is in its header line."""
    csv.field_size_limit(MAX_CHARACTERS)
    rest = iter(file)
    header = next(filter(str.strip, rest), "")
    separator = next((mark for mark in separators if mark in header), separators[0])
    rows = csv.reader(chain([header], rest), delimiter=separator, strict=True)
    try:
        columns = next(rows)
        _check_columns(columns, file.name)
        for cells in rows:
            file.held = 0  # counts over all lines of a row
            if len(cells) == len(columns):
                yield dict(zip(columns, cells, strict=True))
            elif any(cells):
                raise UserError(
                    f"{file.place}: {len(cells)} columns, expected {len(columns)} as in the "
                    f"header line; quote texts that hold {separator!r}"
                )
    except csv.Error as error:
        raise UserError(
            f"{file.place}: broken CSV, {error}; a quote within a quoted text is written twice, "
            r'"", not \"'
        ) from error


def _read_jsonl(file: File) -> Iterator[Row]:
    errors, advice = (ValueError, RecursionError), "expected one object per line"
    for line in file:
        file.held = 0
        if not line.strip():
            continue
        with as_user_error(f"{file.place}: broken JSON", *errors, advice=advice):
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"a {type(row).__name__}")
        yield row


def _read_parquet(file: File) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    errors = (pa.ArrowException, OSError, ValueError, OverflowError)
    with as_user_error(f"{file.name}: not a readable Parquet file", *errors):
        parquet = pq.ParquetFile(file.binary)
        flat = [field.name for field in parquet.schema_arrow if not pa.types.is_nested(field.type)]
        _check_columns(flat, file.name)
        for batch in parquet.iter_batches(16, columns=flat):  # few: a cell may be large
            yield from batch.to_pylist()


def _read_txt(file: File) -> Iterator[Row]:
    for line in file:
        file.held = 0
        yield {"text": line.rstrip("\r\n")}


def _too_long(place: str) -> UserError:
    return UserError(f"{place}: longer than {MAX_CHARACTERS:,} characters")


def _check_columns(columns: list[str], name: str) -> None:
    if len(set(columns)) < len(columns):
        raise UserError(f"{name}: two columns have the same name: {short_repr(columns)}")


READERS: dict[str, Callable[[File], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, separators="\t,;|"),
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
