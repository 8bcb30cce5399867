"""What the embedding has learned: the frequent words, their polarity and their neighbours.

Shapes: V words, W the most frequent of them, E embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lit_imdb.data.loader import Split
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report.tables import Table

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

    @property
    def probes(self) -> list[str]:
        return [probe for probe in _PROBES if probe in self.words]

    def neighbours(self, count: int = 6) -> Table:
        """Return the words nearest to each probe by cosine, nearest first."""
        units = normalize(self.vectors)  # (W, E)
        rows = []
        for probe in self.probes:
            cosines = units @ units[self.words.index(probe)]  # (W,)
            nearest = cosines.topk(min(count + 1, len(units))).indices.tolist()
            near = [self.words[index] for index in nearest if self.words[index] != probe]
            rows.append([probe, ", ".join(near[:count])])
        return Table(["word", "nearest by cosine"], rows)

    def plane(self) -> Tensor:
        """Return points (W, 2) on the two directions in which the vectors differ most."""
        centred = self.vectors.double() - self.vectors.double().mean(0)  # (W, E)
        _, directions = torch.linalg.eigh(centred.t() @ centred)  # ascending
        points: Tensor = centred @ directions[:, -2:].flip(1)
        return points


def word_space(net: SentimentRNN, vocabulary: Sequence[str], train: Split) -> WordSpace:
    """Return the frequent words; the prior of one in each class keeps rare ones near 0.5."""
    counts = torch.ones(2, len(vocabulary), dtype=torch.float64)
    blocks = torch.split(train.ids, 8192), torch.split(train.labels, 8192)
    for ids, labels in zip(*blocks, strict=True):
        for label in (0, 1):
            found = ids[labels == label].flatten()
            counts[label] += torch.bincount(found, minlength=len(vocabulary))
    words = vocabulary[_FREQUENT]
    vectors = net.embedding.weight.detach()[_FREQUENT][: len(words)].float().cpu()  # (W, E)
    return WordSpace(words, vectors, (counts[1] / counts.sum(0))[_FREQUENT])
