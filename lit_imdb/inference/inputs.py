"""Reviews to label: a file, a folder of .txt files, or standard input.

Shapes: B reviews, T tokens.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from lit_imdb.data.tables import MAX_CHARACTERS, Row, read_text, reader_of, text_of
from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError

REVIEWS = 512  # in a block


class Block(NamedTuple):
    """Reviews that the network takes together: their rows, ids (B, T), and the share of the input
    that has been read with them, 0 to 1 or None if unknown."""

    rows: list[Row]
    ids: np.ndarray
    done: float | None


class Input(IterableDataset[Block | Exception]):
    """The rows of a file, a folder or standard input, streamed in order; an error is the last item.

    Args:
        path: A .csv, .tsv, .jsonl, .parquet or .txt file (one review per line), a folder of .txt
            files (one review per file; columns `file` and `text`), or `-`: standard input, one
            review per line.
        encoder: Turns texts into ids.
        column: The column that holds the review.
        encoding: Of text files.

    Raises:
        UserError: No such file or folder, or an unknown ending.
    """

    def __init__(self, path: str, encoder: TextEncoder, column: str, encoding: str) -> None:
        self.path = Path(path)
        self.is_standard_input = path == "-"
        self.name = "standard input" if self.is_standard_input else path
        self.encoder, self.column, self.encoding = encoder, column, encoding
        self._done: float | None = None
        if not self.is_standard_input and not self.path.is_dir():
            if not self.path.exists():
                raise UserError(f"no such file or folder: {path}")
            reader_of(self.path.name)

    def __iter__(self) -> Iterator[Block | Exception]:
        try:
            yield from self._blocks()
        except OSError as error:
            yield UserError(f"cannot read {self.name}: {error.strerror or error}")
        except Exception as error:  # DataLoader would raise a RuntimeError with a traceback in it
            yield error

    def _blocks(self) -> Iterator[Block]:
        number = 0
        rows: list[Row] = []
        texts: list[str] = []
        held = 0  # characters: a block of huge reviews is shorter, so that it fits in memory
        for number, row in enumerate(self._rows(), 1):
            rows.append(row)
            texts.append(text_of(row, self.column, f"{self.name}, data row {number}") or "")
            held += len(texts[-1])
            if len(rows) == REVIEWS or held >= MAX_CHARACTERS:
                yield Block(rows, self.encoder.encode(texts), self._done)
                rows, texts, held = [], [], 0
        if rows:
            yield Block(rows, self.encoder.encode(texts), self._done)
        if not number:
            raise UserError(f"{self.name} is empty: expected at least one review")

    def _rows(self) -> Iterator[Row]:
        if self.is_standard_input:
            yield from reader_of("lines.txt")(sys.stdin.buffer, self.name, self.encoding)
        elif self.path.is_dir():
            yield from self._rows_of_folder()
        else:
            size = max(self.path.stat().st_size, 1)
            with self.path.open("rb") as file:
                for row in reader_of(self.path.name)(file, self.name, self.encoding):
                    self._done = None if file.closed else file.tell() / size
                    yield row

    def _rows_of_folder(self) -> Iterator[Row]:
        names = sorted(p.name for p in self.path.iterdir() if p.suffix.lower() == ".txt")
        if not names:
            raise UserError(f"no .txt files in the folder {self.path}")
        for number, name in enumerate(names, 1):
            self._done = number / len(names)
            yield {"file": name, "text": read_text(self.path / name, self.encoding)}


def read_ahead(reviews: Input) -> Iterator[Block]:
    """Yield the blocks of `reviews`, read and encoded by a second process while the first computes.

    A thread would have to share the interpreter's lock with the network.

    Raises:
        UserError: A row cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        reviews,
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
