"""What panels are made of: tables, and plain matplotlib, readable at TensorBoard's 300 pixels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lit_imdb.training.history import History

Words = list[tuple[str, float]]  # each with its influence: above 0 it speaks for positive


class Table(NamedTuple):
    """Rows of texts, and of words that are coloured by their influence."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Words]]


Style = dict[str, Any]

# Colours that colour-blind people can tell apart; each has one meaning, in every picture.
TRAIN: Style = {"color": "#44AA99", "marker": "s", "linestyle": "--", "label": "train"}
VAL: Style = {"color": "#AA4499", "marker": "o", "label": "validation"}
CLASSES: tuple[Style, Style] = (
    {"color": "#D55E00", "linestyle": "--", "label": "negative"},
    {"color": "#0072B2", "linestyle": "-", "label": "positive"},
)
CELLS: tuple[Style, ...] = ({"color": "#000000"}, {"color": "#888888", "linestyle": "--"})
GUIDE: Style = {"color": "#777777", "linewidth": 1, "linestyle": ":"}


def new_figure(x: str, y: str, **settings: Any) -> tuple[Figure, Axes]:
    """Return a picture of 600 x 450 pixels with letters of 10 pt; `settings` are of `Axes.set`."""
    figure = Figure(figsize=(4, 3), dpi=150)
    # fixed margins: matplotlib's own layouts draw everything twice
    axes = figure.add_axes((0.2, 0.16, 0.77, 0.81))
    axes.locator_params(nbins=5)
    axes.set(xlabel=x, ylabel=y, **settings)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def curves(history: History, metric: str) -> Figure:
    """Draw training and validation by epoch, with a ring around the validation that is kept."""
    figure, axes = new_figure("epoch", {"acc": "accuracy"}.get(metric, metric))
    train = [{"epoch": number, **epoch} for number, epoch in enumerate(history.epochs, 1)]
    for rows, split, style in ((train, "train", TRAIN), (history.validations, "val", VAL)):
        key = f"{split}/{metric}"
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), **style)
    if history.has_best:
        place = history.kept["epoch"], history.kept[f"val/{metric}"]
        ring: Style = {"markersize": 13, "fillstyle": "none", "markeredgewidth": 1.5}
        axes.plot(*place, "o", color="black", label="kept", **ring)
    axes.locator_params(axis="x", integer=True)
    if metric == "acc":
        axes.yaxis.set_major_formatter("{x:.0%}")
    axes.margins(0.08)
    axes.legend(markerscale=0.8)
    return figure
