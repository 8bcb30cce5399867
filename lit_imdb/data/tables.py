"""Rows of .csv, .tsv, .jsonl, .parquet and .txt files, streamed: no file needs to fit in memory."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from lit_imdb.errors import UserError

Row = dict[str, Any]
Text = TypeVar("Text", str, str | None)

# One row may hold 16 M characters: far above any review, far below what fills memory.
MAX_CHARACTERS = 16 * 2**20
MAX_COLUMNS = 1000
# A Parquet file says how large its parts are when unpacked: a small file may hold a huge cell.
_MAX_PARQUET_PART, _MAX_PARQUET_MEAN = 512 * 2**20, 64 * 2**10


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


def batches_of(texts: Iterator[Text], size: int) -> Iterator[list[Text]]:
    """At most `size` texts at a time, and no more once they hold `MAX_CHARACTERS` together."""
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


def reader_of(name: str) -> Callable[[BinaryIO, str, str], Iterator[Row]]:
    """The reader for a file called `name`, by its ending."""
    ending = Path(name).suffix.lower()
    if ending not in READERS:
        known = ", ".join(READERS)
        if ending == ".json":
            known += "; a .jsonl file holds one JSON object a line"
        raise UserError(f"{name}: unknown ending {ending or '(none)'!r}, expected one of {known}")
    return READERS[ending]


def place_of(name: str, row: int) -> str:
    """Row `row` of file `name`, counted from 1, as a message says it: it is not the line."""
    below = " below the header" if name.lower().endswith((".csv", ".tsv")) else ""
    return f"{name}, row {row}{below}"


def names_in(row: Row) -> str:
    """Its columns, quoted: a space in front of a name is easily missed."""
    return f"{', '.join(map(repr, row)):.200}"


def decoded_lines(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Decoded lines with their ends, each at most `MAX_CHARACTERS` long."""
    try:
        by_byte = "\n".encode(encoding) == b"\n"
    except (LookupError, ValueError) as error:
        raise UserError(f"unknown encoding {encoding!r}: try utf-8, cp1252 or utf-16") from error
    lines: Any = file if by_byte else io.TextIOWrapper(file, encoding, newline="")
    number = 0
    try:
        while line := lines.readline(MAX_CHARACTERS + 1):
            if len(line) > MAX_CHARACTERS:
                raise _too_long(name, number + 1)
            if by_byte:
                line = line.decode(encoding)
            number += 1
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        raise UserError(
            f"{name}, line {number + 1}: not {encoding}; name its encoding, "
            "for example --data.encoding cp1252"
        ) from error


def _read_csv(
    file: BinaryIO, name: str, encoding: str, dialect: type[csv.Dialect] = csv.excel
) -> Iterator[Row]:
    csv.field_size_limit(MAX_CHARACTERS)
    header = ""
    taken = 0  # characters of the row being read, which may go over many lines

    def lines() -> Iterator[str]:
        nonlocal header, taken
        for number, line in enumerate(decoded_lines(file, name, encoding), 1):
            taken += len(line)
            if taken > MAX_CHARACTERS:
                raise _too_long(name, number)
            header = header or line
            yield line

    reader = csv.DictReader(lines(), dialect=dialect, strict=True)
    try:
        columns = list(reader.fieldnames or ())
        if len(columns) == 1:
            _check_separator(header, dialect, name)
        _check_columns(columns, name)
        for row in reader:
            taken = 0
            if None in row or None in row.values():
                raise UserError(
                    f"{name}, line {reader.line_num}: expected {len(columns)} "
                    "columns as in the header line; quote texts that hold separators"
                )
            yield row
    except csv.Error as error:
        line = reader.reader.line_num  # DictReader's own is one behind
        if line == 1:
            _check_separator(header, dialect, name)
        raise UserError(f"{name}, line {line}: broken CSV, {error}") from error


def _read_tsv(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    return _read_csv(file, name, encoding, csv.excel_tab)


def _read_jsonl(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    for number, line in enumerate(decoded_lines(file, name, encoding), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name}, line {number}: broken JSON, {error}; expected one object a line"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{name}, line {number}: expected one JSON object a line")
        yield row


def _too_long(name: str, line: int) -> UserError:
    return UserError(f"{name}, line {line}: a row longer than {MAX_CHARACTERS:,} characters")


def _check_separator(header: str, dialect: type[csv.Dialect], name: str) -> None:
    """Raises `UserError` for a header line with other separators than the file's ending says."""
    others = {";": "semicolons: save it with commas, as .csv", "\t": "tabs: name it .tsv"}
    for separator, advice in others.items():
        if header.count(separator) > header.count(dialect.delimiter):
            raise UserError(f"{name}, line 1: the columns are separated by {advice}")


def _check_columns(columns: list[str], name: str) -> None:
    if len(columns) > MAX_COLUMNS:
        raise UserError(f"{name}: {len(columns):,} columns, expected at most {MAX_COLUMNS:,}")
    twice = {column for column in columns if columns.count(column) > 1}
    if twice:
        raise UserError(f"{name}: more than one column {min(twice)!r:.80}")


def _read_parquet(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        _check_columns(parquet.schema_arrow.names, name)
        _check_parts(parquet.metadata, name)
        flat = [field for field in parquet.schema_arrow if not pa.types.is_nested(field.type)]
        texts = [field.name for field in flat if pa.types.is_string(field.type)]
        # A text that many rows share is kept once, until its row is asked for.
        parquet = pq.ParquetFile(file, read_dictionary=texts)
        for batch in parquet.iter_batches(1024, columns=[field.name for field in flat]):
            for number in range(len(batch)):
                yield {field: batch[field][number].as_py() for field in batch.schema.names}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{name}: not a readable Parquet file, {error!s:.200}") from error


def _check_parts(metadata: Any, name: str) -> None:
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        size = row_group.total_byte_size  # asking a broken column for its size aborts the process
        if size > max(_MAX_PARQUET_PART, _MAX_PARQUET_MEAN * row_group.num_rows):
            raise UserError(
                f"{name}: row group {group} unpacks to {size:,} bytes in "
                f"{row_group.num_rows:,} rows: its cells are too large"
            )


def _read_txt(file: BinaryIO, name: str, encoding: str) -> Iterator[Row]:
    for line in decoded_lines(file, name, encoding):
        yield {"text": line.rstrip("\r\n")}


READERS: dict[str, Callable[[BinaryIO, str, str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
