"""What is drawn on the sheets.

Shapes: T tokens, W words.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_imdb.callbacks.review.evaluation import Evaluation, Group
from lit_imdb.callbacks.review.figures import BLUE, GREEN, GREY, ORANGE, Sheet
from lit_imdb.callbacks.review.trainability import SATURATED, Trainability

LABELS = ("negative", "positive")


def evaluation_sheet() -> Sheet:
    sheet = Sheet(
        [
            ("ROC curve", "false positive rate", "true positive rate"),
            ("Reliability", "mean probability of positive", "share of positive reviews"),
            ("Confusion matrix", "answer", "label"),
            ("Probability by class", "probability of positive", "reviews"),
            ("Accuracy by length", "tokens read", "accuracy"),
            ("Accuracy by unknown words", "unknown words", "accuracy"),
        ],
        columns=3,
    )
    for axes in sheet.axes[:2]:
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    ticks = {"xticks": (0, 1), "yticks": (0, 1), "xticklabels": LABELS, "yticklabels": LABELS}
    sheet.axes[2].set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), **ticks)
    sheet.axes[2].tick_params(axis="y", labelrotation=90)
    sheet.axes[2].yaxis.labelpad = 8
    sheet.axes[3].set(xlim=(0, 1), xticks=(0, 0.5, 1))
    for axes in sheet.axes[4:]:
        axes.set(ylim=(0.4, 1.05), yticks=(0.5, 0.75, 1))
    return sheet


def draw_evaluation(sheet: Sheet, heading: str, evaluation: Evaluation) -> bytes:
    """The picture (PNG) of the reviews of one part."""
    sheet.clear(heading)
    roc, reliability, confusion, histogram, length, unknown = sheet.axes
    for axes in (roc, reliability):
        axes.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1)
    roc.plot(*evaluation.roc(), color=BLUE)
    roc.text(0.97, 0.06, f"area {evaluation.roc_auc():.3f}", ha="right", fontsize=9)
    said, true, _ = evaluation.reliability()
    seen = ~said.isnan()
    reliability.plot(said[seen], true[seen], color=BLUE, marker="o", markersize=4)
    error = f"calibration error {evaluation.calibration_error():.3f}"
    reliability.text(0.97, 0.06, error, ha="right", fontsize=9)
    counts = evaluation.confusion()
    confusion.imshow(counts, cmap="Blues", vmin=0, vmax=max(1, int(counts.max())), aspect="auto")
    for label, row in enumerate(counts.tolist()):
        for answer, count in enumerate(row):
            colour = "white" if count > int(counts.max()) / 2 else "black"
            confusion.text(answer, label, f"{count:,}", ha="center", va="center", color=colour)
    for label, colour, style in ((0, ORANGE, "--"), (1, BLUE, "-")):
        chosen = evaluation.probabilities[evaluation.labels == label].float()
        bars = torch.histc(chosen, 20, 0, 1).repeat_interleave(2)  # a staircase: (40,)
        edges = torch.linspace(0, 1, 21).repeat_interleave(2)[1:-1]
        histogram.plot(edges, bars, color=colour, linestyle=style)
        histogram.text(0.5, 0.92 - 0.1 * label, LABELS[label], color=colour, fontsize=9,
                       ha="center", transform=histogram.transAxes)  # fmt: skip
    histogram.relim()
    histogram.autoscale_view(scalex=False)
    _groups(length, evaluation.by_length())
    _groups(unknown, evaluation.by_unknown())
    return sheet.png()


def trainability_sheet() -> Sheet:
    flat = f"share of units with |h| > {SATURATED}"
    sheet = Sheet(
        [
            ("Gradient of the loss in each hidden state", "token (the last is read last)", "norm"),
            ("Saturated units", "token (the last is read last)", flat),
        ],
        columns=2,
    )
    sheet.axes[0].set_yscale("log")
    sheet.axes[1].set(ylim=(0, 1))
    return sheet


def draw_trainability(sheet: Sheet, heading: str, found: Trainability) -> bytes:
    sheet.clear(heading)
    for axes, rows in zip(sheet.axes, (found.gradients, found.saturated), strict=True):
        _two_cells(axes, rows)
    gradients = sheet.axes[0]
    gradients.relim()
    gradients.autoscale_view()
    return sheet.png()


def draw_curves(epochs: Sequence[dict[str, float]]) -> bytes:
    """Loss and accuracy of the whole run, from `History`'s epochs."""
    sheet = Sheet([("Loss", "epoch", "loss"), ("Accuracy", "epoch", "accuracy")], columns=2)
    sheet.clear("Training and validation")
    for axes, name in zip(sheet.axes, ("loss", "acc"), strict=True):
        for part, colour, marker in (("train", ORANGE, "s"), ("val", BLUE, "o")):
            points = [
                (e["epoch"] + 1, e[f"{part}/{name}"]) for e in epochs if f"{part}/{name}" in e
            ]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=part)
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False, fontsize=9)
    return sheet.png()


def draw_words(points: Tensor, shares: Tensor, names: dict[int, str]) -> bytes:
    """The frequent words (W, 2), coloured by polarity (W,); `names` says which are labelled."""
    sheet = Sheet([("", "first principal direction", "second principal direction")], columns=1)
    sheet.clear("Word space: the most frequent words, by their polarity in the training labels")
    axes = sheet.axes[0]
    kinds = (
        ("neutral", GREY, (shares >= 0.4) & (shares <= 0.6), "."),
        ("mostly in negative reviews", ORANGE, shares < 0.4, "v"),
        ("mostly in positive reviews", BLUE, shares > 0.6, "^"),
    )
    for name, colour, chosen, marker in kinds:
        x, y = points[chosen].t()
        axes.plot(x, y, marker, color=colour, markersize=3, alpha=0.6, label=name)
    width, height = (points.amax(0) - points.amin(0)).tolist()
    written: list[tuple[float, float]] = []
    for index, word in names.items():
        x, y = points[index].tolist()
        while any(abs(x - a) < 0.08 * width and abs(y - b) < 0.04 * height for a, b in written):
            y += 0.02 * height  # not on top of another word
        written.append((x, y))
        axes.text(x, y, word, fontsize=9, weight="bold")
    axes.legend(frameon=False, fontsize=9)
    return sheet.png()


def _two_cells(axes: Any, rows: Tensor) -> None:
    for row, colour, style, name in zip(
        rows, (BLUE, GREEN), ("-", "--"), ("first cell", "second cell"), strict=True
    ):
        axes.plot(range(1, len(row) + 1), row, color=colour, linestyle=style, label=name)
    axes.legend(frameon=False, fontsize=9)


def _groups(axes: Any, groups: Sequence[Group]) -> None:
    """Accuracy with its 95 % interval, and how many reviews stand behind it."""
    axes.set(xlim=(-0.5, len(groups) - 0.5), xticks=range(len(groups)))
    axes.set_xticklabels([group.name for group in groups])
    for x, group in enumerate(groups):
        spread = 1.96 * (group.accuracy * (1 - group.accuracy) / group.reviews) ** 0.5
        axes.plot((x, x), (group.accuracy - spread, group.accuracy + spread), color=BLUE)
        axes.plot(x, group.accuracy, "o", color=BLUE, markersize=5)
        axes.text(x, 0.42, f"{group.reviews:,}", ha="center", fontsize=7)
