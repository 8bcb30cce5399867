"""Rows and their answers on the way out: JSON lines, CSV or Parquet."""

import csv
import io
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lit_imdb.data.tables import Row
from lit_imdb.errors import UserError
from lit_imdb.files import whole_file
from lit_imdb.inference.classifier import Prediction

COLUMNS = ("label", "probability", "unknown_words", "reason")  # that a row gains

_to_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


@contextmanager
def open_answers(output: str | None, like: Path | None = None) -> Iterator["Answers"]:
    """Open a file that appears as `output` when the block ends; standard output for None.

    Args:
        output: Its name, which says the format.
        like: The input file; a Parquet file passes its column types on.

    Raises:
        UserError: An unknown ending, a missing folder, or a file that cannot be written.
    """
    path = None if output is None else Path(output)
    if path is not None:
        _check(path)
    try:
        if path is None:
            yield JsonLines(sys.stdout.buffer, None)
        else:
            with whole_file(path) as file:
                answers = FORMATS[path.suffix.lower()](file, like)
                yield answers
                answers.close()
    except BrokenPipeError:  # `predict ... | head` has read enough
        raise
    except OSError as error:
        place = output or "standard output"
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error


def _check(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        known, ending = ", ".join(FORMATS), path.suffix or "(none)"
        raise UserError(f"{path}: unknown ending {ending!r}, expected one of {known}")
    if not path.parent.is_dir():
        raise UserError(f"no such folder: {path.parent} (--output)")
    if path.is_dir():
        raise UserError(f"{path} is a folder: --output takes a file")


class Answers(ABC):
    """Writes rows with their answers into a file, a block at a time.

    A row keeps its own columns. If one of the first rows has a column with the name of an answer's,
    `label` for example, the answer's gets `predicted_` in front.

    Attributes:
        written: Rows written.
        unanswered: Those of them without an answer.
    """

    def __init__(self, file: BinaryIO, like: Path | None) -> None:
        self.file, self.like = file, like
        self.written = self.unanswered = 0
        self.names: list[str] = []  # of the answer's columns

    def write(self, rows: list[Row], answers: list[Prediction]) -> None:
        """Add rows.

        Raises:
            UserError: A row does not fit the first ones.
        """
        first = not self.names
        if first:
            self.names = _free_names(rows)
        try:
            joined = [self._join(*pair) for pair in zip(rows, answers, strict=True)]
            if first:
                own = dict.fromkeys(name for row in rows for name in row)
                self._start(joined, [*own, *self.names])
            self._write(joined)
        except ValueError as error:  # pyarrow's errors are ValueErrors too
            raise UserError(
                f"rows {self.written + 1} to {self.written + len(rows)} do not fit the first rows "
                f"({error}): write .jsonl, which takes any columns"
            ) from error
        self.file.flush()
        self.written += len(rows)
        self.unanswered += sum(not answer.label for answer in answers)

    def _join(self, row: Row, answer: Prediction) -> Row:
        for name in self.names:
            if name in row:
                raise ValueError(f"column {name!r} is new and has the name of an answer's")
        probability, unknown = answer.probability, answer.unknown_words
        values = (
            answer.label,
            None if probability is None else round(probability, 6),
            None if unknown is None else round(unknown, 4),
            answer.reason,
        )
        return {**row, **dict(zip(self.names, values, strict=True))}

    @abstractmethod
    def _start(self, rows: list[Row], columns: list[str]) -> None:
        """Begin the file; `rows` are the first ones, `columns` all of theirs."""

    @abstractmethod
    def _write(self, rows: list[Row]) -> None:
        """Add rows; raise ValueError where one does not fit the first ones."""

    @abstractmethod
    def close(self) -> None:
        """Write what belongs at the end; the file stays open."""


class JsonLines(Answers):
    """One JSON object per line; rows may have different columns."""

    def _start(self, rows: list[Row], columns: list[str]) -> None: ...

    def _write(self, rows: list[Row]) -> None:
        lines = "".join([_to_json(row) + "\n" for row in rows])
        # a lone surrogate becomes \udc80, which JSON reads as itself
        self.file.write(lines.encode("utf-8", "backslashreplace"))

    def close(self) -> None: ...


class Csv(Answers):
    """CSV with a header line; lists and objects are written as JSON."""

    def _start(self, rows: list[Row], columns: list[str]) -> None:
        # lines end in \r\n: Python before 3.13 quotes a lone \r in a text only then
        self._buffer = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._buffer, columns)
        self._writer.writeheader()

    def _write(self, rows: list[Row]) -> None:
        self._writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        self.file.write(self._buffer.getvalue().encode("utf-8", "backslashreplace"))
        self._buffer.seek(0)
        self._buffer.truncate()

    def close(self) -> None: ...


def _cell(value: Any) -> Any:
    return _to_json(value) if isinstance(value, dict | list) else value


class Parquet(Answers):
    """Parquet with the input's column types, or else those of the first rows."""

    def _start(self, rows: list[Row], columns: list[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {}
        if self.like is not None and self.like.suffix.lower() == ".parquet":
            types = {field.name: field.type for field in pq.read_schema(self.like)}
        answer = (pa.string(), pa.float64(), pa.float64(), pa.string())
        types |= dict(zip(self.names, answer, strict=True))
        for name in columns:
            if name not in types:
                found = pa.array([row.get(name) for row in rows]).type
                # nothing but nulls so far: later values are most likely texts
                types[name] = pa.string() if pa.types.is_null(found) else found
        self._schema = pa.schema([(name, types[name]) for name in columns])
        self._writer = pq.ParquetWriter(self.file, self._schema)

    def _write(self, rows: list[Row]) -> None:
        import pyarrow as pa

        new = {name for row in rows for name in row} - set(self._schema.names)
        if new:
            raise ValueError(f"columns {new} are new")
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


FORMATS: dict[str, type[Answers]] = {".csv": Csv, ".jsonl": JsonLines, ".parquet": Parquet}


def _free_names(rows: list[Row]) -> list[str]:
    """The names of the answer's columns, none of which is one of the rows' own."""
    taken = {name for row in rows for name in row}
    names = []
    for name in COLUMNS:
        while name in taken:
            name = f"predicted_{name}"
        names.append(name)
    return names
