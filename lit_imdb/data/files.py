"""Rows of .csv, .tsv, .jsonl, .parquet and .txt files, streamed: no file needs to fit in memory."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lit_imdb.errors import UserError

Row = dict[str, Any]

# One line or cell may hold 16 M characters: far above any review, far below what fills memory.
MAX_CHARACTERS = 16 * 2**20


def read_rows(path: Path, encoding: str = "utf-8") -> Iterator[Row]:
    """The rows of one file, as column name -> value; a .txt file has one row a line, `text`.

    Raises:
        UserError: An unknown ending, text in another encoding, a broken line.
    """
    reader = reader_of(path.name)
    try:
        with path.open("rb") as file:
            yield from reader(file, str(path), encoding)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def reader_of(name: str) -> Callable[[BinaryIO, str, str], Iterator[Row]]:
    """The reader for a file called `name`, by its ending."""
    ending = Path(name).suffix.lower()
    if ending not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"{name}: unknown ending {ending or '(none)'!r}, expected one of {known}")
    return READERS[ending]


def _lines(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Decoded lines with their ends, each at most `MAX_CHARACTERS` long."""
    try:
        by_byte = "\n".encode(encoding) == b"\n"
    except LookupError as error:
        raise UserError(f"unknown encoding {encoding!r}: try utf-8, cp1252 or utf-16") from error
    lines: Any = file if by_byte else io.TextIOWrapper(file, encoding, newline="")
    number = 0
    try:
        while line := lines.readline(MAX_CHARACTERS + 1):
            number += 1
            if len(line) > MAX_CHARACTERS:
                raise UserError(f"{name}, line {number}: longer than {MAX_CHARACTERS:,} characters")
            if by_byte:
                line = line.decode(encoding)
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}, line {number}: not {encoding}; name its encoding, "
            "for example --data.encoding cp1252"
        ) from error


def _read_csv(
    file: BinaryIO, name: str, encoding: str, dialect: type[csv.Dialect] = csv.excel
) -> Iterator[Row]:
    csv.field_size_limit(MAX_CHARACTERS)
    reader = csv.DictReader(_lines(file, name, encoding), dialect=dialect, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{name}, line {reader.line_num}: expected {len(reader.fieldnames or [])} "
                    "columns as in the header line; quote texts that hold separators"
                )
            yield row
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: broken CSV, {error}") from error


def _read_tsv(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    return _read_csv(file, name, encoding, csv.excel_tab)


def _read_jsonl(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    for number, line in enumerate(_lines(file, name, encoding), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}, line {number}: broken JSON, {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{name}, line {number}: expected a JSON object, one a line")
        yield row


def _read_parquet(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: not a readable Parquet file, {error}") from error


def _read_txt(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    for line in _lines(file, name, encoding):
        yield {"text": line.rstrip("\r\n")}


READERS: dict[str, Callable[[BinaryIO, str, str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
