"""Reviews to label: a file, a folder of .txt files, or standard input.

Shapes: B reviews, T tokens.
"""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from lit_imdb.data import tables
from lit_imdb.data.tables import Row
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
            blocks = tables.batches_of(self._reviews(), REVIEWS, lambda review: len(review[1]))
            for block in blocks:
                rows, texts = map(list, zip(*block, strict=True))
                yield rows, self.encoder.encode(texts)
        except Exception as error:  # DataLoader would raise a RuntimeError with a traceback in it
            yield error

    def _reviews(self) -> Iterator[tuple[Row, str]]:
        path = Path(self.path)
        if self.column != "text" and (self.path == "-" or path.is_dir()):
            raise UserError(f"--text_column {self.column}: {self.path} has no columns, only texts")
        if self.path == "-":
            lines = tables.File(sys.stdin.buffer, "standard input", self.encoding)
            for row in tables.READERS[".txt"](lines):
                yield row, row["text"]
        elif path.is_dir():
            for file in tables.texts_in(path):
                text = tables.read_text(file, self.encoding)
                yield {"file": file.name, "text": text}, text
        else:
            for row in tables.read_rows(path, self.encoding, self.column):
                yield row, row[self.column] or ""


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
