"""What the answers to held-out reviews say, beyond loss and accuracy.

Shapes: N reviews, T tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from lit_imdb.data.loader import Split
from lit_imdb.data.text import PAD_ID, UNK_ID
from lit_imdb.model.network import SentimentRNN

_BINS = 10  # of the reliability diagram
_BLOCK = 512  # reviews evaluated at once


@dataclass(frozen=True)
class Group:
    """Reviews with at least `low` words of a kind, named after how many they may have."""

    low: int
    name: str
    reviews: int
    accuracy: float

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy, which holds for few reviews too."""
        z, n, p = 1.96, self.reviews, self.accuracy
        middle, spread = p + z * z / (2 * n), z * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
        return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


@dataclass(frozen=True)
class Evaluation:
    """Held-out reviews and the network's answers.

    Args:
        probabilities: Of a positive review (N,).
        labels: 0 or 1 (N,).
        ids: Token ids (N, T).
        rows: The reviews' numbers in their split (N,).
    """

    probabilities: Tensor
    labels: Tensor
    ids: Tensor
    rows: Tensor

    @classmethod
    def of(cls, split: Split, logits: list[Tensor], rows: Tensor) -> "Evaluation":
        """Evaluation of some rows of a split, from the logits of their batches."""
        probabilities = torch.sigmoid(torch.cat(logits).float()).cpu()
        return cls(probabilities, split.labels[rows].long(), split.ids[rows], rows)

    @property
    def right(self) -> Tensor:
        """Whether each answer is right (N,)."""
        return (self.probabilities > 0.5) == (self.labels > 0.5)

    @property
    def has_both_classes(self) -> bool:
        return 0 < int(self.labels.sum()) < len(self.labels)

    def roc_auc(self) -> float:
        """The chance that a positive review gets a higher probability than a negative one."""
        return float(binary_auroc(self.probabilities, self.labels))

    def calibration_error(self) -> float:
        """The mean gap between probability and share of positives: Guo et al. 2017 (1706.04599)."""
        return float(binary_calibration_error(self.probabilities, self.labels, n_bins=_BINS))

    def numbers(self, split: str) -> dict[str, float]:
        """Both of them, by tag; without the area where there are reviews of one class only."""
        numbers = {f"{split}/calibration_error": self.calibration_error()}
        if self.has_both_classes:
            numbers[f"{split}/roc_auc"] = self.roc_auc()
        return numbers

    def reliability(self) -> tuple[Tensor, Tensor]:
        """Mean probability and share of positive reviews in each bin that is not empty."""
        bins = (self.probabilities * _BINS).long().clamp(max=_BINS - 1)
        counts = torch.bincount(bins)
        sums = [torch.bincount(bins, each) for each in (self.probabilities, self.labels.float())]
        said, true = ((each / counts)[counts > 0] for each in sums)
        return said, true

    def by_length(self) -> list[Group]:
        """Accuracy by the number of words read, at most T."""
        longest = self.ids.shape[1]
        edges = sorted({1, longest // 4, longest // 2, 3 * longest // 4, longest} - {0})
        return self._groups((self.ids != PAD_ID).sum(1), edges)

    def by_unknown(self) -> list[Group]:
        """Accuracy by the number of words read that are not in the vocabulary."""
        return self._groups((self.ids == UNK_ID).sum(1), [0, 1, 2, 3, 5, 8])

    def extremes(self, count: int, right: bool) -> list[int]:
        """Positions of the most confident right or wrong answers, most confident first."""
        confidence = (self.probabilities - 0.5).abs()
        order = torch.where(self.right == right, confidence, -1).argsort(descending=True)
        return order[: min(count, int((self.right == right).sum()))].tolist()

    def _groups(self, values: Tensor, edges: list[int]) -> list[Group]:
        groups = []
        for low, end in zip(edges, [*edges[1:], self.ids.shape[1] + 1], strict=True):
            chosen = (values >= low) & (values < end)
            if count := int(chosen.sum()):
                name = str(low) if end == low + 1 else f"{low}-{end - 1}"
                groups.append(Group(low, name, count, float(self.right[chosen].double().mean())))
        return groups


def evaluate(net: SentimentRNN, split: Split) -> Evaluation:
    """Evaluation of a whole split, without dropout."""
    with torch.no_grad():
        blocks = [split.ids[start : start + _BLOCK] for start in range(0, len(split), _BLOCK)]
        logits = [
            net(ids.int().to(net.head.weight.device), [None] * len(net.cells)) for ids in blocks
        ]
    return Evaluation.of(split, logits, torch.arange(len(split)))
