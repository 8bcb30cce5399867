"""The answer for one review, and how the network's figures become one.

Shapes: B reviews, T tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_imdb.data.text import PAD_ID, UNK_ID

NO_WORD = "empty review: no word to read"


@dataclass(frozen=True)
class Prediction:
    """The answer for one review.

    Attributes:
        label: `neg` or `pos`; empty where there was nothing to judge.
        probability: Of a positive review, 0 to 1; None where there was nothing to judge.
        unknown_words: Share of the words read that the vocabulary does not have, 0 to 1.
        reason: Why there is no answer.
    """

    label: str
    probability: float | None
    unknown_words: float | None
    reason: str = ""


def figures_of(probabilities: Tensor, ids: Tensor) -> Tensor:
    """What an answer is made of, (B, 3): probability, share of unknown words, words read.

    One tensor, so that several processes can gather it.

    Args:
        probabilities: (B,).
        ids: (B, T).
    """
    words = (ids != PAD_ID).sum(1)  # (B,)
    unknown = (ids == UNK_ID).sum(1) / words.clamp(min=1)  # (B,)
    return torch.stack([probabilities.float(), unknown, words.float()], dim=1)  # (B, 3)


def predictions_of(figures: Tensor) -> list[Prediction]:
    """One answer per row of `figures_of`'s (B, 3)."""
    return [
        Prediction("pos" if probability > 0.5 else "neg", probability, unknown)
        if words
        else Prediction("", None, None, NO_WORD)
        for probability, unknown, words in figures.tolist()
    ]
