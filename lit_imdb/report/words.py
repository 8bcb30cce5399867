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

PROBES = (
    *("great", "wonderful", "funny", "love", "good", "best"),
    *("bad", "awful", "boring", "worst", "actor", "music"),
)
_FREQUENT = slice(2, 2002)  # W; padding and unknown are in front of them
_BLOCK = 8192  # reviews counted at once


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
    def leaning(self) -> list[str]:
        """`negative`, `neutral` or `positive` for each word (W)."""
        names = ("negative", "neutral", "positive")
        bounds = torch.tensor([0.4, 0.6], dtype=self.polarity.dtype)
        return [names[index] for index in torch.bucketize(self.polarity, bounds).tolist()]

    def neighbours(self, count: int = 6) -> Table:
        """The words nearest to each probe word, by cosine, nearest first."""
        units = normalize(self.vectors)  # (W, E)
        rows = []
        for probe in self.probes():
            cosines = units @ units[self.words.index(probe)]  # (W,)
            nearest = cosines.topk(min(count + 1, len(units))).indices.tolist()
            near = [self.words[index] for index in nearest if self.words[index] != probe]
            rows.append([probe, ", ".join(near[:count])])
        return Table(["word", "nearest by cosine"], rows)

    def plane(self) -> Tensor:
        """Points (W, 2) on the two directions in which the vectors differ most."""
        centred = self.vectors.double() - self.vectors.double().mean(0)  # (W, E)
        _, directions = torch.linalg.eigh(centred.t() @ centred)  # ascending
        points: Tensor = centred @ directions[:, -2:].flip(1)
        return points

    def probes(self) -> list[str]:
        return [probe for probe in PROBES if probe in self.words]


def word_space(net: SentimentRNN, vocabulary: Sequence[str], train: Split) -> WordSpace:
    """The frequent words as the network reads them; V may exceed the vocabulary."""
    vectors = net.embedding.weight.detach()[: len(vocabulary)].float().cpu()  # (V, E)
    shares = polarity(train, len(vocabulary))  # (V,)
    return WordSpace(vocabulary[_FREQUENT], vectors[_FREQUENT], shares[_FREQUENT])


def polarity(train: Split, vocab_size: int) -> Tensor:
    """The share of positive reviews among the occurrences of each word that is read (V,).

    The prior of one occurrence in each class keeps rare words near 0.5.
    """
    counts = torch.ones(2, vocab_size, dtype=torch.float64)
    for start in range(0, len(train), _BLOCK):
        ids, labels = train.ids[start : start + _BLOCK], train.labels[start : start + _BLOCK]
        for label in (0, 1):
            found = ids[labels == label].flatten().int()
            counts[label] += torch.bincount(found, minlength=vocab_size)
    return counts[1] / counts.sum(0)
