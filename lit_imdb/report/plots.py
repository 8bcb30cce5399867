"""The pictures: plain matplotlib, readable at the 300 pixels that TensorBoard shows.

Shapes: T tokens, L cells, W words, G groups of reviews.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor
from torchmetrics.functional.classification import binary_confusion_matrix, binary_roc

from lit_imdb.report.evaluation import Evaluation, Group, Run
from lit_imdb.report.trainability import SATURATED

Style = dict[str, Any]

# Colours that colour-blind people can tell apart; each has one meaning, in every picture.
SPLITS: dict[str, Style] = {
    "train": {"color": "#44AA99", "marker": "s", "linestyle": "--"},
    "val": {"color": "#AA4499", "marker": "o", "linestyle": "-"},
    "test": {"color": "#000000", "marker": "^", "linestyle": "-."},
}
CLASSES: dict[str, Style] = {
    "negative": {"color": "#D55E00", "linestyle": "--"},
    "positive": {"color": "#0072B2", "linestyle": "-"},
}
_CELLS: list[Style] = [{"color": "#000000"}, {"color": "#888888", "linestyle": "--"}]
_GUIDE: Style = {"color": "#777777", "linewidth": 1, "linestyle": ":"}


def curves(run: Run, name: str) -> Figure:
    """Loss or accuracy of training and validation, by epoch."""
    figure, axes = _empty("epoch", {"acc": "accuracy"}.get(name, name))
    history = run.history
    train = [{"epoch": number, **epoch} for number, epoch in enumerate(history.epochs, 1)]
    for split, rows in (("train", train), ("val", history.validations)):
        key = f"{split}/{name}"
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=split, **SPLITS[split])
    if history.keeps_best:
        axes.axvline(history.tested["epoch"], label="kept", **_GUIDE)
    axes.locator_params(axis="x", integer=True)
    axes.legend()
    return figure


def roc(run: Run) -> Figure:
    figure, axes = _empty("false positive rate", "true positive rate")
    axes.plot((0, 1), (0, 1), **_GUIDE)
    for split, evaluation in run.evaluations.items():
        false, true, _ = binary_roc(evaluation.probabilities, evaluation.labels)
        label, style = f"{split}, area {evaluation.roc_auc():.3f}", {**SPLITS[split], "marker": ""}
        axes.plot(false.numpy(), true.numpy(), label=label, **style)
    axes.legend()
    return figure


def reliability(run: Run) -> Figure:
    figure, axes = _empty("probability of positive", "share of positive")
    axes.plot((0, 1), (0, 1), **_GUIDE)
    for split, evaluation in run.evaluations.items():
        said, true = evaluation.reliability()
        label = f"{split}, error {evaluation.calibration_error():.3f}"
        axes.plot(said.numpy(), true.numpy(), label=label, **SPLITS[split])
    axes.legend()
    return figure


def confusion(run: Run) -> Figure:
    """How many test reviews of each label got each answer."""
    figure, axes = _empty("answer", "label")
    test = run.evaluations["test"]
    counts = binary_confusion_matrix(test.probabilities, test.labels)  # (2, 2)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Greys", vmin=0, vmax=2, aspect="auto")  # never too dark
    axes.set_xticks((0, 1), list(CLASSES))
    axes.set_yticks((0, 1), list(CLASSES), rotation="vertical", va="center")
    for label, answer in ((0, 0), (0, 1), (1, 0), (1, 1)):
        text = f"{int(counts[label, answer]):,}\n{float(shares[label, answer]):.0%}"
        axes.text(answer, label, text, ha="center", va="center")
    return figure


def probabilities(run: Run) -> Figure:
    figure, axes = _empty("probability of positive", "reviews")
    test = run.evaluations["test"]
    for label, (name, style) in enumerate(CLASSES.items()):
        chosen = test.probabilities[test.labels == label].numpy()
        axes.hist(chosen, bins=20, range=(0, 1), histtype="step", label=name, **style)
    axes.legend(loc="upper center")
    return figure


def groups(run: Run, x: str, by: Callable[[Evaluation], list[Group]]) -> Figure:
    """Accuracy of groups of reviews with its 95 % interval, the splits side by side."""
    figure, axes = _empty(x, "accuracy")
    for shift, (split, evaluation) in zip((0, 0.2), run.evaluations.items(), strict=True):
        found = by(evaluation)
        places = np.arange(len(found))
        accuracies = np.array([group.accuracy for group in found])  # (G,)
        ends = np.array([group.interval for group in found]).T  # (2, G)
        style = {**SPLITS[split], "linestyle": ""}
        axes.errorbar(places + shift, accuracies, abs(ends - accuracies), label=split, **style)
        axes.set_xticks(places + 0.1, [group.name for group in found])
    axes.margins(y=0.25)
    axes.legend(loc="lower center", ncols=2)
    return figure


def gradients(run: Run) -> Figure:
    return _by_token("norm, power of ten", run.trainability.gradients.clamp(min=1e-12).log10())


def saturated(run: Run) -> Figure:
    return _by_token(f"share with |h| > {SATURATED}", run.trainability.saturated, ylim=(-0.02, 1))


def word_space(run: Run) -> Figure:
    """The frequent words (W, 2), coloured by polarity; the probe words are written."""
    directions = "first principal direction", "second principal direction"
    figure, axes = _empty(*directions, xticks=(), yticks=())  # distances count, not places
    space = run.word_space
    points, polarity = space.plane().numpy(), space.polarity.numpy()
    axes.plot(*points.T, ".", markersize=4, color=_GUIDE["color"], label="neutral")
    for side, (name, style) in zip((polarity < 0.4, polarity > 0.6), CLASSES.items(), strict=True):
        axes.plot(*points[side].T, ".", markersize=4, color=style["color"], label=name)
    halo, size = [withStroke(linewidth=3, foreground="white")], np.ptp(points, axis=0)
    written: list[Any] = []
    for probe in space.probes:
        place = points[space.words.index(probe)]
        while any((abs(place - other) < size * (0.2, 0.06)).all() for other in written):
            place = place + size * (0, 0.02)  # not on top of another word
        written.append(place)
        axes.text(place[0], place[1], probe, ha="center", path_effects=halo)
    axes.legend(markerscale=2, loc="lower left")
    return figure


def _by_token(y: str, rows: Tensor, **settings: Any) -> Figure:
    """One line per cell (L, T)."""
    figure, axes = _empty("token, in reading order", y, **settings)
    for cell, row in enumerate(rows.numpy()):
        places = np.arange(1, len(row) + 1)
        axes.plot(places, row, label=f"cell{cell}", **_CELLS[cell % len(_CELLS)])
    axes.legend()
    return figure


def _empty(x: str, y: str, **settings: Any) -> tuple[Figure, Axes]:
    """A picture of 600 x 450 pixels, with letters of 10 pt; `settings` are of `Axes.set`."""
    figure = Figure(figsize=(4, 3), dpi=150)
    # fixed margins: matplotlib's own layouts draw everything twice
    axes = figure.add_axes((0.18, 0.17, 0.79, 0.73), xlabel=x, ylabel=y, **settings)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
