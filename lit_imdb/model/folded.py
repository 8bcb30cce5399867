"""The network for evaluation, with what is constant there computed beforehand.

Shapes: B reviews, T tokens.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import engine_for, fused


def fold(net: SentimentRNN) -> Callable[[Tensor], Tensor]:
    """The fastest way from ids (B, T) to logits (B,), with the weights as they are now."""
    if engine_for(net.engine, net.head.weight.device, net.cells) is not fused:
        return net.forward
    from lit_imdb.model.fused import Evaluation

    states = Evaluation(net.cells, net.embedding.weight)

    @torch.no_grad()
    def logits(ids: Tensor) -> Tensor:
        logit: Tensor = net.head(states.last_state(ids)).squeeze(1)
        return logit

    return logits
