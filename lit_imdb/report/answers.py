"""How good the answers to held-out reviews are, in numbers and pictures.

Shapes: N reviews.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_calibration_error,
    binary_confusion_matrix,
)

from lit_imdb.data.loader import Split
from lit_imdb.data.text import PAD_ID
from lit_imdb.report.figures import CLASSES, GUIDE, new_figure

_BINS = 10  # of the reliability diagram
_FEW = 10  # reviews of a length that say nothing about it
LABELS = ("negative", "positive")


class Answers(NamedTuple):
    """A network's answers to some reviews of a split.

    Attributes:
        split: The split.
        rows: The reviews' numbers in it (N,).
        probabilities: Of a positive review (N,).
    """

    split: Split
    rows: Tensor
    probabilities: Tensor

    @classmethod
    def of(cls, trainer: Any, module: Any, name: str) -> "Answers":
        """Return what this process saw of a split: every `world_size`-th review of it."""
        logits = torch.cat([logits for logits, _ in module.evaluated])  # (N,)
        split = trainer.datamodule.splits[name]
        rows = torch.arange(trainer.global_rank, len(split), trainer.world_size)[: len(logits)]
        return cls(split, rows, torch.sigmoid(logits.float()).cpu())

    @property
    def labels(self) -> Tensor:
        return self.split.labels[self.rows].long()

    @property
    def right(self) -> Tensor:
        """Whether each answer is right (N,)."""
        return (self.probabilities > 0.5) == (self.labels > 0.5)

    def scalars(self) -> dict[str, float]:
        """Return a validation's area below the ROC curve and its expected calibration error."""
        answers = self.probabilities, self.labels
        error = binary_calibration_error(*answers, n_bins=_BINS)
        return {"val/roc_auc": float(binary_auroc(*answers)), "val/calibration_error": float(error)}

    def mistakes(self) -> list[int]:
        """Return places of the ten surest wrong answers, surest first."""
        sureness = (self.probabilities - 0.5).abs().where(~self.right, -1)
        return sureness.argsort(descending=True)[: min(10, int((~self.right).sum()))].tolist()


def draw_confusion(answers: Answers) -> Figure:
    """Draw how many reviews of each label got each answer."""
    figure, axes = new_figure("answer", "label")
    counts = binary_confusion_matrix(answers.probabilities, answers.labels)  # (2, 2)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Greys", vmin=0, vmax=2, aspect="auto")  # never too dark
    axes.set_xticks((0, 1), LABELS)
    axes.set_yticks((0, 1), LABELS, rotation="vertical", va="center")
    for label, answer in ((0, 0), (0, 1), (1, 0), (1, 1)):
        text = f"{float(shares[label, answer]):.0%}\n{int(counts[label, answer]):,}"
        axes.text(answer, label, text, ha="center", va="center", fontsize=14)
    return figure


def draw_probabilities(answers: Answers) -> Figure:
    """Draw how often each probability was given to reviews of each label."""
    figure, axes = new_figure("probability of positive", "reviews", xlim=(0, 1))
    for label, style in enumerate(CLASSES):
        chosen = answers.probabilities[answers.labels == label].numpy()
        axes.hist(chosen, bins=20, range=(0, 1), histtype="step", linewidth=2, **style)
    axes.legend(loc="upper center")
    return figure


def draw_reliability(answers: Answers) -> Figure:
    """Draw the share of positive reviews by the probability that they got."""
    figure, axes = new_figure("probability of positive", "share that is positive")
    axes.plot((0, 1), (0, 1), **GUIDE, label="ideal")
    bins = (answers.probabilities * _BINS).long().clamp(max=_BINS - 1)
    counts = torch.bincount(bins)
    said, true = (
        (torch.bincount(bins, values) / counts)[counts > 0]
        for values in (answers.probabilities, answers.labels.float())
    )
    axes.plot(said.numpy(), true.numpy(), color="black", marker="o", label="test")
    axes.legend()
    return figure


def draw_by_length(answers: Answers) -> Figure | None:
    """Draw the accuracy by the number of words read; None if there are too few reviews."""
    figure, axes = new_figure("words read (number of reviews)", "accuracy", xmargin=0.15)
    axes.set_position((0.2, 0.23, 0.77, 0.74))  # a second line below the axis
    axes.yaxis.set_major_formatter("{x:.0%}")
    ids = answers.split.ids[answers.rows]
    words, longest = (ids != PAD_ID).sum(1), ids.shape[1]
    edges = sorted({1, longest // 4, longest // 2, 3 * longest // 4, longest} - {0})
    for low, end in pairwise([*edges, longest + 1]):
        right = answers.right[(words >= low) & (words < end)].double()
        if len(right) >= _FEW:
            name = str(low) if end == low + 1 else f"{low}-{end - 1}"
            place = f"{name}\n({len(right):,})"
            accuracy = float(right.mean())
            ends = interval(accuracy, len(right))
            axes.plot((place, place), ends, color="black", marker="_", markersize=10)
            axes.plot(place, accuracy, "o", color="black")
    return figure if axes.has_data() else None


def interval(accuracy: float, reviews: int) -> tuple[float, float]:
    """Return Wilson's 95% interval, which holds for few reviews too."""
    z, n, p = 1.96, reviews, accuracy
    middle, spread = p + z * z / (2 * n), z * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)
