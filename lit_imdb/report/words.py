"""What the embedding has learned: the frequent words, their polarity and their neighbours.

Shapes: V words, W the most frequent of them, E embedding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor
from torch.nn.functional import normalize

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.loader import Split
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report.figures import CLASSES, GUIDE, Style, Table, new_figure

_PROBES = (
    *("great", "wonderful", "funny", "love", "good", "best"),
    *("bad", "awful", "boring", "worst", "actor", "music"),
)
_FREQUENT = slice(2, 2002)  # W; padding and unknown are in front of them


def nearest_words(net: SentimentRNN, vocabulary: Sequence[str]) -> Table:
    """Return each probe word and the six frequent words nearest to it by cosine."""
    words, vectors = _frequent(net, vocabulary)
    units = normalize(vectors)  # (W, E)
    rows = []
    for probe, place in _probes_in(words).items():
        nearest = (units @ units[place]).argsort(descending=True)[:7].tolist()
        others = [words[index] for index in nearest if index != place]
        rows.append([probe, ", ".join(others[:6])])
    return Table(["word", "nearest by cosine"], rows)


def draw_word_space(net: SentimentRNN, data: ImdbDataModule) -> Figure:
    """Draw the frequent words as points, coloured by polarity, and write the probe words."""
    words, vectors = _frequent(net, data.encoder.vocabulary)
    polarity = _polarity_of(data.splits["train"], len(data.encoder.vocabulary))[_FREQUENT]  # (W,)
    points = plane(vectors, polarity).numpy()  # (W, 2)
    low, high = np.percentile(points, (0.5, 99.5), axis=0)  # a few far ones would squeeze the rest
    points = (points - low) / (high - low)
    limits = {"xlim": (-0.12, 1.12), "ylim": (-0.05, 1.05)}
    # distances count, not places: no numbers
    figure, axes = new_figure("first principal direction", "second", xticks=(), yticks=(), **limits)
    axes.set_position((0.06, 0.08, 0.93, 0.82))
    dot: Style = {"marker": ".", "markersize": 4, "linestyle": "", "alpha": 0.5}
    axes.plot(*points.T, **GUIDE | dot, label="neutral")
    for style, side in zip(CLASSES, (polarity < 0.4, polarity > 0.6), strict=True):
        axes.plot(*points[side.numpy()].T, **style | dot)
    halo = [withStroke(linewidth=4, foreground="white")]
    written: list[Any] = []
    for probe, index in _probes_in(words).items():
        place = points[index].clip(0, 1)
        while any((abs(place - other) < (0.22, 0.07)).all() for other in written):
            place[1] += 0.02  # not on top of another word
        written.append(place)
        axes.annotate(probe, place, ha="center", va="center", path_effects=halo, zorder=3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, markerscale=3, frameon=False)
    return figure


def plane(vectors: Tensor, polarity: Tensor) -> Tensor:
    """Return points (W, 2) on the two directions in which the vectors (W, E) differ most.

    The first one points to the positive words.
    """
    centred = vectors.double() - vectors.double().mean(0)  # (W, E)
    _, directions = torch.linalg.eigh(centred.t() @ centred)  # ascending
    points: Tensor = centred @ directions[:, -2:].flip(1)
    points[:, 0] *= -1 if points[:, 0] @ (polarity.double() - 0.5) < 0 else 1
    return points


def _frequent(net: SentimentRNN, vocabulary: Sequence[str]) -> tuple[Sequence[str], Tensor]:
    """Return the W most frequent words, most frequent first, and their vectors (W, E)."""
    words = vocabulary[_FREQUENT]
    return words, net.embedding.weight.detach()[_FREQUENT][: len(words)].float().cpu()


def _probes_in(words: Sequence[str]) -> dict[str, int]:
    return {probe: words.index(probe) for probe in _PROBES if probe in words}


def _polarity_of(train: Split, vocab_size: int) -> Tensor:
    """Return the share of positive reviews among each word's occurrences in training (V,).

    One more occurrence in each class keeps rare ones near 0.5.
    """
    counts = torch.ones(2, vocab_size, dtype=torch.float64)
    blocks = torch.split(train.ids, 8192), torch.split(train.labels, 8192)
    for ids, labels in zip(*blocks, strict=True):
        for label in (0, 1):
            found = ids[labels == label].flatten()
            counts[label] += torch.bincount(found, minlength=vocab_size)
    return counts[1] / counts.sum(0)
