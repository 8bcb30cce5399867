"""Rows and their answers on the way out: JSON lines, CSV or Parquet."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lit_imdb.data.tables import Row
from lit_imdb.errors import UserError
from lit_imdb.files import whole_file
from lit_imdb.inference.classifier import Prediction

COLUMNS = ("label", "probability", "unknown_words", "reason")  # that a row gains

Write = Callable[[list[Row]], None]  # raises ValueError where a row does not fit the first ones
Close = Callable[[], None]  # writes what belongs at the end; the file stays open

_to_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


class Answers:
    """Writes rows with their answers into a file, a block at a time.

    A row keeps its own columns. If one of the first rows has a column with the name of an answer's,
    `label` for example, the answer's gets `predicted_` in front.

    Args:
        file: The file, open.
        ending: Its format: a key of `FORMATS`.
        like: The input file; a Parquet file passes its column types on.

    Attributes:
        written: Rows written.
        unanswered: Those of them without an answer.
    """

    def __init__(self, file: BinaryIO, ending: str, like: Path | None = None) -> None:
        self.file, self.ending, self.like = file, ending, like
        self.written = self.unanswered = 0
        self._names: list[str] = []  # of the answer's columns
        self._write: Write | None = None
        self.close: Close = _nothing

    def write(self, rows: list[Row], answers: list[Prediction]) -> None:
        """Add rows.

        Raises:
            UserError: A row does not fit the first ones.
        """
        try:
            if self._write is None:
                own = list(dict.fromkeys(name for row in rows for name in row))
                self._names = [_free(name, own) for name in COLUMNS]
                columns = [*own, *self._names]
                self._write, self.close = FORMATS[self.ending](self.file, columns, rows, self.like)
            self._write([self._join(*pair) for pair in zip(rows, answers, strict=True)])
        except ValueError as error:  # pyarrow's errors are ValueErrors too
            raise UserError(
                f"rows {self.written + 1} to {self.written + len(rows)} do not fit the first rows "
                f"({error}): write .jsonl, which takes any columns"
            ) from error
        self.file.flush()
        self.written += len(rows)
        self.unanswered += sum(not answer.label for answer in answers)

    def _join(self, row: Row, answer: Prediction) -> Row:
        for name in self._names:
            if name in row:
                raise ValueError(f"column {name!r} is new and has the name of an answer's")
        probability, unknown = answer.probability, answer.unknown_words
        values = (
            answer.label,
            None if probability is None else round(probability, 6),
            None if unknown is None else round(unknown, 4),
            answer.reason,
        )
        return {**row, **dict(zip(self._names, values, strict=True))}


@contextmanager
def open_answers(output: str | None, like: Path) -> Iterator[Answers]:
    """Open a file that appears as `output` when the block ends; standard output for None.

    Raises:
        UserError: An unknown ending, a missing folder, or a file that cannot be written.
    """
    try:
        if output is None:
            yield Answers(sys.stdout.buffer, ".jsonl")
            return
        path = Path(output)
        ending = path.suffix.lower()
        if ending not in FORMATS:
            raise UserError(
                f"{path}: unknown ending {ending or '(none)'!r}, expected one of "
                f"{', '.join(FORMATS)}"
            )
        if path.is_dir() or not path.parent.is_dir():
            problem = "it is a folder" if path.is_dir() else f"no such folder: {path.parent}"
            raise UserError(f"--output {path}: {problem}")
        with whole_file(path) as file:
            answers = Answers(file, ending, like)
            yield answers
            answers.close()
    except BrokenPipeError:  # `predict ... | head` has read enough
        raise
    except OSError as error:
        place = output or "standard output"
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error


def _free(name: str, taken: list[str]) -> str:
    while name in taken:
        name = f"predicted_{name}"
    return name


def _nothing() -> None:
    pass


def _json_lines(file: BinaryIO, *_: Any) -> tuple[Write, Close]:
    """One JSON object per line; rows may have different columns."""

    def write(rows: list[Row]) -> None:
        lines = "".join([_to_json(row) + "\n" for row in rows])
        # a lone surrogate becomes \udc80, which JSON reads as itself
        file.write(lines.encode("utf-8", "backslashreplace"))

    return write, _nothing


def _csv(file: BinaryIO, columns: list[str], *_: Any) -> tuple[Write, Close]:
    """CSV with a header line; lists and objects are written as JSON."""
    # lines end in \r\n: Python before 3.13 quotes a lone \r in a text only then
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns)
    writer.writeheader()

    def cell(value: Any) -> Any:
        return _to_json(value) if isinstance(value, dict | list) else value

    def write(rows: list[Row]) -> None:
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
        file.write(buffer.getvalue().encode("utf-8", "backslashreplace"))
        buffer.seek(0)
        buffer.truncate()

    return write, _nothing


def _parquet(
    file: BinaryIO, columns: list[str], first: list[Row], like: Path | None
) -> tuple[Write, Close]:
    """Parquet with the column types of `like`, or else those of the first rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    is_parquet = like is not None and like.suffix.lower() == ".parquet"
    types = {field.name: field.type for field in pq.read_schema(like)} if is_parquet else {}
    answer = (pa.string(), pa.float64(), pa.float64(), pa.string())
    types |= dict(zip(columns[-len(COLUMNS) :], answer, strict=True))
    for name in columns:
        if name not in types:
            found = pa.array([row.get(name) for row in first]).type
            # nothing but nulls so far: later values are most likely texts
            types[name] = pa.string() if pa.types.is_null(found) else found
    schema = pa.schema([(name, types[name]) for name in columns])
    writer = pq.ParquetWriter(file, schema)

    def write(rows: list[Row]) -> None:
        new = {name for row in rows for name in row} - set(columns)
        if new:
            raise ValueError(f"columns {new} are new")
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    return write, writer.close


FORMATS: dict[str, Callable[..., tuple[Write, Close]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
