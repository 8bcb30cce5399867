"""Batches in an order that is a function of (seed, epoch), from a position that can be restored.

A `DataLoader` costs far more per batch and cannot resume in mid-epoch.

Shapes: B reviews, T tokens, N reviews of the split.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lit_imdb.data.encoded import Part

Batch = tuple[Tensor, Tensor]


class BatchLoader:
    """Iterates over (ids (B, T) int32, labels (B,) float32).

    Of several processes each takes every `world`-th review: no padding and no duplicates.

    Args:
        part: The reviews of one split.
        batch_size: B.
        seed: Of the order, which is another one in each epoch; the last partial batch is dropped.
            None keeps the order of the reviews and drops nothing.
        rank: The number of this process among `world`.
        world: How many processes share the reviews.
        reshuffle: False keeps the first epoch's order for all.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        reshuffle: bool = True,
    ) -> None:
        self.part = part
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world = rank, world
        self.reshuffle = reshuffle
        self.epoch = 0
        self.position = 0  # batches given in this epoch
        self._start = 0  # where the next epoch begins: after a restored position, not at 0

    batch_sampler = None

    @property
    def sampler(self) -> "BatchLoader":
        """This loader: Lightning calls `sampler.set_epoch`, and reads `batch_sampler` before."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch if self.reshuffle else 0

    def order(self) -> Tensor:
        """Return the row numbers of this process in the order of this epoch."""
        if self.seed is None:
            rows = torch.arange(len(self.part))
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            rows = torch.randperm(len(self.part), generator=generator)
        return rows[self.rank :: self.world]

    def __len__(self) -> int:
        if self.seed is not None:  # training: each process takes the same number of steps
            return len(self.part) // (self.batch_size * self.world)
        rows = len(range(self.rank, len(self.part), self.world))
        return math.ceil(rows / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        batches = torch.split(self.order(), self.batch_size)
        self.position, self._start = self._start, 0
        for rows in islice(batches, self.position, len(self)):  # rows (B,)
            self.position += 1
            ids = self.part.ids.index_select(0, rows)  # (B, T)
            yield ids.int(), self.part.labels[rows].float()

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self._start = state["seed"], state["position"]
