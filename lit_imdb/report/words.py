"""What the embedding has learned: the frequent words, their polarity and their neighbours.

Shapes: V words, W the most frequent of them, E embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor
from torch.nn.functional import normalize

from lit_imdb.data.loader import Split
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report.figures import CLASSES, GUIDE, new_figure

_PROBES = (
    *("great", "wonderful", "funny", "love", "good", "best"),
    *("bad", "awful", "boring", "worst", "actor", "music"),
)
_FREQUENT = slice(2, 2002)  # W; padding and unknown are in front of them


@dataclass(frozen=True)
class WordSpace:
    """The most frequent words.

    Attributes:
        words: W of them, most frequent first.
        vectors: Their embedding (W, E).
        polarity: The share of positive reviews among their occurrences in training (W,).
    """

    words: Sequence[str]
    vectors: Tensor
    polarity: Tensor

    @classmethod
    def of(cls, net: SentimentRNN, vocabulary: Sequence[str], train: Split) -> "WordSpace":
        """Count the words; one more occurrence in each class keeps rare ones near 0.5."""
        counts = torch.ones(2, len(vocabulary), dtype=torch.float64)
        blocks = torch.split(train.ids, 8192), torch.split(train.labels, 8192)
        for ids, labels in zip(*blocks, strict=True):
            for label in (0, 1):
                found = ids[labels == label].flatten()
                counts[label] += torch.bincount(found, minlength=len(vocabulary))
        words = vocabulary[_FREQUENT]
        vectors = net.embedding.weight.detach()[_FREQUENT][: len(words)].float().cpu()  # (W, E)
        return cls(words, vectors, (counts[1] / counts.sum(0))[_FREQUENT])

    @property
    def probes(self) -> list[str]:
        return [probe for probe in _PROBES if probe in self.words]

    def neighbours(self, count: int = 6) -> list[list[str]]:
        """Return each probe and the words nearest to it by cosine, nearest first."""
        units = normalize(self.vectors)  # (W, E)
        rows = []
        for probe in self.probes:
            cosines = units @ units[self.words.index(probe)]  # (W,)
            nearest = cosines.topk(min(count + 1, len(units))).indices.tolist()
            near = [self.words[index] for index in nearest if self.words[index] != probe]
            rows.append([probe, ", ".join(near[:count])])
        return rows

    def plane(self) -> Tensor:
        """Return points (W, 2) on the two directions in which the vectors differ most.

        The first one points to the positive words.
        """
        centred = self.vectors.double() - self.vectors.double().mean(0)  # (W, E)
        _, directions = torch.linalg.eigh(centred.t() @ centred)  # ascending
        points: Tensor = centred @ directions[:, -2:].flip(1)
        points[:, 0] *= -1 if points[:, 0] @ (self.polarity.double() - 0.5) < 0 else 1
        return points


def draw_word_space(space: WordSpace) -> Figure:
    """Draw the frequent words as points, coloured by polarity, and write the probe words."""
    figure, axes = new_figure("first principal direction", "second", xticks=(), yticks=())
    axes.set_position((0.06, 0.08, 0.93, 0.82))  # distances count, not places: no numbers
    points, polarity = space.plane().numpy(), space.polarity.numpy()  # (W, 2), (W,)
    dot: dict[str, Any] = {"marker": ".", "markersize": 4, "linestyle": "", "alpha": 0.5}
    axes.plot(*points.T, **dot, color=GUIDE["color"], label="neutral")
    for side, style in zip((polarity < 0.4, polarity > 0.6), CLASSES, strict=True):
        axes.plot(*points[side].T, **dot, color=style["color"], label=style["label"])
    low, high = np.percentile(points, (0.5, 99.5), axis=0)  # a few far ones would squeeze the rest
    size = high - low
    halo = [withStroke(linewidth=4, foreground="white")]
    written: list[Any] = []
    for probe in space.probes:
        point = np.clip(points[space.words.index(probe)], low, high)
        place = point
        while any((abs(place - other) < size * (0.22, 0.07)).all() for other in written):
            place = place + size * (0, 0.02)  # not on top of another word
        written.append(place)
        axes.annotate(probe, point, place, ha="center", va="center", path_effects=halo, zorder=3)
    axes.set_xlim(low[0] - 0.12 * size[0], high[0] + 0.12 * size[0])
    axes.set_ylim(low[1] - 0.05 * size[1], high[1] + 0.05 * size[1])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, markerscale=3, frameon=False)
    return figure
