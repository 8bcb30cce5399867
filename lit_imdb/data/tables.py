"""Rows of .csv, .tsv, .jsonl, .parquet and .txt files, streamed: no file has to fit in memory."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
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


def batches_of(texts: Iterator[Text], size: int) -> Iterator[list[Text]]:
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


def reader_of(name: str) -> Callable[[BinaryIO, str, str], Iterator[Row]]:
    """Return the reader for a file called `name`, by its ending."""
    ending = Path(name).suffix.lower()
    if ending not in READERS:
        known = ", ".join(READERS)
        if ending == ".json":
            known += "; a .jsonl file holds one JSON object per line"
        raise UserError(f"{name}: unknown ending {ending or '(none)'!r}, expected one of {known}")
    return READERS[ending]


def place_of(name: str, row: int) -> str:
    """Return how a message names row `row` of a file, counted from 1."""
    below = " below the header" if name.lower().endswith((".csv", ".tsv")) else ""
    return f"{name}, row {row}{below}"


def names_in(row: Row) -> str:
    """Return the columns of a row, quoted: a space in front of a name is easily missed."""
    return f"{', '.join(map(repr, row)):.200}"


def stamp(path: Path) -> list[Any]:
    """Return what changes whenever the content of a file may have changed."""
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


def decoded_lines(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Yield decoded lines with their ends, each at most `MAX_CHARACTERS` long."""
    try:
        ends_in_byte = "\n".encode(encoding) == b"\n"
    except (LookupError, ValueError) as error:
        raise UserError(f"unknown encoding {encoding!r}: try utf-8, cp1252 or utf-16") from error
    # Decoding line by line, where that is possible, finds the line with a wrong byte.
    lines: Any = file if ends_in_byte else io.TextIOWrapper(file, encoding, newline="\n")
    number = 1
    try:
        while line := lines.readline(MAX_CHARACTERS + 1):
            if len(line) > MAX_CHARACTERS:
                raise _too_long(name, number)
            if ends_in_byte:
                line = line.decode(encoding)
            yield line.removeprefix("\ufeff") if number == 1 else line
            number += 1
    except UnicodeError as error:
        raise UserError(
            f"{name}, line {number}: not {encoding}; name its encoding, "
            "for example --data.encoding cp1252 (predict: --encoding)"
        ) from error


def _read_csv(
    file: BinaryIO, name: str, encoding: str, dialect: type[csv.Dialect] = csv.excel
) -> Iterator[Row]:
    csv.field_size_limit(MAX_CHARACTERS)
    held = 0  # characters of the row being read, which may span many lines

    def lines() -> Iterator[str]:
        nonlocal held
        for number, line in enumerate(decoded_lines(file, name, encoding), 1):
            if number == 1:
                _check_separator(line, dialect.delimiter, name)
            held += len(line)
            if held > MAX_CHARACTERS:
                raise _too_long(name, number)
            yield line

    reader = csv.reader(lines(), dialect, strict=True)
    try:
        columns = next(reader, [])
        _check_columns(columns, name)
        for cells in reader:
            held = 0
            if not cells:  # a blank line
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{name}, line {reader.line_num}: expected {len(columns)} "
                    "columns as in the header line; quote texts that hold separators"
                )
            yield dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: broken CSV, {error}") from error


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


def _too_long(name: str, line: int) -> UserError:
    return UserError(f"{name}, line {line}: a row longer than {MAX_CHARACTERS:,} characters")


def _check_separator(header: str, expected: str, name: str) -> None:
    others = {";": "semicolons: save it with commas, as .csv", "\t": "tabs: name it .tsv"}
    for separator, advice in others.items():
        if separator in header and expected not in header:
            raise UserError(f"{name}, line 1: the columns are separated by {advice}")


def _check_columns(columns: list[str], name: str) -> None:
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise UserError(f"{name}: more than one column {twice[0]!r:.80}")


READERS: dict[str, Callable[[BinaryIO, str, str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, dialect=csv.excel_tab),
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
