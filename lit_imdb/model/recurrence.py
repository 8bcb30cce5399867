"""The recurrence: a stack of `nn.RNNCell`s unrolled over the tokens of a review.

    h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh),  h_0 = 0

Short reviews have padding in front. It is never read: the states stay 0 until a review's first
word (Keras's `mask_zero=True`).

Every engine computes the same from the same `nn.RNNCell` parameters. `reference` is the one to read
first, and the one that unrolls other cells too; `fused` compiles the loop for the machine's CPU;
`cudnn` leaves it to NVIDIA.

Shapes: B reviews, T tokens, E features of a cell's input, H hidden units.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lit_imdb.data.text import PAD_ID
from lit_imdb.errors import UserError
from lit_imdb.model.cudnn import cudnn
from lit_imdb.model.threads import single_torch_thread

Cells = Sequence[nn.RNNCell]
Masks = Sequence[Tensor | None]
Engine = Callable[..., Tensor]  # called like `reference`


def padding_of(ids: Tensor) -> Tensor:
    """Places in front of each review's first word (B,) of ids (B, T); T if it has none."""
    return (ids == PAD_ID).long().cumprod(1).sum(1)


def hidden_states(
    cells: Cells, inputs: Tensor, masks: Masks, padding: Tensor
) -> list[list[Tensor]]:
    """Every hidden state (B, H) of every cell: `states[cell][t]`.

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
    """The plain loop."""
    states = hidden_states(cells, inputs, masks, padding)[-1]
    return torch.stack(states, 1) if at_every_word else states[-1]


def fused(
    cells: Cells, inputs: Tensor, masks: Masks, padding: Tensor, at_every_word: bool = False
) -> Tensor:
    """The same as compiled loops, with a backward pass of their own: `lit_imdb.model.fused`."""
    from lit_imdb.model.fused import unroll  # which imports this module

    reviews, steps, features = inputs.shape
    order = torch.arange(reviews * steps, device=inputs.device).view(reviews, steps)
    return unroll(cells, inputs.reshape(-1, features), order, masks, padding, at_every_word)


ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused, "cudnn": cudnn}


def engine_for(name: str, cells: Cells) -> Engine:
    """The engine called `name`; `auto` takes the fastest for the cells and their device.

    Raises:
        UserError: `name` is an engine for tanh cells or for CPUs, and these are others.
    """
    if name == "reference":
        return reference
    chosen = name
    if name == "auto":
        device = next(cells[0].parameters()).device
        chosen = {"cpu": "fused", "cuda": "cudnn"}.get(device.type, "reference")
    misfit = _misfit(chosen, cells)
    if misfit and name != "auto":
        raise UserError(f"--model.engine {name}: expected {misfit}; use --model.engine auto")
    return reference if misfit else ENGINES[chosen]


def _misfit(name: str, cells: Cells) -> str:
    """Return what a fast engine expects and finds instead, if it cannot compute these cells."""
    other = other_than_tanh(cells)
    if other is not None:
        return f"tanh nn.RNNCells, not {other}"
    weight = cells[0].weight_hh
    if name == "fused" and weight.device.type != "cpu":
        return f"a CPU, not {weight.device.type}"
    if name == "fused" and weight.dtype not in (torch.float32, torch.float64):
        return f"float32 or float64 weights, not {weight.dtype}"
    return ""


def training_threads(engine: Engine) -> AbstractContextManager[None]:
    """Return the context of a training step: one thread of torch while `fused` uses its own."""
    return single_torch_thread() if engine is fused else nullcontext()


def other_than_tanh(cells: Cells) -> nn.Module | None:
    """Return the first cell that the fast engines cannot compute, such as a GRU."""
    for cell in cells:
        if type(cell) is not nn.RNNCell or cell.nonlinearity != "tanh" or not cell.bias:
            return cell
        if not all(isinstance(w, nn.Parameter) for w in (cell.weight_ih, cell.weight_hh)):
            return cell  # weights computed in each call, as pruning does
    return None
