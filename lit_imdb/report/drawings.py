"""What is drawn on the sheets.

Shapes: T tokens, W words.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_imdb.report.evaluation import Evaluation, Group
from lit_imdb.report.figures import BLUE, GREEN, GREY, ORANGE, Sheet, line
from lit_imdb.report.trainability import SATURATED, Trainability

LABELS = ("negative", "positive")
_OF_CELL = ((BLUE, "-"), (GREEN, "--"), (ORANGE, ":"))
_NORMS = (-8, 2)  # powers of ten that the gradient's axis shows; others lie on its edge


def evaluation_sheet() -> Sheet:
    sheet = Sheet(
        [
            ("ROC curve", "false positive rate", "true positive rate"),
            ("Reliability", "mean probability of positive", "share of positive reviews"),
            ("Confusion matrix", "answer", "label"),
            ("Probability by class", "probability of positive", "share of the class"),
            ("Accuracy by length", "tokens read / reviews", "accuracy"),
            ("Accuracy by unknown words", "unknown words / reviews", "accuracy"),
        ],
        columns=3,
    )
    unit = {"xlim": (0, 1), "ylim": (0, 1), "xticks": (0, 0.5, 1), "yticks": (0, 0.5, 1)}
    for axes in (*sheet.axes[:2], sheet.axes[3]):
        axes.set(**unit)
    ticks = {"xticks": (0, 1), "yticks": (0, 1), "xticklabels": LABELS, "yticklabels": LABELS}
    sheet.axes[2].set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), **ticks)
    sheet.axes[2].tick_params(axis="y", labelrotation=90)
    sheet.axes[2].yaxis.labelpad = 8
    for axes in sheet.axes[4:]:
        axes.set(ylim=(0.4, 1), yticks=(0.5, 0.75, 1), xticks=())
        axes.xaxis.labelpad = 28  # room for the names of groups
    return sheet


def draw_evaluation(sheet: Sheet, heading: str, evaluation: Evaluation) -> bytes:
    """The picture (PNG) of the reviews of one part."""
    sheet.begin(heading)
    roc, reliability, confusion, histogram, length, unknown = sheet.axes
    for axes in (roc, reliability):
        line(axes, (0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1)
    line(roc, *evaluation.roc(), color=BLUE)
    roc.text(0.97, 0.06, f"area {evaluation.roc_auc():.3f}", ha="right", fontsize=9)
    said, true, _ = evaluation.reliability()
    seen = ~said.isnan()
    line(reliability, said[seen], true[seen], color=BLUE, marker="o", markersize=4)
    error = f"calibration error {evaluation.calibration_error():.3f}"
    reliability.text(0.97, 0.06, error, ha="right", fontsize=9)
    _confusion(confusion, evaluation.confusion())
    for label, colour, style in ((0, ORANGE, "--"), (1, BLUE, "-")):
        chosen = evaluation.probabilities[evaluation.labels == label].float()
        shares = torch.histc(chosen, 20, 0, 1) / max(1, len(chosen))  # (20,)
        edges = torch.linspace(0, 1, 21).repeat_interleave(2)[1:-1]  # a staircase: (40,)
        line(histogram, edges, shares.repeat_interleave(2), color=colour, linestyle=style)
        histogram.text(
            0.5, 0.88 - 0.1 * label, LABELS[label], color=colour, fontsize=9, ha="center"
        )
    _groups(length, evaluation.by_length())
    _groups(unknown, evaluation.by_unknown())
    return sheet.png()


def trainability_sheet(tokens: int) -> Sheet:
    """For reviews of so many tokens."""
    flat = f"share of units with |h| > {SATURATED}"
    sheet = Sheet(
        [
            ("Gradient of the loss in each hidden state", "token (the last is read last)", "norm"),
            ("Saturated units", "token (the last is read last)", flat),
        ],
        columns=2,
    )
    powers = range(_NORMS[0], _NORMS[1] + 1, 2)
    # matplotlib's own logarithmic axis takes ten times as long
    names = [f"1e{power}" for power in powers]
    sheet.axes[0].set(ylim=_NORMS, yticks=powers, yticklabels=names)
    sheet.axes[1].set(ylim=(0, 1), yticks=(0, 0.5, 1))
    for axes in sheet.axes:
        axes.set(xlim=(0, tokens + 1), xticks=(1, tokens // 2, tokens))
    return sheet


def draw_trainability(sheet: Sheet, heading: str, found: Trainability) -> bytes:
    sheet.begin(heading)
    powers = found.gradients.clamp(min=10.0 ** _NORMS[0]).log10().clamp(max=_NORMS[1])
    for axes, rows, top in zip(sheet.axes, (powers, found.saturated), (_NORMS[1], 1), strict=True):
        step = 0.06 * (axes.get_ylim()[1] - axes.get_ylim()[0])
        for cell, row in enumerate(rows):
            colour, style = _OF_CELL[cell % len(_OF_CELL)]
            line(axes, range(1, len(row) + 1), row, color=colour, linestyle=style)
            axes.text(2, top - (cell + 1) * step, f"cell{cell}", color=colour, fontsize=10)
    return sheet.png()


def draw_curves(
    epochs: Sequence[dict[str, float]], validations: Sequence[dict[str, float]]
) -> bytes:
    """Loss and accuracy of the whole run, from `History`'s epochs and validations."""
    sheet = Sheet([("Loss", "epoch", "loss"), ("Accuracy", "epoch", "accuracy")], columns=2)
    train = [{"epoch": number, **figures} for number, figures in enumerate(epochs, 1)]
    parts = (("train", train, ORANGE, "s"), ("val", validations, BLUE, "o"))
    losses = [row.get(f"{part}/loss", 0) for part, rows, *_ in parts for row in rows]
    highest = max(losses, default=0) or 1
    first, last = min([1, *(row["epoch"] for row in validations)]), len(epochs)
    ticks = range(1, last + 1, max(1, math.ceil(last / 8)))
    for axes, top in zip(sheet.axes, (1.1 * highest, 1), strict=True):
        axes.set(xlim=(0.8 * first, 1.1 * last + 0.2), xticks=ticks, ylim=(0, top))
        axes.locator_params(axis="y", nbins=5)
    sheet.begin("Training and validation; training has dropout, and its last window is shown")
    for axes, name in zip(sheet.axes, ("loss", "acc"), strict=True):
        for part, rows, colour, marker in parts:
            key = f"{part}/{name}"
            points = [(row["epoch"], row[key]) for row in rows if key in row]
            if points:
                line(axes, *zip(*points, strict=True), color=colour, marker=marker, markersize=5)
                axes.annotate(part, points[-1], (6, 2), textcoords="offset points",
                              color=colour)  # fmt: skip
    return sheet.png()


def draw_words(points: Tensor, shares: Tensor, names: dict[int, str]) -> bytes:
    """The frequent words (W, 2), coloured by polarity (W,); `names` says which are labelled."""
    sheet = Sheet([("", "first principal direction", "second principal direction")], columns=1)
    axes = sheet.axes[0]
    (left, low), (right, high) = points.amin(0).tolist(), points.amax(0).tolist()
    width, height = max(right - left, 1e-9), max(high - low, 1e-9)
    axes.set(xlim=(left, right + 0.05 * width), ylim=(low, high + 0.15 * height))
    axes.set(xticks=(0,), yticks=(0,))  # distances count, not places
    sheet.begin("Word space: the most frequent words, by their polarity in the training labels")
    kinds = (
        ("neutral", GREY, (shares >= 0.4) & (shares <= 0.6), "."),
        ("mostly in negative reviews", ORANGE, shares < 0.4, "v"),
        ("mostly in positive reviews", BLUE, shares > 0.6, "^"),
    )
    for row, (name, colour, chosen, marker) in enumerate(kinds):
        style = {"linestyle": "", "marker": marker, "markersize": 3, "color": colour}
        line(axes, *points[chosen].t(), **style)
        y = high + (0.1 - 0.05 * row) * height
        axes.text(right + 0.04 * width, y, name, color=colour, fontsize=9, ha="right")
    written: list[tuple[float, float]] = []
    for index, word in names.items():
        x, y = points[index].tolist()
        while any(abs(x - a) < 0.08 * width and abs(y - b) < 0.04 * height for a, b in written):
            y += 0.02 * height  # not on top of another word
        written.append((x, y))
        axes.text(x, y, word, fontsize=10)
    return sheet.png()


def _confusion(axes: Any, counts: Tensor) -> None:
    from matplotlib.patches import Rectangle

    most = max(1, int(counts.max()))
    for label, row in enumerate(counts.tolist()):
        for answer, count in enumerate(row):
            corner = (answer - 0.5, label - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=BLUE, alpha=count / most))
            colour = "white" if count > most / 2 else "black"
            axes.text(answer, label, f"{count:,}", ha="center", va="center", color=colour)


def _groups(axes: Any, groups: Sequence[Group]) -> None:
    """Accuracy with its 95 % interval, and how many reviews stand behind it."""
    places = [(index + 0.5) / len(groups) for index in range(len(groups))]  # of the axis
    for x, group in zip(places, groups, strict=True):
        spread = 1.96 * (group.accuracy * (1 - group.accuracy) / group.reviews) ** 0.5
        line(axes, (x, x), (group.accuracy - spread, group.accuracy + spread), color=BLUE)
        axes.text(x, 0.385, f"{group.name}\n{group.reviews:,}", ha="center", va="top", fontsize=7)
    accuracies = [group.accuracy for group in groups]
    line(axes, places, accuracies, linestyle="", marker="o", color=BLUE, markersize=5)
