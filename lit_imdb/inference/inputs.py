"""Reviews to judge, as people have them: a file, a folder of .txt files, or standard input."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lit_imdb.data.tables import MAX_CHARACTERS, Row, decoded_lines, names_in, place_of, reader_of
from lit_imdb.errors import UserError

STANDARD_INPUT = "-"


class Input:
    """The rows of `path`, in order, streamed: they never need to fit in memory.

    Args:
        path: A .csv, .tsv, .jsonl, .parquet or .txt file (a review a line), a folder of .txt files
            (a review a file, columns `file` and `text`), or `-`: standard input, a review a line.
        column: The column that holds the review.
        encoding: Of text files.

    Raises:
        UserError: No such file or folder, or an unknown ending.
    """

    def __init__(self, path: str, column: str = "text", encoding: str = "utf-8") -> None:
        self.path = Path(path)
        self.name = "standard input" if path == STANDARD_INPUT else path
        self.is_standard_input = path == STANDARD_INPUT
        self.column = column
        self.encoding = encoding
        self._done: float | None = None
        self._file: BinaryIO | None = None
        if self.is_standard_input or self.path.is_dir():
            return
        if not self.path.exists():
            raise UserError(f"no such file or folder: {path} (--data.predict_path)")
        reader_of(self.path.name)

    def __iter__(self) -> Iterator[Row]:
        """The rows; raises `UserError` where one cannot be read or there is none."""
        row = None
        try:
            for row in self._rows():
                yield row
        except OSError as error:
            raise UserError(f"cannot read {self.name}: {error.strerror or error}") from error
        if row is None:
            raise UserError(f"{self.name} is empty: expected at least one review")

    def text_of(self, row: Row, number: int) -> str:
        """The review in `row`, empty where there is none.

        Args:
            row: One of this input's rows.
            number: Its number, from 1, for the message.

        Raises:
            UserError: It has no such column, or something else than a text in it.
        """
        try:
            text = row[self.column]
        except KeyError:
            raise UserError(
                f"{place_of(self.name, number)}: no column {self.column!r}, only {names_in(row)}; "
                "name the one that holds the review with --data.text_column"
            ) from None
        if text is None:
            return ""
        if not isinstance(text, str):
            raise UserError(f"{place_of(self.name, number)}: {self.column} {text!r} is not a text")
        return text

    @property
    def done(self) -> float | None:
        """Share of the input that has been read, 0 to 1; None where nobody knows."""
        if self._file is None or self._file.closed:
            return self._done
        return self._file.tell() / max(self.path.stat().st_size, 1)

    def _rows(self) -> Iterator[Row]:
        if self.is_standard_input:
            yield from reader_of("lines.txt")(sys.stdin.buffer, self.name, self.encoding)
        elif self.path.is_dir():
            yield from self._folder_rows()
        else:
            with self.path.open("rb") as self._file:
                yield from reader_of(self.path.name)(self._file, self.name, self.encoding)
            self._done = 1.0

    def _folder_rows(self) -> Iterator[Row]:
        names = sorted(p.name for p in self.path.iterdir() if p.suffix.lower() == ".txt")
        if not names:
            raise UserError(f"no .txt files in the folder {self.path}")
        for number, name in enumerate(names, 1):
            file = self.path / name
            if file.stat().st_size > 4 * MAX_CHARACTERS:
                raise UserError(f"{file}: longer than {MAX_CHARACTERS:,} characters")
            with file.open("rb") as stream:
                text = "".join(decoded_lines(stream, str(file), self.encoding))
            self._done = number / len(names)
            yield {"file": name, "text": text}


def check_one_process(reviews: Any, world: int) -> None:
    """Raises `UserError` where several processes would have to share standard input."""
    if isinstance(reviews, Input) and reviews.is_standard_input and world > 1:
        raise UserError(
            f"standard input cannot be shared by {world} processes: use --devices 1, or a file"
        )
