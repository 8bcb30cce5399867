"""The rival without recurrence: a linear model of a review's words, word pairs and triples.

logit = bias + the sum of r_g w_g over the n-grams g of the review

r_g says how much more often an n-gram stands in positive training reviews than in negative ones;
w_g is learned. Source: Wang and Manning, "Baselines and Bigrams", ACL 2012. Pairs and triples have
no dictionary: a hash gives each a row of the table, which some then share.

Shapes: B reviews, T tokens, V words, R rows of the table.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lit_imdb.data.loader import Split
from lit_imdb.data.text import PAD_ID
from lit_imdb.model.module import LitSentiment

_HASHED = 2**18  # rows for the pairs, and as many for the triples
# of the hash: key * _MIXER modulo 2**31, without the lower bits, which are mixed worst
_BASE, _MIXER, _LOWER = 1_000_003, 40_503, 31 - 18
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

    def forward(self, ids: Tensor, masks: Any = None, at_every_word: bool = False) -> Tensor:
        """Return logits (B,) of token ids (B, T)."""
        return self.bias + self._numbers(ids).sum((1, 2))

    def draw_masks(self, reviews: int, generator: Any = None) -> list[Tensor | None]:
        """Return nothing: there is no dropout."""
        return []

    def influences(self, ids: Tensor) -> Tensor:
        """Return each word's share of the logit (B, T): an equal part of each of its n-grams."""
        with torch.no_grad():
            numbers, steps = self._numbers(ids), ids.shape[1]
            shares = numbers.new_zeros(ids.shape)
            for size in (1, 2, 3):
                part = numbers[:, size - 1] / size
                for back in range(size):
                    shares[:, : steps - back] += part[:, back:]
        return shares

    @torch.no_grad()
    def count(self, train: Split) -> None:
        """Set r = log((p + 3) / (n + 3)) by the p positive and n negative reviews with a row."""
        counts = torch.full((2, len(self.ratio)), _SMOOTHING)
        blocks = torch.split(train.ids, 512), torch.split(train.labels, 512)
        for ids, labels in zip(*blocks, strict=True):
            rows = self.rows(ids).flatten(1).sort(1).values  # (B, 3 T)
            rows[:, 1:].masked_fill_(rows[:, 1:] == rows[:, :-1], PAD_ID)  # a review counts once
            for label in (0, 1):
                found = rows[labels == label].flatten()
                counts[label] += torch.bincount(found, minlength=len(self.ratio))
        self.ratio.copy_(torch.log(counts[1] / counts[0]))
        self.ratio[PAD_ID] = 0

    def rows(self, ids: Tensor) -> Tensor:
        """Return the rows of the word, the pair and the triple that end at each token (B, 3, T).

        Pairs and triples that reach into padding have padding's row.
        """
        ids = pad(ids.int(), (2, 0))  # 32 bits: products lose what is above
        first, before, word = ids[:, :-2], ids[:, 1:-1], ids[:, 2:]  # (B, T)
        pair = before * _BASE + word
        triple = (first * _BASE + before) * _BASE + word
        found = [word]
        for size, (oldest, key) in enumerate([(before, pair), (first, triple)]):
            hashed = (key * _MIXER & (2**31 - 1)) >> _LOWER
            row = hashed + (self.vocab_size + size * _HASHED)
            found.append(torch.where(oldest == PAD_ID, PAD_ID, row))
        return torch.stack(found, 1)

    def onnx_graph(self, make_node: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return operators from `ids` to `logits`, made by `onnx.helper.make_node`, and constants.

        They count on 64 bits, which hold every key but not its product with `_MIXER`.
        """
        nodes: list[Any] = []
        constants: dict[str, Any] = {}

        def constant(value: Any) -> str:
            constants[f"constant{len(constants)}"] = torch.as_tensor(value).numpy()
            return f"constant{len(constants) - 1}"

        def apply(operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
            output = output or f"{operator}{len(nodes)}"
            nodes.append(make_node(operator, inputs, [output], **attributes))
            return output

        base, modulus, zero, axis = map(constant, (_BASE, 2**31, PAD_ID, [1]))
        padded = apply("Pad", "ids", constant([0, 2, 0, 0]))  # (B, T + 2)
        first, before = (
            apply("Slice", padded, constant([start]), constant([start - 2]), axis)  # (B, T)
            for start in (0, 1)
        )
        pair = apply("Add", apply("Mul", before, base), "ids")
        older = apply("Add", apply("Mul", first, base), before)
        triple = apply("Add", apply("Mul", older, base), "ids")
        found = ["ids"]
        for size, (oldest, key) in enumerate([(before, pair), (first, triple)]):
            mixed = apply("Mul", apply("Mod", key, modulus), constant(_MIXER))
            upper = apply("Div", apply("Mod", mixed, modulus), constant(2**_LOWER))
            row = apply("Add", upper, constant(self.vocab_size + size * _HASHED))
            found.append(apply("Where", apply("Equal", oldest, zero), zero, row))
        rows = apply("Concat", *found, axis=1)  # (B, 3 T)
        numbers = apply("Gather", constant((self.ratio * self.weight).detach()), rows)
        total = apply("ReduceSum", numbers, axis, keepdims=0)  # (B,)
        apply("Add", total, constant(self.bias.detach()), output="logits")
        return nodes, constants

    def _numbers(self, ids: Tensor) -> Tensor:
        """Return r w of each n-gram (B, 3, T)."""
        rows = self.rows(ids)
        return (self.ratio * self.weight).index_select(0, rows.flatten()).view(rows.shape)


class LitNGrams(LitSentiment):
    """Trains, validates and tests the n-gram model; configs/ngrams.yaml has optimizer and schedule.

    Args:
        lr: Adam's learning rate, where no schedule sets another.
        vocab_size: V.
    """

    def __init__(self, lr: float = 5e-3, vocab_size: int = 10_000) -> None:
        super().__init__(lr, vocab_size=vocab_size)

    def make_network(self, **network: Any) -> Any:
        return NGrams(**network)

    def on_fit_start(self) -> None:
        net: Any = self.net
        if not net.ratio.any():  # a run that resumes has them
            net.count(self.trainer.datamodule.splits["train"])  # type: ignore[attr-defined]
