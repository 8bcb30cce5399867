"""Rows and their answers on the way out: JSON lines, CSV or Parquet."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from lit_imdb.data.tables import Row
from lit_imdb.errors import UserError
from lit_imdb.files import whole_file
from lit_imdb.inference.classifier import Prediction

NAMES = ("label", "probability", "unknown_words", "reason")  # of the columns that a row gains
ENDINGS = (".csv", ".jsonl", ".parquet")

_to_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


class _Format(Protocol):
    """Writes rows into a file, a block at a time."""

    def write(self, rows: list[Row]) -> None:
        """Add rows; raises ValueError where one does not fit the first ones."""

    def close(self) -> None:
        """Write what belongs at the end; the file stays open."""


class Answers:
    """Writes rows with their answers into a file, a block at a time.

    A row keeps its own columns. If one of the first rows has a column with the name of an answer's,
    `label` for example, the answer's gets `predicted_` in front.

    Args:
        file: What to write into.
        ending: The form: .jsonl, .csv or .parquet.
        like: The input file; a Parquet file passes its column types on.

    Attributes:
        written: Rows written.
        unanswered: Those of them without an answer.
    """

    def __init__(self, file: BinaryIO, ending: str, like: Path | None = None) -> None:
        self.file = file
        self.ending = ending
        self.like = like
        self.written = self.unanswered = 0
        self._names: list[str] = []
        self._format: _Format | None = None

    def write(self, rows: list[Row], answers: list[Prediction]) -> None:
        """Add rows.

        Raises:
            UserError: A row does not fit the first ones.
        """
        try:
            if self._format is None:
                self._names = _free_names(rows)
                self._format = self._start(rows)
            self._format.write([self._joined(*pair) for pair in zip(rows, answers, strict=True)])
        except ValueError as error:  # pyarrow's errors are ValueErrors too
            raise UserError(
                f"rows {self.written + 1} to {self.written + len(rows)} do not fit the first rows "
                f"({error}): write .jsonl, which takes any columns"
            ) from error
        self.file.flush()
        self.written += len(rows)
        self.unanswered += sum(not answer.label for answer in answers)

    def close(self) -> None:
        """Write what belongs at the end."""
        if self._format is not None:
            self._format.close()

    def _start(self, rows: list[Row]) -> _Format:
        if self.ending == ".jsonl":
            return _JsonLines(self.file)
        columns = [*dict.fromkeys(column for row in rows for column in row), *self._names]
        if self.ending == ".csv":
            return _Csv(self.file, columns)
        return _Parquet(self.file, _schema(rows, columns, self._names, self.like))

    def _joined(self, row: Row, answer: Prediction) -> Row:
        for name in self._names:
            if name in row:
                raise ValueError(f"column {name!r} is new and has the name of an answer's")
        values = (
            answer.label,
            None if answer.probability is None else round(answer.probability, 6),
            None if answer.unknown_words is None else round(answer.unknown_words, 4),
            answer.reason,
        )
        return {**row, **dict(zip(self._names, values, strict=True))}


@contextmanager
def open_answers(output: str | None, like: Path | None = None) -> Iterator[Answers]:
    """Open a file that takes the name `output` when the block ends, or standard output.

    Raises:
        UserError: An unknown ending, a missing folder, or a file that cannot be written.
    """
    try:
        if output is None:
            yield Answers(sys.stdout.buffer, ".jsonl")
        else:
            path = Path(output)
            ending = _ending(path)
            with whole_file(path) as file:
                answers = Answers(file, ending, like)
                yield answers
                answers.close()
    except BrokenPipeError:  # `predict ... | head` has read enough
        raise
    except OSError as error:
        raise UserError(
            f"cannot write {output or 'standard output'}: {error.strerror or error}"
        ) from error


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        known = ", ".join(ENDINGS)
        raise UserError(f"{path}: unknown ending {ending or '(none)'!r}, expected one of {known}")
    if not path.parent.is_dir():
        raise UserError(f"no such folder: {path.parent} (--output)")
    if path.is_dir():
        raise UserError(f"{path} is a folder: --output takes a file")
    return ending


class _JsonLines:
    """One JSON object per line; rows may have different columns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, rows: list[Row]) -> None:
        lines = "".join([_to_json(row) + "\n" for row in rows])
        # a lone surrogate becomes \udc80, which JSON reads as itself
        self._file.write(lines.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Nothing belongs at the end."""


class _Csv:
    """CSV with a header line; lists and objects are written as JSON."""

    def __init__(self, file: BinaryIO, columns: list[str]) -> None:
        self._file = file
        # lines end in \r\n: Python before 3.13 quotes a lone \r in a text only then
        self._buffer = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._buffer, columns)
        self._writer.writeheader()

    def write(self, rows: list[Row]) -> None:
        self._writer.writerows([{k: _cell(v) for k, v in row.items()} for row in rows])
        self._file.write(self._buffer.getvalue().encode("utf-8", "backslashreplace"))
        self._buffer.seek(0)
        self._buffer.truncate()

    def close(self) -> None:
        """Nothing belongs at the end."""


def _cell(value: Any) -> Any:
    return _to_json(value) if isinstance(value, dict | list) else value


class _Parquet:
    """Parquet with the columns and types of `schema`."""

    def __init__(self, file: BinaryIO, schema: Any) -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        self._names = set(schema.names)
        self._writer = pq.ParquetWriter(file, schema)

    def write(self, rows: list[Row]) -> None:
        import pyarrow as pa

        for row in rows:
            if not row.keys() <= self._names:
                raise ValueError(f"columns {row.keys() - self._names} are new")
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _schema(rows: list[Row], columns: list[str], names: list[str], like: Path | None) -> Any:
    """A Parquet schema for `columns`: the answer's `names`, the input's types, the first rows'."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.string(), pa.float64(), pa.float64(), pa.string())
    known = dict(zip(names, types, strict=True))
    if like is not None and like.suffix.lower() == ".parquet":
        known = {field.name: field.type for field in pq.read_schema(like)} | known
    fields = []
    for column in columns:
        kind = known.get(column)
        if kind is None:
            kind = pa.array([row.get(column) for row in rows]).type
        # nothing but nulls so far: later values are most likely texts
        fields.append((column, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _free_names(rows: list[Row]) -> list[str]:
    """The names of the answer's columns, none of which is one of the rows' own."""
    columns = {column for row in rows for column in row}
    names = []
    for name in NAMES:
        while name in columns:
            name = f"predicted_{name}"
        names.append(name)
    return names
