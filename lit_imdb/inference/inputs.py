"""Reviews to label: a file, a folder of .txt files, or standard input."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from lit_imdb.data.tables import MAX_CHARACTERS, Row, decoded_lines, names_in, place_of, reader_of
from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError

STANDARD_INPUT = "-"
REVIEWS = 512  # in a block


class Input:
    """The rows of a file, a folder or standard input, streamed in order.

    Args:
        path: A .csv, .tsv, .jsonl, .parquet or .txt file (one review per line), a folder of .txt
            files (one review per file; columns `file` and `text`), or `-`: standard input, one
            review per line.
        column: The column that holds the review.
        encoding: Of text files.

    Attributes:
        done: Share of the input that has been read, 0 to 1; None if unknown.

    Raises:
        UserError: No such file or folder, or an unknown ending.
    """

    def __init__(self, path: str, column: str = "text", encoding: str = "utf-8") -> None:
        self.path = Path(path)
        self.is_standard_input = path == STANDARD_INPUT
        self.name = "standard input" if self.is_standard_input else path
        self.column = column
        self.encoding = encoding
        self.done: float | None = None
        if self.is_standard_input or self.path.is_dir():
            return
        if not self.path.exists():
            raise UserError(f"no such file or folder: {path}")
        reader_of(self.path.name)

    def __iter__(self) -> Iterator[tuple[Row, str]]:
        """Yield each row and the review in it, empty where there is none.

        Raises:
            UserError: A row cannot be read, or there is no row at all.
        """
        number = 0
        try:
            for number, row in enumerate(self._rows(), 1):
                yield row, self._text_of(row, number)
        except OSError as error:
            raise UserError(f"cannot read {self.name}: {error.strerror or error}") from error
        if not number:
            raise UserError(f"{self.name} is empty: expected at least one review")

    def _text_of(self, row: Row, number: int) -> str:
        if self.column not in row:
            raise UserError(
                f"{place_of(self.name, number)}: no column {self.column!r}, only {names_in(row)}; "
                "name the one that holds the review with --text_column"
            )
        text = row[self.column]
        if text is not None and not isinstance(text, str):
            raise UserError(f"{place_of(self.name, number)}: {self.column} {text!r} is not a text")
        return text or ""

    def _rows(self) -> Iterator[Row]:
        if self.is_standard_input:
            yield from reader_of("lines.txt")(sys.stdin.buffer, self.name, self.encoding)
        elif self.path.is_dir():
            yield from self._rows_of_folder()
        else:
            size = max(self.path.stat().st_size, 1)
            with self.path.open("rb") as file:
                for row in reader_of(self.path.name)(file, self.name, self.encoding):
                    self.done = file.tell() / size
                    yield row

    def _rows_of_folder(self) -> Iterator[Row]:
        names = sorted(p.name for p in self.path.iterdir() if p.suffix.lower() == ".txt")
        if not names:
            raise UserError(f"no .txt files in the folder {self.path}")
        for number, name in enumerate(names, 1):
            file = self.path / name
            if file.stat().st_size > 4 * MAX_CHARACTERS:
                raise UserError(f"{file}: longer than {MAX_CHARACTERS:,} characters")
            with file.open("rb") as stream:
                text = "".join(decoded_lines(stream, str(file), self.encoding))
            self.done = number / len(names)
            yield {"file": name, "text": text}


class Block(NamedTuple):
    """Reviews that the network takes together.

    Attributes:
        rows: Their rows.
        ids: (B, T).
        done: Share of the input that has been read with them.
    """

    rows: list[Row]
    ids: np.ndarray
    done: float | None


class _Blocks(IterableDataset[Block | Exception]):
    """The blocks of an input; an error is the last item."""

    def __init__(self, reviews: Input, encoder: TextEncoder) -> None:
        self.reviews, self.encoder = reviews, encoder

    def __iter__(self) -> Iterator[Block | Exception]:
        try:
            yield from self._blocks()
        except Exception as error:  # raised here, it would arrive as a traceback in a RuntimeError
            yield error

    def _blocks(self) -> Iterator[Block]:
        rows: list[Row] = []
        texts: list[str] = []
        held = 0  # characters: a block of huge reviews is shorter, so that it fits in memory
        for row, text in self.reviews:
            rows.append(row)
            texts.append(text)
            held += len(text)
            if len(rows) == REVIEWS or held >= MAX_CHARACTERS:
                yield Block(rows, self.encoder.encode(texts), self.reviews.done)
                rows, texts, held = [], [], 0
        if rows:
            yield Block(rows, self.encoder.encode(texts), self.reviews.done)


def read_ahead(reviews: Input, encoder: TextEncoder) -> Iterator[Block]:
    """Yield the blocks of `reviews`, read and encoded by a second process while the first computes.

    A thread would have to share the interpreter's lock with the network.

    Raises:
        UserError: A row cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        _Blocks(reviews, encoder),
        batch_size=None,
        collate_fn=_unchanged,
        # a second process has no standard input
        num_workers=0 if reviews.is_standard_input else 1,
        worker_init_fn=_leave_signals_to_parent,
    )
    for block in loader:
        if isinstance(block, Exception):
            raise block
        yield block


def _unchanged(block: Any) -> Any:
    return block


def _leave_signals_to_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both processes
    # leave quietly: a worker that dies of a signal makes DataLoader complain
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
