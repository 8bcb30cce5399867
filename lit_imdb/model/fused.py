"""The `fused` engine: forward and backward passes as compiled loops, shared among threads.

A thread takes some of a batch's reviews through all tokens and cells without waiting for the
others. Which reviews go together does not depend on the number of threads, so neither does any
result. Every cell reads rows of a table by their numbers: the first one the embedding by word, the
others the states of the cell below by token.

Shapes: B reviews, N of them together, C such parts, T tokens, V rows of a table, E features of a
cell's input, H hidden units; * padded with zeros up to a multiple of kernels.NUMBERS.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lit_imdb.model import kernels
from lit_imdb.model.threads import run_parallel, thread_count

_TOGETHER = 32  # reviews: their states of one cell stay in the second-level cache

Array = np.ndarray[Any, Any]


def last_state(
    cells: Sequence[nn.RNNCell],
    table: Tensor,
    ids: Tensor,
    masks: Sequence[Tensor | None],
    padding: Tensor,
) -> Tensor:
    """The last hidden state (B, H) of the last cell, where the first reads rows of a table.

    Args:
        cells: The stack; each reads the hidden states of the one before.
        table: (V, E).
        ids: Row numbers (B, T).
        masks: See `recurrence.hidden_states`.
        padding: See there.

    Raises:
        IndexError: The table has no such row.
        TypeError: ids are no integers.
        ValueError: A mask or a weight has not the shape or the type that its input asks for.
    """
    weights = _weights(cells)
    _check_shapes(weights, table, [None if m is None else m.shape for m in masks], len(ids))
    last: Tensor = _Unrolled.apply(table, ids, padding, tuple(masks), *weights)  # type: ignore[no-untyped-call]
    return last


class Evaluation:
    """The same without gradients, with the weights as they are now.

    The embedding and the first projection become one table: what the first cell adds for a word is
    then a row to look up, and a third of the arithmetic is gone.
    """

    @torch.no_grad()
    def __init__(self, cells: Sequence[nn.RNNCell], table: Tensor) -> None:
        weights = _weights(cells)
        table = table.to(weights[0].dtype)
        _check_shapes(weights, table, [None] * len(cells), 0)
        w_ih, _, b_ih, b_hh = (weight.double() for weight in weights[:4])
        with torch.autocast("cpu", enabled=False):
            # in 64 bits: the last digit of 32 would depend on the number of threads
            added = nn.functional.linear(table.double(), w_ih, b_ih + b_hh).to(table.dtype)
        self._table = _padded(added)  # (V*, H*)
        self._words = len(table)
        self._features = [w.shape[1] for w in weights[::4]]
        self._hidden = len(weights[-1])
        self._stack = [_for_forward(*cell) for cell in _by_cell(weights)]
        unused, *others = self._stack[0]
        self._stack[0] = unused[:0], *others  # the table has it

    def last_state(self, ids: Tensor, padding: Tensor) -> Tensor:
        """(B, H) of ids (B, T) and padding (B,); raises IndexError as above."""
        words, places = _checked(ids, self._words).numpy(), padding.numpy()
        reviews, steps = words.shape
        pieces, dtype = _pieces(reviews), self._table.dtype
        last = np.empty((reviews, self._hidden), dtype)

        def run(piece: int) -> None:
            below, read = self._table, words[pieces[piece]]
            for features, (w_ih, bias, w_hh) in zip(self._features, self._stack, strict=True):
                mask = np.ones((len(read), features), dtype)
                h = np.empty((steps, _rows(len(read)), len(w_hh)), dtype)
                kernels.forward(below, read, places[pieces[piece]], mask, w_ih, bias, w_hh, h)
                below, read = _as_table(h, len(read))
            last[pieces[piece]] = h[-1, : len(read), : self._hidden]

        run_parallel(run, len(pieces))
        return torch.from_numpy(last)


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        ids: Tensor,
        padding: Tensor,
        masks: Sequence[Tensor | None],
        *weights: Tensor,
    ) -> Tensor:
        table, ids = table.contiguous(), _checked(ids, len(table))
        reviews, steps = ids.shape
        pieces = _pieces(reviews)
        factors, states, layers = [], [], []
        for mask, cell in zip(masks, _by_cell(weights), strict=True):
            w_ih, bias, w_hh = _for_forward(*cell)
            factor = table.new_ones(reviews, cell[0].shape[1]) if mask is None else mask
            factors.append(factor.to(table.dtype).contiguous())
            states.append(table.new_empty(len(pieces), steps, _rows(reviews), len(w_hh)))
            layers.append((factors[-1].numpy(), w_ih, bias, w_hh, states[-1].numpy()))
        rows, words, places = table.numpy(), ids.numpy(), padding.numpy()

        def run(piece: int) -> None:
            part = pieces[piece]
            below, read = rows, words[part]
            for mask, w_ih, bias, w_hh, h in layers:
                kernels.forward(below, read, places[part], mask[part], w_ih, bias, w_hh, h[piece])
                below, read = _as_table(h[piece], len(read))

        run_parallel(run, len(pieces))
        ctx.save_for_backward(table, ids, padding, *factors, *states, *weights)
        last = states[-1][:, -1].flatten(0, 1)  # (C N, H*)
        return last[:reviews, : len(weights[-1])].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        table, ids, padding, *kept = ctx.saved_tensors
        count = len(kept) // 6  # a mask, the states and four weights of each cell
        factors, states = kept[:count], [h.numpy() for h in kept[count : 2 * count]]
        cells = _by_cell(kept[2 * count :])
        reviews, steps = ids.shape
        pieces = _pieces(reviews)
        together, hidden = _rows(reviews), incoming.shape[1]
        # what reaches a cell's states from above: the last cell's last state alone, here
        coming = incoming.new_zeros(len(pieces), 1, together, hidden)
        coming.view(-1, hidden)[:reviews] = incoming
        layers, sums = [], []
        for layer in reversed(range(count)):
            w_ih, w_hh = _padded(cells[layer][0]), _padded(cells[layer][1])
            shapes = w_ih.shape, w_hh.shape, w_hh.shape[:1]
            grads = [table.new_zeros(len(pieces), *shape) for shape in shapes]
            wanted = steps if layer or ctx.needs_input_grad[0] else 0
            x_grad = table.new_empty(len(pieces), wanted, together, cells[layer][0].shape[1])
            arrays = [tensor.numpy() for tensor in (coming, factors[layer], *grads, x_grad)]
            layers.append((layer, w_ih, w_hh, *arrays))
            sums.append(grads)
            coming = x_grad
        rows, words, places = table.numpy(), ids.numpy(), padding.numpy()

        def run(piece: int) -> None:
            part = pieces[piece]
            for layer, w_ih, w_hh, above, mask, *grads in layers:
                below, read = rows, words[part]
                if layer:
                    below, read = _as_table(states[layer - 1][piece], len(read))
                h, each = states[layer][piece], [grad[piece] for grad in grads]
                read_from = below, read, places[part], mask[part]
                kernels.backward(above[piece], h, *read_from, w_ih, w_hh, *each)

        run_parallel(run, len(pieces))
        gradients: list[Tensor] = []
        for (ih, hh, bias), (weight, *_) in zip(sums, reversed(cells), strict=True):
            units, features = weight.shape
            both = bias.sum(0)[:units]
            of_ih, of_hh = ih.sum(0)[:units, :features], hh.sum(0)[:units, :units]
            gradients = [of_ih.contiguous(), of_hh.contiguous(), both, both, *gradients]
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, *gradients
        table_grad = torch.empty_like(table)
        given, result, parts = coming.numpy(), table_grad.numpy(), thread_count()
        add = kernels.sum_by_word
        run_parallel(lambda part: add(given, words, part, parts, result), parts)
        return table_grad, None, None, None, *gradients


def _weights(cells: Sequence[nn.RNNCell]) -> list[Tensor]:
    return [w for c in cells for w in (c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh)]


def _by_cell(weights: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """weight_ih, weight_hh, bias_ih and bias_hh of each cell."""
    return [weights[i : i + 4] for i in range(0, len(weights), 4)]


def _check_shapes(
    weights: Sequence[Tensor], table: Tensor, masks: Sequence[torch.Size | None], reviews: int
) -> None:
    """The loops do not look whether an index is inside of an array."""
    dtypes = {table.dtype, *(weight.dtype for weight in weights)}
    if len(dtypes) > 1:
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise ValueError(f"embedding and cells are of {names}: expected one type")
    features = table.shape[1]
    for number, (cell, mask) in enumerate(zip(_by_cell(weights), masks, strict=True)):
        hidden = len(cell[1])
        expected = [(hidden, features), (hidden, hidden), (hidden,), (hidden,)]
        found = [tuple(w.shape) for w in cell]
        if found != expected:
            raise ValueError(f"cell {number} has weights {found}: expected {expected}")
        if mask is not None and mask != (reviews, features):
            raise ValueError(f"mask {number} is {tuple(mask)}: expected {(reviews, features)}")
        features = hidden


def _for_forward(w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Array, ...]:
    # as many rows as features: a product may be of any number of terms
    return _padded(w_ih.t())[: w_ih.shape[1]], _padded(b_ih + b_hh), _padded(w_hh.t())


def _padded(values: Tensor) -> Array:
    lacking = [(0, -size % kernels.NUMBERS) for size in reversed(values.shape)]
    padded = nn.functional.pad(values.detach(), [zeros for pair in lacking for zeros in pair])
    array: Array = padded.contiguous().numpy()
    return array


def _checked(ids: Tensor, rows: int) -> Tensor:
    """The ids as the loops read them, which do not look whether a row is there."""
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"ids are of {ids.dtype}: expected integers")
    ids = ids.long().contiguous()
    if ids.numel():
        low, high = ids.aminmax()
        if low < 0 or high >= rows:
            raise IndexError(f"ids from {low} to {high}: expected 0 to {rows - 1}")
    return ids


def _as_table(h: Array, reviews: int) -> tuple[Array, Array]:
    """States (T, N, H*) as a table, and the ids (reviews, T) that read them in their order."""
    steps, together, numbers = h.shape
    return h.reshape(-1, numbers), _order(steps, together)[:reviews]


@cache
def _order(steps: int, together: int) -> Array:
    """Where token t of review n stands among T N rows, (N, T)."""
    return np.arange(steps * together, dtype=np.int64).reshape(steps, together).T.copy()


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _rows(reviews: int) -> int:
    """N: reviews that go together, and rows in which there is none."""
    return min(_TOGETHER, _up(max(reviews, 1), kernels.ROWS))


def _pieces(reviews: int) -> list[slice]:
    return [slice(i, min(i + _TOGETHER, reviews)) for i in range(0, reviews, _TOGETHER)]
