"""The network for evaluation, with what is constant there computed beforehand.

Shapes: B reviews, T tokens.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import engine_for, fused, padding_of, untraced


def evaluator_of(net: SentimentRNN) -> Callable[[Tensor], Tensor]:
    """Return the fastest way from ids (B, T) to logits (B,), until weights change."""
    if not net.cells:  # a network without recurrence
        return net.forward
    engine = engine_for(net.engine, net.head.weight.device, net.cells)
    return _Fused(net).forward if engine is fused and net.looks_up_plainly else net.forward


class _Fused:
    def __init__(self, net: SentimentRNN) -> None:
        from lit_imdb.model.fused import Evaluation

        self._head = net.head
        self._states = Evaluation(net.cells, net.embedding.weight)

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        states = untraced(self._states.last_state)(ids, padding_of(ids))  # (B, H)
        logit: Tensor = self._head(states).squeeze(1)  # (B,)
        return logit
