"""The `fused` engine: forward and backward passes by hand, one block of reviews a thread.

A thread takes a block of reviews through all tokens and cells without waiting for the others. Which
reviews form a block does not depend on the number of threads, so neither does any result. Products
that do not wait for the token before are torch's, for all tokens at once; the rest is compiled.

Shapes: B reviews, N of a block, T tokens, V rows of a table, E features of a cell's input, H hidden
units.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lit_imdb.model import kernels
from lit_imdb.model.threads import run_parallel, thread_count

_BLOCK = 32  # reviews: their states of one cell stay in the second-level cache

Masks = Sequence[Tensor | None]


def last_state(
    cells: Sequence[nn.RNNCell], table: Tensor, ids: Tensor, masks: Masks, begun: Tensor
) -> Tensor:
    """The last hidden state (B, H) of the last cell, where the first reads rows of a table.

    Args:
        cells: The stack; each reads the hidden states of the one before.
        table: (V, E).
        ids: Row numbers (B, T).
        masks: See `recurrence.hidden_states`.
        begun: See there; once a review has begun, all its tokens count.

    Raises:
        IndexError: The table has no such row.
        TypeError: ids are no integers.
        ValueError: A mask or a weight has not the shape or the type that its input asks for.
    """
    weights = _weights(cells)
    _check_shapes(weights, table, masks, len(ids))
    masks = [mask if mask is None else mask.to(table.dtype) for mask in masks]
    last: Tensor = _Unrolled.apply(table, ids, begun, masks, *weights)  # type: ignore[no-untyped-call]
    return last


class Evaluation:
    """The same without gradients and masks, with the weights as they are now.

    The embedding and the first projection become one table: what the first cell adds for a word is
    then a row to look up.
    """

    @torch.no_grad()
    def __init__(self, cells: Sequence[nn.RNNCell], table: Tensor) -> None:
        weights = _weights(cells)
        table = table.to(weights[0].dtype)
        _check_shapes(weights, table, [None] * len(cells), 0)
        w_ih, _, b_ih, b_hh = (weight.double() for weight in weights[:4])
        with torch.autocast("cpu", enabled=False):
            # in 64 bits: the last digit of 32 would depend on the number of threads
            added = nn.functional.linear(table.double(), w_ih, b_ih + b_hh)
        self._table = added.to(table.dtype)  # (V, H)
        self._cells = _by_cell([weight.detach().clone() for weight in weights])

    def last_state(self, ids: Tensor, begun: Tensor) -> Tensor:
        """(B, H) of ids and begun (B, T); raises IndexError as above."""
        ids, padding = _checked(ids, len(self._table)), (~begun).sum(1)
        blocks, table = _blocks(len(ids)), self._table
        last = table.new_empty(len(ids), table.shape[1])

        def run(number: int) -> None:
            block = blocks[number]
            h = _look_up(table, ids[block])  # (T, N, H)
            _recur(h, self._cells[0], padding[block])
            for cell in self._cells[1:]:
                h = _project(h, cell)
                _recur(h, cell, padding[block])
            last[block] = h[-1]

        run_parallel(run, len(blocks))
        return last


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor, ids: Tensor, begun: Tensor, masks: Masks, *weights: Tensor
    ) -> Tensor:
        ids, padding = _checked(ids, len(table)), (~begun).sum(1)
        blocks, cells = _blocks(len(ids)), _by_cell(weights)
        last = table.new_empty(len(ids), len(cells[-1][1]))
        kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in blocks]  # x and h of each cell

        def run(number: int) -> None:
            block = blocks[number]
            h = _look_up(table, ids[block])  # (T, N, E)
            for cell, mask in zip(cells, masks, strict=True):
                x = h if mask is None else h * mask[block]  # (T, N, E)
                h = _project(x, cell)  # (T, N, H)
                _recur(h, cell, padding[block])
                kept[number].append((x, h))
            last[block] = h[-1]

        run_parallel(run, len(blocks))
        ctx.save_for_backward(ids, padding, *weights)
        ctx.rows, ctx.masks, ctx.kept = len(table), masks, kept
        return last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        ids, padding, *weights = ctx.saved_tensors
        blocks, cells = _blocks(len(ids)), _by_cell(weights)
        # each block's own, so that their sum does not depend on which thread was first
        grads = [[w.new_zeros(len(blocks), *w.shape) for w in cell[:3]] for cell in cells]
        of_words: list[Tensor] = [incoming] * len(blocks)  # (T, N, E) each
        needs_table = ctx.needs_input_grad[0]

        def run(number: int) -> None:
            block, kept = blocks[number], ctx.kept[number]
            d = torch.zeros_like(kept[-1][1])  # (T, N, H), the gradient of h
            d[-1] = incoming[block]
            for layer in reversed(range(len(cells))):
                (w_ih, w_hh, *_), (x, h), mask = cells[layer], kept[layer], ctx.masks[layer]
                w_hh = w_hh.contiguous()
                kernels.backward(d.numpy(), h.numpy(), w_hh.numpy(), padding[block].numpy())
                w_ih_grad, w_hh_grad, bias_grad = (grad[number] for grad in grads[layer])
                flat = d.flatten(0, 1)  # (T N, H), the gradient of what tanh is of
                torch.mm(flat.t(), x.flatten(0, 1), out=w_ih_grad)
                torch.mm(d[1:].flatten(0, 1).t(), h[:-1].flatten(0, 1), out=w_hh_grad)
                torch.sum(flat, 0, out=bias_grad)
                if layer or needs_table:
                    d = torch.mm(flat, w_ih).view_as(x)  # the gradient of x, then of what it masks
                    d = d if mask is None else d.mul_(mask[block])
            of_words[number] = d

        run_parallel(run, len(blocks))
        sums: list[Tensor] = []
        for cell in grads:
            w_ih_grad, w_hh_grad, bias_grad = (grad.sum(0) for grad in cell)
            sums += [w_ih_grad, w_hh_grad, bias_grad, bias_grad]
        if not needs_table:
            return None, None, None, None, *sums
        table_grad = incoming.new_empty(ctx.rows, cells[0][0].shape[1])  # (V, E)
        edges = torch.linspace(0, table_grad.shape[1], thread_count() + 1).long().tolist()

        def add(number: int) -> None:
            first, end = edges[number : number + 2]  # of the columns
            table_grad[:, first:end] = 0
            for block, grad in zip(blocks, of_words, strict=True):
                kernels.sum_by_word(
                    grad.numpy(), ids[block].numpy(), first, end, table_grad.numpy()
                )

        run_parallel(add, len(edges) - 1)
        return table_grad, None, None, None, *sums


def _look_up(table: Tensor, ids: Tensor) -> Tensor:
    """Rows (T, N, E) of a table (V, E) for ids (N, T)."""
    reviews, steps = ids.shape
    return table.index_select(0, ids.t().flatten()).view(steps, reviews, -1)


def _project(x: Tensor, cell: Sequence[Tensor]) -> Tensor:
    """W_ih x + b (T, N, H) of x (T, N, E)."""
    w_ih, _, b_ih, b_hh = cell
    return torch.addmm(b_ih + b_hh, x.flatten(0, 1), w_ih.t()).view(*x.shape[:2], -1)


def _recur(h: Tensor, cell: Sequence[Tensor], padding: Tensor) -> None:
    """States (T, N, H) in place of what `_project` gives."""
    w_hh = cell[1].t().contiguous()
    kernels.forward(h.numpy(), w_hh.numpy(), padding.numpy())


def _blocks(reviews: int) -> list[slice]:
    return [slice(i, min(i + _BLOCK, reviews)) for i in range(0, reviews, _BLOCK)]


def _weights(cells: Sequence[nn.RNNCell]) -> list[Tensor]:
    return [w for c in cells for w in (c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh)]


def _by_cell(weights: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """weight_ih, weight_hh, bias_ih and bias_hh of each cell."""
    return [weights[i : i + 4] for i in range(0, len(weights), 4)]


def _check_shapes(weights: Sequence[Tensor], table: Tensor, masks: Masks, reviews: int) -> None:
    """Raise ValueError where shapes or types do not fit: compiled loops do not check indices."""
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
        if mask is not None and mask.shape != (reviews, features):
            shape = tuple(mask.shape)
            raise ValueError(f"mask {number} is {shape}: expected {(reviews, features)}")
        features = hidden


def _checked(ids: Tensor, rows: int) -> Tensor:
    """The ids as int64, all of them rows that a table has."""
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"ids are of {ids.dtype}: expected integers")
    ids = ids.long().contiguous()
    if ids.numel():
        low, high = ids.aminmax()
        if low < 0 or high >= rows:
            raise IndexError(f"ids from {low} to {high}: expected 0 to {rows - 1}")
    return ids
