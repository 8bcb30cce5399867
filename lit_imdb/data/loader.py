"""Batches in an order that is a function of (seed, epoch), from a position that can be restored.

A `DataLoader` costs far more per batch and cannot resume in mid-epoch.

Shapes: B reviews, T tokens, N reviews of the split.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEPT_BYTES = 1000  # of each held-out text, its end: what the report shows of it
Batch = tuple[Tensor, Tensor]


class Split:
    """The encoded reviews of `train`, `val` or `test`, read from disk when a batch needs them.

    Attributes:
        ids: int32 (N, T).
        labels: int8 (N,).
    """

    def __init__(self, folder: Path, name: str, max_length: int) -> None:
        # "c": pages are copied when written, since torch wants writable memory
        ids = np.memmap(folder / f"{name}.ids", np.int32, "c").reshape(-1, max_length)
        self.ids: Tensor = torch.from_numpy(ids)
        self.labels: Tensor = torch.from_numpy(np.fromfile(folder / f"{name}.labels", np.int8))
        self._texts = folder / f"{name}.texts"

    def __len__(self) -> int:
        return len(self.labels)

    def text(self, index: int) -> str:
        """Return the last `KEPT_BYTES` bytes of a held-out review."""
        text: bytes = np.memmap(self._texts, f"S{KEPT_BYTES}", "r")[index]
        return text.decode(errors="ignore")  # it may begin within a character


class BatchLoader:
    """Iterates over (ids (B, T) int32, labels (B,) float32).

    Of several processes each takes every `world`-th review: no padding and no duplicates.

    Args:
        split: The reviews.
        batch_size: B; a smaller split is one batch.
        seed: Of the order, which is another one in each epoch; the last partial batch is dropped.
            None keeps the order of the reviews and drops nothing.
        rank: The number of this process among `world`.
        world: How many processes share the reviews.
        reshuffle: False keeps the first epoch's order for all.
    """

    batch_sampler = None  # Lightning looks for a sampler that it would replace

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        reshuffle: bool = True,
    ) -> None:
        self.split = split
        full = max(1, len(split) // world)  # the most that every process has
        self.batch_size = batch_size if seed is None else min(batch_size, full)
        self.seed, self.reshuffle = seed, reshuffle
        self.rank, self.world = rank, world
        self.epoch = 0
        self.position = 0  # batches given in this epoch
        self._start = 0  # the next epoch's first batch: 0, or the restored position

    @property
    def sampler(self) -> "BatchLoader":
        """This loader: Lightning calls `sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch if self.reshuffle else 0

    def order(self) -> Tensor:
        """Return the row numbers of this process in the order of this epoch."""
        rows = torch.arange(len(self.split))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            rows = torch.randperm(len(self.split), generator=generator)
        return rows[self.rank :: self.world]

    def __len__(self) -> int:
        if self.seed is not None:  # training: each process takes the same number of steps
            return len(self.split) // (self.batch_size * self.world)
        return math.ceil(len(range(self.rank, len(self.split), self.world)) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        batches = torch.split(self.order(), self.batch_size)
        self.position, self._start = self._start, 0
        for rows in islice(batches, self.position, len(self)):  # rows (B,)
            self.position += 1
            yield self.split.ids.index_select(0, rows), self.split.labels[rows].float()

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self._start = state["seed"], state["position"]
