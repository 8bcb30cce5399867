"""The rival without recurrence: a linear model of a review's words, word pairs and triples.

logit = bias + the sum of r_g w_g over the n-grams g of the review

r_g says how much more often an n-gram stands in positive training reviews than in negative ones;
w_g is learned. Source: Wang and Manning, "Baselines and Bigrams", ACL 2012. Pairs and triples have
no dictionary: a hash gives each a row of the table, which some then share.

Shapes: B reviews, T tokens, G = 3 T n-grams, V words, R rows of the table.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lit_imdb.data.loader import Split
from lit_imdb.data.text import PAD_ID
from lit_imdb.model.module import LitSentiment

_HASHED = 2**18  # rows for the pairs, and as many for the triples
_SMOOTHING = 3.0  # reviews that every n-gram counts as seen in, of each label


class NGrams(nn.Module):
    """The network: it has no cells, and the order of words counts within three of them only.

    Args:
        vocab_size: V, rows for single words.
    """

    cells = ()
    engine = "reference"

    def __init__(self, vocab_size: int = 10_000) -> None:
        super().__init__()
        rows = vocab_size + 2 * _HASHED
        self.weight = nn.Parameter(torch.zeros(rows))  # w (R,)
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("ratio", torch.zeros(rows))  # r (R,)
        self.ratio: Tensor
        self.vocab_size = vocab_size

    def forward(self, ids: Tensor, masks: Any = None, every: bool = False) -> Tensor:
        """Logits (B,) of token ids (B, T)."""
        return self.bias + self._numbers(ids).sum(1)

    def draw_masks(self, reviews: int, generator: Any = None) -> list[Tensor | None]:
        """Return nothing: there is no dropout."""
        return []

    def influences(self, ids: Tensor) -> Tensor:
        """Return each word's share of the logit (B, T): an equal part of each of its n-grams."""
        with torch.no_grad():
            numbers, (reviews, steps) = self._numbers(ids), ids.shape
            shares = numbers.new_zeros(reviews, steps)
            start = 0
            for size in (1, 2, 3):
                count = max(steps - size + 1, 0)
                part = numbers[:, start : start + count] / size
                for word in range(size):
                    shares[:, word : word + count] += part
                start += count
        return shares

    @torch.no_grad()
    def count(self, train: Split) -> None:
        """Set r = log((p + 3) / (n + 3)) by the p positive and n negative reviews with a row."""
        counts = torch.full((2, len(self.ratio)), _SMOOTHING)
        blocks = torch.split(train.ids, 512), torch.split(train.labels, 512)
        for ids, labels in zip(*blocks, strict=True):
            rows = self.rows(ids).sort(1).values  # (B, G)
            once = torch.ones_like(rows, dtype=torch.bool)
            once[:, 1:] = rows[:, 1:] != rows[:, :-1]  # a review counts once
            for label in (0, 1):
                found = rows[labels == label][once[labels == label]]
                counts[label] += torch.bincount(found, minlength=len(self.ratio))
        self.ratio.copy_(torch.log(counts[1] / counts[0]))
        self.ratio[PAD_ID] = 0

    def rows(self, ids: Tensor) -> Tensor:
        """Return the row of each n-gram (B, G); those that reach into padding have padding's."""
        ids = ids.int()  # the hash counts on 32 bits: products lose what is above
        found = [ids]
        for size in (2, 3):
            count = max(ids.shape[1] - size + 1, 0)
            key = ids[:, :count]
            for word in range(1, size):
                key = key * 1_000_003 + ids[:, word : word + count]
            hashed = (key * 40_503 >> 13) & (_HASHED - 1)  # the upper bits are mixed best
            row = hashed + self.vocab_size + (size - 2) * _HASHED
            found.append(torch.where(ids[:, :count] == PAD_ID, PAD_ID, row))
        return torch.cat(found, 1).long()

    def _numbers(self, ids: Tensor) -> Tensor:
        """Return r w of each n-gram (B, G)."""
        rows = self.rows(ids)
        return (self.ratio * self.weight).index_select(0, rows.flatten()).view(rows.shape)


class LitNGrams(LitSentiment):
    """Trains, validates and tests the n-gram model.

    Args:
        lr: Adam's learning rate at the start; it falls to 0 along a line.
        weight_decay: The L2 penalty, as `torch.optim.Adam` takes it.
        vocab_size: V.
    """

    def __init__(
        self, lr: float = 5e-3, weight_decay: float = 2e-4, vocab_size: int = 10_000
    ) -> None:
        super().__init__(lr, vocab_size=vocab_size)
        self.weight_decay = weight_decay

    def make_network(self, **network: Any) -> Any:
        return NGrams(**network)

    def on_fit_start(self) -> None:
        net: Any = self.net
        if not net.ratio.any():  # a run that resumes has them
            net.count(self.trainer.datamodule.splits["train"])  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(
            self.parameters(), self.lr, weight_decay=self.weight_decay, fused=True
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
