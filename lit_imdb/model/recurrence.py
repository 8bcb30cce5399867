"""The recurrence: a stack of `nn.RNNCell`s unrolled over the tokens of a review.

    h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh),  h_0 = 0

Every engine computes the same from the same `nn.RNNCell` parameters. `reference` is the one to read
first, and the one that unrolls other cells too; `fused` does the same work in fewer, larger
operations; `cudnn` leaves it to NVIDIA.

Shapes: B reviews, T tokens, E features of a cell's input, H hidden units.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lit_imdb.errors import UserError
from lit_imdb.model.linear import linear

Cells = Sequence[nn.RNNCell]
Masks = Sequence[Tensor | None]
Engine = Callable[[Cells, Tensor, Masks], Tensor]


def hidden_states(cells: Cells, inputs: Tensor, masks: Masks) -> list[list[Tensor]]:
    """Every hidden state (B, H) of every cell: `states[cell][t]`.

    Args:
        cells: The stack; each reads the hidden states of the one before.
        inputs: (B, T, E).
        masks: For each cell what its input is multiplied with at every token, (B, E) or (B, H), or
            None. Dropout: Keras's SimpleRNNCell draws one mask per review, not per token.
    """
    states: list[list[Tensor]] = [[] for _ in cells]
    hidden = [inputs.new_zeros(len(inputs), cell.hidden_size) for cell in cells]  # (B, H) each
    for word in inputs.unbind(dim=1):  # (B, E), one token of every review
        below = word
        for layer, (cell, mask) in enumerate(zip(cells, masks, strict=True)):
            hidden[layer] = cell(below if mask is None else below * mask, hidden[layer])
            below = hidden[layer]
            states[layer].append(below)
    return states


def reference(cells: Cells, inputs: Tensor, masks: Masks) -> Tensor:
    """The last hidden state (B, H) of the last cell, by the plain loop."""
    return hidden_states(cells, inputs, masks)[-1][-1]


def fused(cells: Cells, inputs: Tensor, masks: Masks) -> Tensor:
    """The same with all that does not depend on h_(t-1) done for all tokens at once."""
    weights = [w for c in cells for w in (c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh)]
    device = inputs.device.type
    autocast = torch.amp.is_autocast_available(device)  # the meta device has none to switch off
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        states = inputs.to(weights[0].dtype).transpose(0, 1)  # (T, B, E)
        last: Tensor = _Unrolled.apply(states, tuple(masks), *weights)  # type: ignore[no-untyped-call]
    return last


def cudnn(cells: Cells, inputs: Tensor, masks: Masks) -> Tensor:
    """The same by `torch.rnn_tanh`, on CUDA cuDNN's kernel: one launch, not 3 a token."""
    states = inputs.transpose(0, 1)  # (T, B, E)
    for cell, mask in zip(cells, masks, strict=True):
        if mask is not None:
            states = states * mask
        first = states.new_zeros(1, states.shape[1], cell.hidden_size)
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        train = torch.is_grad_enabled()  # cuDNN has no way back otherwise
        states, _ = torch.rnn_tanh(  # (T, B, H)
            states, first, weights, True, 1, 0.0, train, False, False
        )
    return states[-1]


ENGINES: dict[str, Engine] = {"reference": reference, "fused": fused, "cudnn": cudnn}


def engine_for(name: str, device: torch.device, cells: Cells = ()) -> Engine:
    """The engine called `name`; `auto` takes the fastest for the device and the cells.

    Raises:
        UserError: `name` is an engine for tanh cells, and there are others.
    """
    other = other_than_tanh(cells)
    if name == "auto":
        name = {"cpu": "fused", "cuda": "cudnn"}.get(device.type, "reference")
        return ENGINES[name] if other is None else reference
    if other is not None and name != "reference":
        raise UserError(
            f"--model.engine {name}: expected tanh nn.RNNCells, not {other}; "
            "for these cells use --model.engine reference"
        )
    return ENGINES[name]


def other_than_tanh(cells: Cells) -> nn.Module | None:
    """The first cell that does not compute the formula above, such as a GRU."""
    for cell in cells:
        if type(cell) is not nn.RNNCell or cell.nonlinearity != "tanh":
            return cell
    return None


def project(x: Tensor, w_ih: Tensor, bias: Tensor) -> Tensor:
    """P = 2 (W_ih x + b) (..., H) of all inputs x (..., E) at once; see `_Unrolled`."""
    return linear(x, 2 * w_ih, 2 * bias)


def walk(p: Tensor, w_hh: Tensor) -> Tensor:
    """Turns every P_t of p (T, B, H) into h_t, in place; see `_Unrolled`."""
    recurrent = 2 * w_hh.t()  # (H, H)
    before = torch.zeros_like(p[0])  # h_0
    minus_one = torch.full_like(before, -1)
    with torch.inference_mode():  # a call costs a tenth less where autograd does not look
        for now in p.unbind():  # (B, H)
            now.addmm_(before, recurrent).sigmoid_()
            before = torch.add(minus_one, now, alpha=2, out=now)
    return p


class _Unrolled(torch.autograd.Function):
    """A stack of cells over all tokens, with backpropagation through time by hand.

    On a CPU torch's sigmoid takes a fifth of tanh's time. So with P_t = 2 (W_ih x_t + b_ih + b_hh)

        h_t = 2 sigmoid(P_t + 2 W_hh h_(t-1)) - 1 = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)

    Backwards, with g_t the gradient of h_t and d_t that of what tanh is taken of:

        d_t = g_t (1 - h_t^2),  g_(t-1) = what comes from the layer above + d_t W_hh
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, masks: Masks, *weights: Tensor) -> Tensor:
        ctx.masks = masks
        kept: list[Tensor] = []
        h = inputs  # what the layer reads, (T, B, E) or (T, B, H)
        for layer, mask in enumerate(masks):
            w_ih, w_hh, b_ih, b_hh = weights[4 * layer : 4 * layer + 4]
            x = h if mask is None else h * mask
            h = walk(project(x.contiguous(), w_ih, b_ih + b_hh), w_hh)  # (T, B, H)
            kept += [x, h]
        ctx.save_for_backward(*kept, *weights)
        return h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        layers = len(ctx.masks)
        kept, weights = ctx.saved_tensors[: 2 * layers], ctx.saved_tensors[2 * layers :]
        gradients: list[Tensor | None] = []
        above: Tensor | None = None  # (T, B, H), what reaches each h_t from the layer above
        for layer in reversed(range(layers)):
            x, h = kept[2 * layer : 2 * layer + 2]
            w_ih, w_hh = weights[4 * layer : 4 * layer + 2]
            d = _through_time(h, incoming if above is None else above, w_hh)
            first, later = d[0].t(), _turned(d[1:].flatten(0, 1))  # (H, B), (H, (T-1) B)
            # sums of d_t x_t^T, of d_t h_(t-1)^T, where h_0 = 0, and of d_t
            w_ih_grad = torch.addmm(linear(later, x[1:].flatten(0, 1).t()), first, x[0])
            w_hh_grad = linear(later, h[:-1].flatten(0, 1).t())
            bias = first.sum(1) + later.sum(1)
            gradients = [w_ih_grad, w_hh_grad, bias, bias, *gradients]
            if layer == 0 and not ctx.needs_input_grad[0]:
                return None, None, *gradients
            above = linear(d, w_ih.t())
            if ctx.masks[layer] is not None:
                above *= ctx.masks[layer]
        return above, None, *gradients


def _through_time(h: Tensor, incoming: Tensor, w_hh: Tensor) -> Tensor:
    """All d_t (T, B, H) of one layer.

    Args:
        h: (T, B, H).
        incoming: The gradient of every h_t (T, B, H), overwritten, or of the last one alone (B, H).
        w_hh: (H, H).
    """
    d = torch.empty_like(h)
    each = incoming.unbind() if incoming.dim() == 3 else None
    gradient = incoming if each is None else each[-1]  # (B, H), of h_t
    with torch.inference_mode():
        each_h, each_d = h.unbind(), d.unbind()
        _tanh_backward(gradient, each_h[-1], grad_input=each_d[-1])
        for t in range(len(each_h) - 2, -1, -1):
            if each is None:
                gradient = torch.mm(each_d[t + 1], w_hh)
            else:
                gradient = each[t].addmm_(each_d[t + 1], w_hh)
            _tanh_backward(gradient, each_h[t], grad_input=each_d[t])
    return d


def _turned(rows: Tensor) -> Tensor:
    """rows^T (M, N) of rows (N, M): a product takes half the time of a copy, with two threads."""
    return linear(torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device), rows)


_tanh_backward = torch.ops.aten.tanh_backward.grad_input  # g (1 - h^2) in one pass
