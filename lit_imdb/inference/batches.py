"""Batches to predict, cut so that several processes together keep the order of the rows.

Every process reads all rows, 512 for each process a step, and encodes its own share of them; the
answers of a step are gathered before the next.

Shapes: B reviews of one process, T tokens, N reviews of the part.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_imdb.data.encoded import Part
from lit_imdb.data.tables import MAX_CHARACTERS, Row
from lit_imdb.data.text import TextEncoder
from lit_imdb.inference.background import in_background
from lit_imdb.inference.inputs import Input

REVIEWS = 512  # of one process in a step: 128 to 1024 are equally fast


class PredictBatch(NamedTuple):
    """One step.

    Attributes:
        ids: This process's share (B, T), int32; the last process's may end in empty reviews.
        rows: The rows of all processes, in order.
        done: Share of the input read so far, 0 to 1; None where nobody knows.
    """

    ids: Tensor
    rows: list[Row]
    done: float | None

    def to(self, device: Any, **kwargs: Any) -> "PredictBatch":
        """Lightning calls this, and so leaves the rows alone: walking through them is slow."""
        return self._replace(ids=self.ids.to(device, **kwargs))


class FileBatches:
    """The reviews of an `Input`.

    Args:
        reviews: Where they come from.
        encoder: What turned texts into ids in training.
        rank: This process's number among `world`.
        world: How many processes share the work.
    """

    def __init__(self, reviews: Input, encoder: TextEncoder, rank: int, world: int) -> None:
        self.reviews, self.encoder = reviews, encoder
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[PredictBatch]:
        # a second process would have no standard input
        alone = self.reviews.is_standard_input
        steps = self._steps() if alone else in_background(self._steps)
        for ids, rows, done in steps:
            yield PredictBatch(_filled(torch.from_numpy(ids), len(rows), self.world), rows, done)

    def _steps(self) -> Iterator[tuple[np.ndarray, list[Row], float | None]]:
        """This process's ids, everybody's rows, and the share of the input read."""
        step: list[Row] = []
        texts: list[str] = []
        held = 0  # characters: a step of huge reviews is shorter, so that it fits in memory
        for number, row in enumerate(self.reviews, 1):
            # every row, not this process's alone: a bad one stops all of them
            text = self.reviews.text_of(row, number)
            step.append(row)
            texts.append(text)
            held += len(text)
            if len(step) == REVIEWS * self.world or held >= MAX_CHARACTERS:
                yield self._encoded(step, texts)
                step, texts, held = [], [], 0
        if step:
            yield self._encoded(step, texts)

    def _encoded(
        self, rows: list[Row], texts: list[str]
    ) -> tuple[np.ndarray, list[Row], float | None]:
        share = _share(len(rows), self.rank, self.world)
        return self.encoder.encode(texts[share]), rows, self.reviews.done


class PartBatches:
    """The reviews of a prepared part; its rows have no columns of their own."""

    def __init__(self, part: Part, rank: int, world: int) -> None:
        self.part = part
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[PredictBatch]:
        total = len(self.part)
        for start in range(0, total, REVIEWS * self.world):
            count = min(REVIEWS * self.world, total - start)
            ids = self.part.ids[start : start + count][_share(count, self.rank, self.world)]
            rows: list[Row] = [{} for _ in range(count)]
            yield PredictBatch(_filled(ids, count, self.world), rows, (start + count) / total)


def _share(count: int, rank: int, world: int) -> slice:
    """Which of `count` rows are this process's; only the last ones' shares are shorter."""
    size = -(-count // world)
    return slice(rank * size, (rank + 1) * size)


def _filled(ids: Tensor, count: int, world: int) -> Tensor:
    """`ids` (n, T) as int32 (B, T): with empty reviews up to the longest share of `count` rows."""
    missing = -(-count // world) - len(ids)
    return torch.cat([ids.int(), torch.zeros(missing, ids.shape[1], dtype=torch.int32)])
