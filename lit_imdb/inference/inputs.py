"""Reviews to label: a file, a folder of .txt files, or standard input.

Shapes: B reviews, T tokens.
"""

import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from lit_imdb.data.tables import (
    READERS,
    Row,
    batches_of,
    is_left_behind,
    read_rows,
    read_text,
    text_of,
)
from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError

REVIEWS = 512  # in a block
Block = tuple[list[Row], np.ndarray]  # what the network takes together: rows and their ids (B, T)


class Input(IterableDataset[Block | Exception]):
    """The blocks of a file, a folder or standard input, in order; an error is the last item.

    See `predict` for what `path`, `column` and `encoding` can be.
    """

    def __init__(self, path: str, encoder: TextEncoder, column: str, encoding: str) -> None:
        self.path, self.encoder, self.column, self.encoding = path, encoder, column, encoding

    def __iter__(self) -> Iterator[Block | Exception]:
        try:
            for block in batches_of(self._reviews(), REVIEWS, lambda review: len(review[1])):
                rows, texts = map(list, zip(*block, strict=True))
                yield rows, self.encoder.encode(texts)
        except OSError as error:
            yield UserError(f"cannot read {self.path}: {error.strerror or error}")
        except Exception as error:  # DataLoader would raise a RuntimeError with a traceback in it
            yield error

    def _reviews(self) -> Iterator[tuple[Row, str]]:
        for number, row in enumerate(self._rows(), 1):
            yield row, text_of(row, self.column, f"{self.path}, data row {number}") or ""

    def _rows(self) -> Iterable[Row]:
        path = Path(self.path)
        if self.path == "-":
            return READERS[".txt"](sys.stdin.buffer, "standard input", self.encoding)
        if not path.is_dir():
            return read_rows(path, self.encoding)
        files = (file for file in sorted(path.glob("*.txt")) if not is_left_behind(file.name))
        return ({"file": file.name, "text": read_text(file, self.encoding)} for file in files)


def read_ahead(reviews: Input) -> Iterator[Block]:
    """Yield the blocks of `reviews`, read and encoded by a second process while the first computes.

    A thread would have to share the interpreter's lock with the network.

    Raises:
        UserError: A row cannot be read, or there is none.
    """
    block = None
    for block in DataLoader(
        reviews,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=int(reviews.path != "-"),  # a second process has no standard input
        worker_init_fn=_leave_signals_to_parent,
    ):
        if isinstance(block, Exception):
            raise block
        yield block
    if block is None:
        raise UserError(f"{reviews.path}: expected at least one review (a folder: in .txt files)")


def _unchanged(block: Any) -> Any:
    return block


def _leave_signals_to_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both processes
    # leave quietly, but release locks: the parent waits for those that both share
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
