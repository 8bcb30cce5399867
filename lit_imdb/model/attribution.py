"""Which words move the logit: gradient x input.

Shapes: B reviews, T tokens, E embedding.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import padding_of


@runtime_checkable
class HasInfluences(Protocol):
    """A network that knows its words' influences exactly."""

    def influences(self, ids: Tensor) -> Tensor:
        """Return (B, T) of ids (B, T)."""
        ...


def influences(net: SentimentRNN, ids: Tensor) -> Tensor:
    """Influence of every token on the logit (B, T): its vector times the logit's gradient.

    To first order, what the logit would lose if the token's vector were zero; above 0 it speaks for
    `pos`. Source: Simonyan et al. 2014 (arXiv 1312.6034), with the sign kept; for texts Denil et
    al. 2014 (arXiv 1412.6815).
    """
    if isinstance(net, HasInfluences):
        return net.influences(ids)
    with torch.inference_mode(False), torch.enable_grad():
        embedded = net.embedding(ids.clone()).detach().requires_grad_()  # (B, T, E)
        logits = net.logits_of(embedded, padding_of(ids))  # (B,)
        # on a GPU the gradient would be computed in a thread that has no CUDA context
        with torch.autograd.set_multithreading_enabled(False):
            (gradient,) = torch.autograd.grad(logits.sum(), embedded)
    influence: Tensor = (gradient * embedded.detach()).sum(2)  # (B, T)
    return influence
