"""Rows and their answers on the way out: into a file, or to standard output as JSON lines.

A file grows under a temporary name next to the wanted one and is renamed when complete.
"""

import sys
from pathlib import Path
from typing import BinaryIO

from lit_imdb.data.tables import Row
from lit_imdb.errors import UserError
from lit_imdb.inference.formats import Csv, Format, JsonLines, Parquet, schema_of
from lit_imdb.inference.prediction import Prediction

# what a row gains, with its Parquet type
ANSWER = {
    "label": "string",
    "probability": "float64",
    "unknown_words": "float64",
    "reason": "string",
}
ENDINGS = (".csv", ".jsonl", ".parquet")


def check_output(path: str) -> None:
    """Raises `UserError` where `path` has an unknown ending or its folder is missing."""
    if Path(path).suffix.lower() not in ENDINGS:
        ending = Path(path).suffix or "(none)"
        raise UserError(f"{path}: unknown ending {ending!r}, expected one of {', '.join(ENDINGS)}")
    if not Path(path).parent.is_dir():
        raise UserError(f"no such folder: {Path(path).parent} (--data.predict_output)")
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder (--data.predict_output takes a file)")


class Output:
    """Writes rows with their answers, a batch at a time.

    A row keeps its own columns. If one of the first rows has a column called like an answer's,
    `label` for example, the answer's gets `predicted_` in front.

    Args:
        path: The file to write; None is standard output.
        source: The input file, if there is one.

    Attributes:
        written: Rows written.
        unanswered: Those of them that had no word to judge.
    """

    def __init__(self, path: str | None, source: Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.source = source
        self.written = self.unanswered = 0
        self._file: BinaryIO | None = None
        self._format: Format | None = None
        self._names: list[str] = []  # of the answer's columns

    def write(self, rows: list[Row], answers: list[Prediction]) -> None:
        """Adds rows, in order.

        Raises:
            UserError: A row does not fit the first ones, or the file cannot be written.
        """
        try:
            if self._format is None or self._file is None:
                self._names = _free_names(rows)
                self._file = self._open_file()
                self._format = self._start(self._file, rows)
            self._format.write(self._joined(rows, answers))
            self._file.flush()
        except ValueError as error:  # pyarrow's errors are ValueErrors too
            raise UserError(
                f"rows {self.written + 1} to {self.written + len(rows)} do not fit the first rows "
                f"({error}): write .jsonl, which takes any columns"
            ) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(
                f"cannot write {self.path or 'standard output'}: {error.strerror or error}"
            ) from error
        self.written += len(rows)
        self.unanswered += sum(1 for answer in answers if answer.reason)

    def complete(self) -> None:
        """Gives the file its name."""
        if self._format is None or self._file is None:
            return
        self._format.close()
        if self.path is not None:
            self._file.close()
            self._temporary.replace(self.path)

    def abandon(self) -> None:
        """Removes what has been written."""
        if self.path is not None and self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    @property
    def _temporary(self) -> Path:
        assert self.path is not None
        return self.path.with_name(f".{self.path.name}.partial")

    def _open_file(self) -> BinaryIO:
        return sys.stdout.buffer if self.path is None else self._temporary.open("wb")

    def _start(self, file: BinaryIO, rows: list[Row]) -> Format:
        ending = ".jsonl" if self.path is None else self.path.suffix.lower()
        if ending == ".jsonl":
            return JsonLines(file)
        columns = [*dict.fromkeys(column for row in rows for column in row), *self._names]
        if ending == ".csv":
            return Csv(file, columns)
        types = dict(zip(self._names, ANSWER.values(), strict=True))
        return Parquet(file, schema_of(rows, columns, types, self.source))

    def _joined(self, rows: list[Row], answers: list[Prediction]) -> list[Row]:
        names = self._names
        label, probability, unknown, reason = names
        joined = []
        for row, answer in zip(rows, answers, strict=True):
            for name in names:
                if name in row:
                    raise ValueError(f"column {name!r} is new and called like an answer's")
            joined.append(
                {
                    **row,
                    label: answer.label,
                    probability: _rounded(answer.probability, 6),
                    unknown: _rounded(answer.unknown_words, 4),
                    reason: answer.reason,
                }
            )
        return joined


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _free_names(rows: list[Row]) -> list[str]:
    """The names of the answer's columns, none of which is one of the rows' own."""
    columns = {column for row in rows for column in row}
    names = []
    for name in ANSWER:
        while name in columns:
            name = f"predicted_{name}"
        names.append(name)
    return names
