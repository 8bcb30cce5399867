"""What the logits of held-out reviews say, beyond loss and accuracy.

Shapes: N reviews, T tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_imdb.data.text import PAD_ID, UNK_ID

BINS = 10  # of the reliability diagram


@dataclass(frozen=True)
class Group:
    """Some reviews that have something in common."""

    name: str
    reviews: int
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Held-out reviews and what the network says of them.

    Args:
        probabilities: Of a positive review (N,).
        labels: 0 or 1 (N,).
        rows: Their numbers in the part (N,).
        ids: Their token ids (N, T).
    """

    probabilities: Tensor
    labels: Tensor
    rows: Tensor
    ids: Tensor

    @property
    def right(self) -> Tensor:
        """Whether each answer is right (N,)."""
        return (self.probabilities > 0.5) == (self.labels > 0.5)

    def roc(self) -> tuple[Tensor, Tensor]:
        """False and true positive rates, from 0 to 1, one point per distinct probability."""
        order = self.probabilities.argsort(descending=True)
        positive = self.labels[order].double()  # (N,)
        last_of_ties = torch.ones(len(order), dtype=torch.bool)
        last_of_ties[:-1] = self.probabilities[order].diff() != 0
        rates = []
        for hits in (1 - positive, positive):
            counts = hits.cumsum(0)[last_of_ties] / hits.sum().clamp(min=1)
            rates.append(torch.cat([counts.new_zeros(1), counts]))
        return rates[0], rates[1]

    def roc_auc(self) -> float:
        """The chance that a positive review gets a higher probability than a negative one."""
        false, true = self.roc()
        return float(torch.trapezoid(true, false))

    def confusion(self) -> Tensor:
        """Counts (2, 2): rows are the labels, columns the answers, negative first."""
        answers = (self.probabilities > 0.5).long()
        return torch.bincount(2 * self.labels.long() + answers, minlength=4).view(2, 2)

    def reliability(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean probability, share of positive reviews and count, each (BINS,); empty bins NaN."""
        bins = (self.probabilities * BINS).long().clamp(max=BINS - 1)
        counts = torch.bincount(bins, minlength=BINS).double()
        said = torch.bincount(bins, self.probabilities.double(), minlength=BINS) / counts
        true = torch.bincount(bins, self.labels.double(), minlength=BINS) / counts
        return said, true, counts

    def calibration_error(self) -> float:
        """Expected calibration error: the mean gap between probability and share of positives.

        Guo et al. 2017 (arXiv 1706.04599), with the probability of the positive class.
        """
        said, true, counts = self.reliability()
        return float(((said - true).abs().nan_to_num() * counts).sum() / counts.sum())

    def by_length(self) -> list[Group]:
        """Accuracy by how many tokens the network reads: T at most."""
        longest = self.ids.shape[1]
        edges = sorted({1, longest // 4, longest // 2, 3 * longest // 4, longest} - {0})
        return self._groups((self.ids != PAD_ID).sum(1), edges, longest)

    def by_unknown(self) -> list[Group]:
        """Accuracy by how many of the tokens are not in the vocabulary."""
        return self._groups((self.ids == UNK_ID).sum(1), [0, 1, 2, 3, 5, 8], None)

    def extremes(self, count: int, right: bool) -> list[int]:
        """Positions of the `count` most confident right or wrong answers, most confident first."""
        confidence = (self.probabilities - 0.5).abs()
        order = torch.where(self.right == right, confidence, -1).argsort(descending=True)
        return order[: min(count, int((self.right == right).sum()))].tolist()

    def _groups(self, values: Tensor, edges: list[int], last: int | None) -> list[Group]:
        groups = []
        for low, high in zip(edges, [*edges[1:], None], strict=True):
            chosen = (values >= low) & (True if high is None else values < high)
            if count := int(chosen.sum()):
                if high is None:
                    name = str(low) if low == last else f"{low}+"
                else:
                    name = str(low) if high == low + 1 else f"{low}-{high - 1}"
                groups.append(Group(name, count, float(self.right[chosen].double().mean())))
        return groups
