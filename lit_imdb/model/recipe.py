"""What trains the network better than the tutorial does: configs/accurate.yaml.

Shapes: B reviews, T tokens.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.data.text import PAD_ID, UNK_ID


def drop_words(ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Replace a `share` of the words in ids (B, T) by `<unk>`, at random.

    Source: word dropout as in Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic
    Methods for Text Classification", there of whole vectors.
    """
    chances = torch.empty(ids.shape, device=ids.device).uniform_(generator=generator)  # (B, T)
    return ids.masked_fill((chances < share) & (ids != PAD_ID), UNK_ID)


def loss_at_every_word(logits: Tensor, labels: Tensor, padding: Tensor) -> Tensor:
    """Return the mean loss of the logits at every word, later words counting more.

    The gradient reaches each word without passing through all later ones. The weight grows
    linearly from the first place to the last, since a review's first words tell less.

    Args:
        logits: At every token (B, T).
        labels: 0 or 1 (B,).
        padding: Places in front of each review's first word (B,), which do not count.
    """
    places = torch.arange(1, logits.shape[1] + 1, device=logits.device)  # (T,)
    weights = places * (places > padding.unsqueeze(1))  # (B, T)
    targets = labels.unsqueeze(1).expand_as(logits)
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")  # (B, T)
    return (losses * weights).sum() / weights.sum().clamp(min=1)
