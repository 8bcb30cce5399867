"""The recurrence: a stack of `nn.RNNCell`s unrolled over the tokens of a review.

    h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh),  h_0 = 0

Short reviews have padding in front. It is never read: the states stay 0 until a review's first
word (Keras's `mask_zero=True`).

This is the loop to read first; `lit_imdb.model.engines` has faster ones that compute the same.

Shapes: B reviews, T tokens, E features of a cell's input, H hidden units.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_imdb.data.text import PAD_ID

Cells = Sequence[nn.RNNCell]
Masks = Sequence[Tensor | None]


def padding_of(ids: Tensor) -> Tensor:
    """Return the places in front of each first word (B,) in ids (B, T); T where there is none."""
    return (ids == PAD_ID).long().cumprod(1).sum(1)


def hidden_states(
    cells: Cells, inputs: Tensor, masks: Masks, padding: Tensor
) -> list[list[Tensor]]:
    """Return every hidden state (B, H) of every cell: `states[cell][t]`.

    Args:
        cells: The stack; each reads the hidden states of the one before.
        inputs: (B, T, E).
        masks: For each cell what its input is multiplied with at every token, (B, E) or (B, H), or
            None. Dropout: Keras's SimpleRNNCell draws one mask per review, not per token.
        padding: Places in front of each review's first word (B,).
    """
    states: list[list[Tensor]] = [[] for _ in cells]
    carried: list[Any] = [None] * len(cells)  # a cell's state: (B, H), or a tuple of these
    for t, word in enumerate(inputs.unbind(1)):  # (B, E)
        reads = (t >= padding).unsqueeze(1)  # (B, 1)
        below = word
        for layer, (cell, mask) in enumerate(zip(cells, masks, strict=True)):
            state = cell(below if mask is None else below * mask, carried[layer])
            if isinstance(state, tuple):  # nn.LSTMCell's (h, c)
                carried[layer] = tuple(part * reads for part in state)
                below = carried[layer][0]
            else:
                below = carried[layer] = state * reads  # in front of the first word it stays 0
            states[layer].append(below)
    return states


def reference(
    cells: Cells, inputs: Tensor, masks: Masks, padding: Tensor, at_every_word: bool = False
) -> Tensor:
    """Return the last cell's last state (B, H), or its state at every token (B, T, H)."""
    states = hidden_states(cells, inputs, masks, padding)[-1]
    return torch.stack(states, 1) if at_every_word else states[-1]
