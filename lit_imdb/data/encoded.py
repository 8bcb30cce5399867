"""Encoded reviews, opened from disk: nothing is read until a batch needs it.

Shapes: N reviews, T tokens.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_imdb.data.text import TextEncoder


class Part:
    """The encoded reviews of one split.

    Args:
        folder: Where `Preparation` wrote them.
        name: `train`, `val` or `test`.
        encoder: The one that encoded them.

    Attributes:
        ids: int16 (N, T), or int32 with a large vocabulary.
        labels: int8 (N,).
    """

    def __init__(self, folder: Path, name: str, encoder: TextEncoder) -> None:
        labels = np.load(folder / f"{name}.labels.npy")
        shape = (len(labels), encoder.max_length)
        # "c": pages are copied when written, since torch wants writable memory
        ids = np.memmap(folder / f"{name}.ids", encoder.dtype, "c", shape=shape)
        self.ids: Tensor = torch.from_numpy(ids)
        self.labels: Tensor = torch.from_numpy(labels)
        self._ends = np.load(folder / f"{name}.ends.npy")
        self._texts = folder / f"{name}.texts"

    def __len__(self) -> int:
        return len(self.labels)

    def text(self, index: int) -> str:
        """Return the last `SHOWN_CHARACTERS` of a held-out review."""
        start, end = self._ends[index : index + 2].tolist()
        with self._texts.open("rb") as file:
            file.seek(start)
            return file.read(end - start).decode("utf-8", "surrogatepass")
