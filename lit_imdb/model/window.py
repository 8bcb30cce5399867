"""Loss and accuracy of the training steps since the last line in the log.

Shapes: B reviews.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_MOST_WAITING = 100  # steps whose logits are kept, however far apart the lines in the log are


class Window:
    """Keeps what a step says, and sums it up when somebody asks: at each step it would take 0.1 ms.

    Args:
        sums: Of the steps before, of a run that goes on: what `sums` was.
    """

    def __init__(self, sums: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
        self._losses, self._right, self._reviews = sums
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """A step's mean loss, logits (B,) and labels (B,)."""
        # a copy: callbacks may add to the loss in place
        self._waiting.append((loss.detach().clone(), logits.detach(), labels))
        if len(self._waiting) == _MOST_WAITING:
            self._sum_up()

    @property
    def sums(self) -> list[float]:
        """The sum of all losses, the right answers, the reviews."""
        self._sum_up()
        return [self._losses, self._right, self._reviews]

    @property
    def means(self) -> tuple[float, float]:
        """Loss and accuracy."""
        losses, right, reviews = self.sums
        return losses / reviews, right / reviews

    def _sum_up(self) -> None:
        if not self._waiting:
            return
        losses, logits, labels = zip(*self._waiting, strict=True)
        right = (torch.cat(logits) > 0) == (torch.cat(labels) > 0)
        self._right += float(right.sum())
        # one after the other: the sum must not depend on when it is made
        for loss, some in zip(torch.stack(losses).tolist(), labels, strict=True):
            self._losses += loss * len(some)
            self._reviews += len(some)
        self._waiting.clear()
