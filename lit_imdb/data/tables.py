"""Rows of .csv, .tsv, .jsonl, .parquet and .txt files, streamed: no file has to fit in memory."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from reprlib import repr as short_repr  # of values that may be long or deeply nested
from typing import Any, BinaryIO, TypeVar

from lit_imdb.errors import UserError

Row = dict[str, Any]
Text = TypeVar("Text", str, str | None)

MAX_CHARACTERS = 16 * 2**20  # in one row: far above any review, far below what fills memory


def read_rows(path: Path, encoding: str = "utf-8") -> Iterator[Row]:
    """Yield the rows of a file as column -> value; a .txt file has one row per line, `text`.

    Raises:
        UserError: An unknown ending, text in another encoding, a broken line.
    """
    reader = reader_of(path.name)
    try:
        with path.open("rb") as file:
            yield from reader(file, str(path), encoding)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def read_text(path: Path, encoding: str) -> str:
    """Return the content of a text file."""
    try:
        with path.open(encoding=encoding) as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, LookupError, ValueError) as error:  # LookupError: no such encoding
        raise UserError(
            f"cannot read {path}: {error}; if it has another encoding, name it, for example "
            "--data.encoding cp1252 (predict: --encoding)"
        ) from error
    if len(text) > MAX_CHARACTERS:
        raise _too_long(str(path))
    return text.removeprefix("\ufeff")


def text_of(row: Row, column: str, place: str) -> str | None:
    """Return the review in a row; `place` names the row in errors."""
    text = row.get(column)
    if column not in row or not isinstance(text, str | None):
        raise UserError(
            f"{place}: expected a text in the column {column!r}, found {short_repr(row)}; name the "
            "column with --data.text_column (predict: --text_column), and separate columns by "
            "commas in .csv, by tabs in .tsv files"
        )
    if len(text or "") > MAX_CHARACTERS:
        raise _too_long(place)
    return text


def batches_of(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    """Yield at most `size` texts at a time, fewer when they hold `MAX_CHARACTERS` together."""
    batch: list[Text] = []
    held = 0
    for text in texts:
        batch.append(text)
        held += len(text or "")
        if len(batch) == size or held >= MAX_CHARACTERS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def stamp(path: Path) -> list[Any]:
    """Return what changes whenever the content of a file may have changed."""
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


def reader_of(name: str) -> Callable[[BinaryIO, str, str], Iterator[Row]]:
    """Return the reader for a file called `name`, by its ending."""
    ending = Path(name).suffix.lower()
    if ending not in READERS:
        raise UserError(
            f"{name}: unknown ending {ending or '(none)'!r}, expected one of {', '.join(READERS)}; "
            "a .jsonl file holds one JSON object per line"
        )
    return READERS[ending]


def decoded_lines(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Yield decoded lines with their ends, each at most `MAX_CHARACTERS` long."""
    number = 0
    try:
        with io.TextIOWrapper(file, encoding, newline="\n") as lines:
            while line := lines.readline(MAX_CHARACTERS + 1):
                number += 1
                if len(line) > MAX_CHARACTERS:
                    raise _too_long(f"{name}, line {number}")
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        raise UserError(
            f"{name}, at or after line {number + 1}: not {encoding}; name its encoding, "
            "for example --data.encoding cp1252 (predict: --encoding)"
        ) from error
    except (LookupError, ValueError) as error:
        raise UserError(f"unknown encoding {encoding!r}: try utf-8, cp1252 or utf-16") from error


def _read_csv(
    file: BinaryIO, name: str, encoding: str, dialect: type[csv.Dialect] = csv.excel
) -> Iterator[Row]:
    csv.field_size_limit(MAX_CHARACTERS)
    held = 0  # characters of the row being read, which may span many lines

    def lines() -> Iterator[str]:
        nonlocal held
        for line in decoded_lines(file, name, encoding):
            held += len(line)
            if held > MAX_CHARACTERS:
                raise _too_long(f"{name}, line {reader.reader.line_num}")
            yield line

    reader = csv.DictReader(lines(), dialect=dialect, strict=True)
    try:
        columns = reader.fieldnames or []
        _check_columns(columns, name)
        for row in reader:
            held = 0
            if None in row or None in row.values():  # more or fewer cells than columns
                raise UserError(
                    f"{name}, line {reader.reader.line_num}: expected {len(columns)} columns "
                    "as in the header line; quote texts that hold separators"
                )
            yield row
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.reader.line_num}: broken CSV, {error}") from error


def _read_jsonl(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    for number, line in enumerate(decoded_lines(file, name, encoding), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name}, line {number}: broken JSON, {error}; expected one object per line"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{name}, line {number}: expected one JSON object per line")
        yield row


def _read_parquet(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        flat = [field.name for field in parquet.schema_arrow if not pa.types.is_nested(field.type)]
        _check_columns(flat, name)
        for batch in parquet.iter_batches(16, columns=flat):  # few: a cell may be large
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{name}: not a readable Parquet file, {error!s:.200}") from error


def _read_txt(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    for line in decoded_lines(file, name, encoding):
        yield {"text": line.rstrip("\r\n")}


def _too_long(place: str) -> UserError:
    return UserError(f"{place}: longer than {MAX_CHARACTERS:,} characters")


def _check_columns(columns: Iterable[str], name: str) -> None:
    for column, count in Counter(columns).most_common(1):
        if count > 1:
            raise UserError(f"{name}: more than one column {column!r:.80}")


READERS: dict[str, Callable[[BinaryIO, str, str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, dialect=csv.excel_tab),
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
