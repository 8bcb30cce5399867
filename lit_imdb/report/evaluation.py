"""What a panel of the report may show: a run, and its answers to held-out reviews.

Shapes: N reviews, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.loader import Split
from lit_imdb.data.text import PAD_ID, UNK_ID
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report.trainability import Trainability, measure_part
from lit_imdb.report.words import WordSpace, word_space
from lit_imdb.training.history import History

_BINS = 10  # of the reliability diagram


class Group(NamedTuple):
    """Reviews with some number of words of a kind; the accuracy of none is NaN."""

    name: str
    reviews: int
    accuracy: float

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy, which holds for few reviews too."""
        z, n, p = 1.96, max(self.reviews, 1), self.accuracy
        middle, spread = p + z * z / (2 * n), z * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
        return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


@dataclass(frozen=True)
class Evaluation:
    """The network's answers to some reviews of a split.

    Attributes:
        part: The split.
        rows: The reviews' numbers in it (N,).
        probabilities: Of a positive review (N,).
    """

    part: Split
    rows: Tensor
    probabilities: Tensor

    @property
    def labels(self) -> Tensor:
        return self.part.labels[self.rows].long()

    @property
    def ids(self) -> Tensor:
        return self.part.ids[self.rows]

    @property
    def right(self) -> Tensor:
        """Whether each answer is right (N,)."""
        return (self.probabilities > 0.5) == (self.labels > 0.5)

    def roc_auc(self) -> float:
        """Return the chance that a positive review gets a higher probability than a negative."""
        return float(binary_auroc(self.probabilities, self.labels))

    def calibration_error(self) -> float:
        """Return the mean gap between probability and share of positives (arXiv 1706.04599)."""
        return float(binary_calibration_error(self.probabilities, self.labels, n_bins=_BINS))

    def reliability(self) -> tuple[Tensor, Tensor]:
        """Return mean probability and share of positive reviews in each bin that is not empty."""
        bins = (self.probabilities * _BINS).long().clamp(max=_BINS - 1)
        counts = torch.bincount(bins)
        sums = [torch.bincount(bins, each) for each in (self.probabilities, self.labels.float())]
        said, true = ((each / counts)[counts > 0] for each in sums)
        return said, true

    def by_length(self) -> list[Group]:
        """Return the accuracy by the number of words read, at most T."""
        longest = self.ids.shape[1]
        edges = {1, longest // 4, longest // 2, 3 * longest // 4, longest} - {0}
        return self._groups((self.ids != PAD_ID).sum(1), sorted(edges))

    def by_unknown(self) -> list[Group]:
        """Return the accuracy by the number of words read that are not in the vocabulary."""
        return self._groups((self.ids == UNK_ID).sum(1), [0, 1, 2, 3, 5, 8])

    def mistakes(self) -> list[int]:
        """Return places of the ten surest wrong answers, surest first."""
        sureness = (self.probabilities - 0.5).abs().where(~self.right, -1)
        wrong = int((~self.right).sum())
        return sureness.argsort(descending=True)[: min(10, wrong)].tolist()

    def _groups(self, words: Tensor, edges: list[int]) -> list[Group]:
        longest, groups = self.ids.shape[1], []
        edges = [edge for edge in edges if edge <= longest]
        for low, end in zip(edges, [*edges[1:], longest + 1], strict=True):
            right = self.right[(words >= low) & (words < end)].double()
            name = str(low) if end == low + 1 else f"{low}-{end - 1}"
            groups.append(Group(name, len(right), float(right.mean())))
        return groups


@dataclass(frozen=True)
class Run:
    """A training run, after a validation or at its end.

    Attributes:
        net: At the end with the weights that are kept.
        data: The splits and the vocabulary.
        history: The metrics of each epoch and validation.
        evaluations: The answers to the split `val`, and at the end to `test`.
    """

    net: SentimentRNN
    data: ImdbDataModule
    history: History
    evaluations: Mapping[str, Evaluation]

    @cached_property
    def trainability(self) -> Trainability:
        return measure_part(self.net, self.data.splits["val"])

    @cached_property
    def word_space(self) -> WordSpace:
        return word_space(self.net, self.data.encoder.vocabulary, self.data.splits["train"])


def evaluate(net: SentimentRNN, part: Split) -> Evaluation:
    """Evaluate a whole split, without dropout."""
    with torch.no_grad():
        logits = [
            net(ids.int().to(net.head.weight.device), [None] * len(net.cells))
            for ids in torch.split(part.ids, 512)
        ]
    probabilities = torch.sigmoid(torch.cat(logits).float()).cpu()
    return Evaluation(part, torch.arange(len(part)), probabilities)
