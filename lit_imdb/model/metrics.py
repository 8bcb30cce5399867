"""Running loss and accuracy of the training steps since the last log line.

Shapes: B reviews.
"""

import torch
from torch import Tensor, nn


class RunningMetrics(nn.Module):
    """Mean loss and accuracy since `reset`; part of the checkpoint, so a resumed curve continues.

    The sums are neither parameters nor buffers: half precision would round buffers, and weight
    averaging would average them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.loss: Tensor | float = 0.0  # sum over reviews
        self.correct: Tensor | float = 0
        self.reviews = 0

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a step's mean loss, logits (B,) and labels (B,)."""
        wide = torch.float32 if loss.device.type == "mps" else torch.float64  # MPS has no float64
        self.loss = self.loss + loss.detach().to(wide) * len(labels)
        self.correct = self.correct + ((logits > 0) == (labels > 0)).sum()
        self.reviews += len(labels)

    def compute(self) -> dict[str, float]:
        """Return the mean `loss` and `acc`."""
        return {
            "loss": float(self.loss) / self.reviews,
            "acc": float(self.correct) / self.reviews,
        }

    def get_extra_state(self) -> Tensor:
        """Return what `state_dict` stores: the three sums."""
        sums = [float(self.loss), float(self.correct), self.reviews]
        return torch.tensor(sums, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        self.loss, self.correct, reviews = state.tolist()
        self.reviews = int(reviews)
