"""The `fused` engine: forward and backward passes as compiled loops, shared among threads.

A thread takes a block of reviews through all tokens and cells, without waiting for other blocks.
Which reviews share a block does not depend on the number of threads, so neither does any result.
Each cell reads rows of a table by their numbers: the first one the embedding by word, the others
the states of the cell below by token.

Shapes: B reviews in C blocks of N, the last of them in part empty, T tokens, V rows of a table, E
features of a cell's input, H hidden units; * padded with zeros up to a multiple of kernels.NUMBERS.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lit_imdb.model import kernels
from lit_imdb.model.recurrence import Cells, Masks, padding_of
from lit_imdb.model.threads import run_parallel, thread_count

_BLOCK = 32  # N: states of one cell stay in the second-level cache; a multiple of kernels.ROWS

Array = np.ndarray[Any, Any]


def fused(
    cells: Cells, inputs: Tensor, masks: Masks, padding: Tensor, at_every_word: bool = False
) -> Tensor:
    """Compute the same; `inputs` (B, T, E) are a table whose rows are read once each."""
    reviews, steps, features = inputs.shape
    order = torch.arange(reviews * steps, device=inputs.device).view(reviews, steps)
    return unroll(cells, inputs.reshape(-1, features), order, masks, padding, at_every_word)


def unroll(
    cells: Cells, table: Tensor, ids: Tensor, masks: Masks, padding: Tensor, at_every_word: bool
) -> Tensor:
    """Return the last cell's state (B, H); the first reads rows `ids` (B, T) of a table (V, E).

    Of the other arguments see `recurrence.hidden_states`; `at_every_word` asks for the states at
    every token (B, T, H).

    Raises:
        IndexError: The table has no such row.
        RuntimeError: A mask has not the shape of its input.
        TypeError: ids are no integers.
        ValueError: A weight has not the shape or the type that its input asks for.
    """
    weights = _weights(cells, table)
    table = table.to(weights[0].dtype)
    run = _untraced(_Unrolled.apply)
    states = run(table, ids, padding, masks, at_every_word, *weights)
    return states if at_every_word else states.squeeze(1)


class Evaluation:
    """The logits (B,) of ids (B, T), without gradients, with the weights as they are now.

    The embedding and the first projection become one table: what the first cell adds for a word is
    then a row to look up, and a third of the arithmetic is gone.
    """

    @torch.no_grad()
    def __init__(self, cells: Cells, table: Tensor, head: nn.Module) -> None:
        weights = _weights(cells, table)
        dtype = weights[0].dtype
        w_ih, _, b_ih, b_hh = (weight.double() for weight in weights[:4])
        # in 64 bits: the last digit of 32 would depend on the number of threads
        added = nn.functional.linear(table.to(dtype).double(), w_ih, b_ih + b_hh)
        self._table = _padded(added.to(dtype))  # (V*, H*)
        self._words, self._hidden, self._head = len(table), len(weights[-1]), head
        self._layers = []
        for layer, cell in enumerate(_by_cell(weights)):
            of_input, bias, w_hh = _for_forward(*cell)
            mask = np.ones((_BLOCK, len(of_input)), bias.dtype)
            # the table has the first projection
            self._layers.append((mask, of_input if layer else of_input[:0], bias, w_hh))

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """Return the logits; raises IndexError if the table has no such row."""
        return self._head(_untraced(self._last_state)(ids)).squeeze(1)  # (B,)

    def _last_state(self, ids: Tensor) -> Tensor:
        words, places = _checked(ids, self._words).numpy(), padding_of(ids).numpy()
        reviews, steps = words.shape
        blocks, dtype = _blocks(reviews), self._table.dtype
        last = np.empty((reviews, self._hidden), dtype)

        def run(number: int) -> None:
            block = blocks[number]
            below, read = self._table, words[block]
            for layer in self._layers:
                h = np.empty((steps, _BLOCK, len(layer[-1])), dtype)
                kernels.forward(below, read, places[block], *layer, h)
                below, read = _as_table(h, len(read))
            last[block] = h[-1, : len(read), : self._hidden]

        run_parallel(run, len(blocks))
        return torch.from_numpy(last)  # (B, H)


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        ids: Tensor,
        padding: Tensor,
        masks: Masks,
        at_every_word: bool,
        *weights: Tensor,
    ) -> Tensor:
        table, ids = table.contiguous(), _checked(ids, len(table))
        reviews, steps = ids.shape
        blocks = _blocks(reviews)
        factors, states, layers = [], [], []
        for mask, cell in zip(masks, _by_cell(weights), strict=True):
            w_ih, bias, w_hh = _for_forward(*cell)
            factor = table.new_ones(()) if mask is None else mask.to(table.dtype)
            factors.append(factor.expand(reviews, cell[0].shape[1]).contiguous())
            states.append(table.new_empty(len(blocks), steps, _BLOCK, len(w_hh)))
            layers.append((factors[-1].numpy(), w_ih, bias, w_hh, states[-1].numpy()))
        rows, words, places = table.numpy(), ids.numpy(), padding.numpy()

        def run(number: int) -> None:
            block = blocks[number]
            below, read = rows, words[block]
            for mask, w_ih, bias, w_hh, h in layers:
                read_from = below, read, places[block], mask[block]
                kernels.forward(*read_from, w_ih, bias, w_hh, h[number])
                below, read = _as_table(h[number], len(read))

        run_parallel(run, len(blocks))
        ctx.save_for_backward(table, ids, padding, *factors, *states, *weights)
        found = states[-1] if at_every_word else states[-1][:, -1:]  # (C, T or 1, N, H*)
        return found.transpose(1, 2).flatten(0, 1)[:reviews, :, : len(weights[-1])].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        table, ids, padding, *kept = ctx.saved_tensors
        count = len(kept) // 6  # a mask, the states and four weights of each cell
        factors, states = kept[:count], [h.numpy() for h in kept[count : 2 * count]]
        cells = _by_cell(kept[2 * count :])
        reviews, steps = ids.shape
        blocks = _blocks(reviews)
        rows, words, places = table.numpy(), ids.numpy(), padding.numpy()
        padded = nn.functional.pad(incoming, (0, 0, 0, 0, 0, -reviews % _BLOCK))
        by_block = padded.view(len(blocks), _BLOCK, *incoming.shape[1:])
        coming = by_block.transpose(1, 2).contiguous()  # (C, T or 1, N, H)
        layers, sums = [], []
        for layer in reversed(range(count)):
            w_ih, w_hh = _padded(cells[layer][0]), _padded(cells[layer][1])
            shapes = w_ih.shape, w_hh.shape, w_hh.shape[:1]
            grads = [table.new_zeros(len(blocks), *shape) for shape in shapes]
            x_grad = table.new_empty(len(blocks), steps, _BLOCK, cells[layer][0].shape[1])
            arrays = [tensor.numpy() for tensor in (coming, factors[layer], *grads, x_grad)]
            layers.append((layer, w_ih, w_hh, *arrays))
            sums.append(grads)
            coming = x_grad

        def run(number: int) -> None:
            block = blocks[number]
            for layer, w_ih, w_hh, above, mask, *grads in layers:
                below, read = rows, words[block]
                if layer:
                    below, read = _as_table(states[layer - 1][number], len(read))
                h, each = states[layer][number], [grad[number] for grad in grads]
                read_from = below, read, places[block], mask[block]
                kernels.backward(above[number], h, *read_from, w_ih, w_hh, *each)

        run_parallel(run, len(blocks))
        gradients: list[Tensor] = []
        for (ih, hh, bias), (weight, *_) in zip(sums, reversed(cells), strict=True):
            units, features = weight.shape
            both = bias.sum(0)[:units]
            of_ih, of_hh = ih.sum(0)[:units, :features], hh.sum(0)[:units, :units]
            gradients = [of_ih, of_hh, both, both, *gradients]
        table_grad = torch.empty_like(table)
        given, result, parts = coming.numpy(), table_grad.numpy(), thread_count()
        run_parallel(lambda part: kernels.sum_by_word(given, words, part, parts, result), parts)
        return table_grad, None, None, None, None, *gradients


def _untraced(function: Any) -> Any:
    """Return `function` for torch.compile, which cannot trace what numba has compiled."""
    compiling = torch.compiler.is_compiling()
    return torch.compiler.disable(function) if compiling else function  # type: ignore[no-untyped-call]


def _weights(cells: Cells, table: Tensor) -> list[Tensor]:
    """Return the weights of all cells, one after the other.

    Raises:
        ValueError: The loops, which check no index, cannot take them.
    """
    weights: list[Tensor] = []
    features, dtype = table.shape[1], cells[0].weight_hh.dtype
    for number, cell in enumerate(cells):
        found = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        hidden = len(cell.weight_hh)
        shapes = [(hidden, features), (hidden, hidden), (hidden,), (hidden,)]
        if [w.shape for w in found] != shapes or any(w.dtype != dtype for w in found):
            described = [(w.dtype, *w.shape) for w in found]
            raise ValueError(f"cell {number} has {described}: expected {shapes} of {dtype}")
        weights += found
        features = hidden
    return weights


def _by_cell(weights: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Return weight_ih, weight_hh, bias_ih and bias_hh of each cell."""
    return [weights[i : i + 4] for i in range(0, len(weights), 4)]


def _for_forward(w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Array, ...]:
    # as many rows as features: a product may be of any number of terms
    return _padded(w_ih.t())[: w_ih.shape[1]], _padded(b_ih + b_hh), _padded(w_hh.t())


def _padded(values: Tensor) -> Array:
    lacking = [-size % kernels.NUMBERS for size in reversed(values.shape)]
    values = values.detach()
    if any(lacking):
        values = nn.functional.pad(values, [zeros for lack in lacking for zeros in (0, lack)])
    return values.contiguous().numpy()


def _checked(ids: Tensor, rows: int) -> Tensor:
    """Return ids as the loops read them: int64, each of them a row of the table."""
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"ids are of {ids.dtype}: expected integers")
    ids = ids.long().contiguous()
    if ids.numel():
        low, high = ids.aminmax()
        if low < 0 or high >= rows:
            raise IndexError(f"ids from {low} to {high}: expected 0 to {rows - 1}")
    return ids


def _as_table(h: Array, reviews: int) -> tuple[Array, Array]:
    """Return states (T, N, H*) as a table, and the ids (reviews, T) that read it in order."""
    return h.reshape(-1, h.shape[2]), _order(len(h))[:reviews]


@cache
def _order(steps: int) -> Array:
    """Return where token t of review n stands among T N rows, (N, T)."""
    return np.arange(steps * _BLOCK, dtype=np.int64).reshape(steps, _BLOCK).T.copy()


def _blocks(reviews: int) -> list[slice]:
    return [slice(i, min(i + _BLOCK, reviews)) for i in range(0, reviews, _BLOCK)]
