"""The loops of the `fused` engine, compiled for this machine's processor by numba.

Each works on some reviews of a batch and shares nothing with the others, so that threads can take
some reviews each. Compiled code does not look whether an index is inside of an array: the callers
in fused.py give shapes that fit.

Shapes: B reviews, N of them in a block, T tokens, V words, E features of a cell's input, H hidden
units. Arrays marked * are padded: an axis of reviews to a multiple of ROWS, and what stands there
does not matter; every other axis to a multiple of NUMBERS, with zeros.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

NUMBERS = 16  # a row is a multiple of so many numbers, whatever the processor's vectors hold
ROWS = 8  # of a tile, whose sums all stay in registers; it divides NUMBERS

try:
    _wide = binding.get_host_cpu_features().get("avx512f")
except RuntimeError:  # LLVM does not know this platform's features
    _wide = False
LANES = 16 if _wide else 8  # of a vector: as many float32 as a register holds; a tile needs 8

_OPTIONS: Any = {
    "nogil": True,
    "error_model": "numpy",  # x / 0 is infinite; a check of each divisor would forbid vectors
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},  # without those that hide NaN and infinity
}
_inner: Callable[[Any], Any] = njit(**_OPTIONS)


class _Compiled:
    """A function that is compiled at its first call, and kept on disk for the next process."""

    def __init__(self, function: Any) -> None:
        self._function = function
        try:
            self._kept = njit(cache=True, **_OPTIONS)(function)
        except RuntimeError:  # no folder that may be written to
            self._kept = _inner(function)

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._kept(*arguments)
        except Exception:  # what was kept is damaged, or the disk is full: compile for this process
            self._kept = _inner(self._function)
            return self._kept(*arguments)


class _Vector(types.Type):
    """LANES numbers in one register, which numba has no type for."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: _Vector) -> None:
        number = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(number, LANES))


def _pointer(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    """Return a pointer to array[i, j]; an intrinsic's values begin with these three."""
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, values[0])
    return cgutils.get_item_pointer(context, builder, kind, array, values[1:3], wraparound=False)


def _vector_pointer(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), LANES)
    return builder.bitcast(_pointer(context, builder, signature, values), vector.as_pointer())


@intrinsic
def _load(typing: Any, array: Any, i: Any, j: Any) -> Any:
    """array[i, j : j + LANES]"""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _vector_pointer(context, builder, signature, values)
        return builder.load(pointer, align=4)

    return _Vector(array.dtype)(array, types.intp, types.intp), build


@intrinsic
def _store(typing: Any, array: Any, i: Any, j: Any, vector: Any) -> Any:
    """array[i, j : j + LANES] = vector"""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _vector_pointer(context, builder, signature, values)
        builder.store(values[3], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), build


@intrinsic
def _add(typing: Any, array: Any, i: Any, j: Any, vector: Any, total: Any) -> Any:
    """total + array[i, j] * vector, one instruction"""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = builder.load(_pointer(context, builder, signature, values))
        of = values[3].type
        nothing = ir.Constant(of, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        first = builder.insert_element(nothing, number, ir.IntType(32)(0))
        everywhere = builder.shuffle_vector(first, nothing, zeros)
        product = builder.fmul(everywhere, values[3], flags=["contract"])
        return builder.fadd(values[4], product, flags=["contract"])

    return vector(array, types.intp, types.intp, vector, vector), build


@_inner
def _add_product(total, a, b):
    """total* (M, N) += a (M, K) b* (K, N), tile by tile of ROWS x LANES; K is any number."""
    for i in range(0, total.shape[0], ROWS):
        for j in range(0, total.shape[1], LANES):
            t0, t1 = _load(total, i, j), _load(total, i + 1, j)
            t2, t3 = _load(total, i + 2, j), _load(total, i + 3, j)
            t4, t5 = _load(total, i + 4, j), _load(total, i + 5, j)
            t6, t7 = _load(total, i + 6, j), _load(total, i + 7, j)
            for k in range(a.shape[1]):
                v = _load(b, k, j)
                t0, t1 = _add(a, i, k, v, t0), _add(a, i + 1, k, v, t1)
                t2, t3 = _add(a, i + 2, k, v, t2), _add(a, i + 3, k, v, t3)
                t4, t5 = _add(a, i + 4, k, v, t4), _add(a, i + 5, k, v, t5)
                t6, t7 = _add(a, i + 6, k, v, t6), _add(a, i + 7, k, v, t7)
            _store(total, i, j, t0), _store(total, i + 1, j, t1)
            _store(total, i + 2, j, t2), _store(total, i + 3, j, t3)
            _store(total, i + 4, j, t4), _store(total, i + 5, j, t5)
            _store(total, i + 6, j, t6), _store(total, i + 7, j, t7)


def _tanh(x: float) -> float:
    return math.tanh(x)


@overload(_tanh, jit_options=_OPTIONS)
def _tanh_of(x):
    """For float32 Eigen's quotient of polynomials, as TensorFlow uses it: it fits in vectors.

    `ptanh_float` in Eigen/src/Core/MathFunctionsImpl.h; within 2.4e-7 of tanh.
    """
    if x != types.float32:
        return lambda x: math.tanh(x)
    one = np.float32
    most = one(7.90531110763549805)  # where the quotient is nearest to 1: 1 - 2.4e-7
    a13, a11, a9 = one(-2.76076847742355e-16), one(2.00018790482477e-13), one(-8.60467152213735e-11)
    a7, a5, a3 = one(5.12229709037114e-08), one(1.48572235717979e-05), one(6.37261928875436e-04)
    a1, b6, b4 = one(4.89352455891786e-03), one(1.19825839466702e-06), one(1.18534705686654e-04)
    b2, b0 = one(2.26843463243900e-03), one(4.89352518554385e-03)

    def quotient(x):
        x = most if x > most else x
        x = -most if x < -most else x
        s = x * x
        above = x * (((((((a13 * s + a11) * s + a9) * s + a7) * s + a5) * s + a3) * s) + a1)
        return above / (((b6 * s + b4) * s + b2) * s + b0)

    return quotient


@_inner
def _gather(table, ids, t, mask, inputs):
    """inputs (N, E or more) = masked rows of the table for token t; what is more stays as it is."""
    for n in range(len(ids)):
        word, factor, row = table[ids[n, t]], mask[n], inputs[n]
        for e in range(len(factor)):
            row[e] = word[e] * factor[e]


@_Compiled
def forward(table, ids, padding, mask, w_ih, bias, w_hh, h):
    """h_t = tanh(W_ih (m x_t) + b + W_hh h_(t-1)), h_0 = 0, where x_t are rows of a table.

    A review's h stays 0 in front of its first word.

    Args: table (V, E), at least as wide as the mask; ids (N, T) of its rows; padding (N,): the
        number of tokens in front of a review's first word; mask m (N, E);
        w_ih (E, H*); bias* (H,); w_hh* (H, H); h* (T, N, H), overwritten, its padding with
        anything. Where w_ih has no rows, W_ih x + b is in the table* (V, H) already, for each word.
    """
    reviews, steps = ids.shape
    end = -(-reviews // ROWS) * ROWS
    inputs = np.zeros((end, len(w_ih)), h.dtype)
    first = padding.min()
    h[:first] = 0
    for t in range(first, steps):
        now = h[t, :end]
        if len(w_ih):
            _gather(table, ids, t, mask, inputs)
            for n in range(end):
                row = now[n]
                for j in range(len(row)):
                    row[j] = bias[j]
            _add_product(now, inputs, w_ih)
        else:
            for n in range(reviews):
                row, word = now[n], table[ids[n, t]]
                for j in range(len(row)):
                    row[j] = word[j]
        if t:
            _add_product(now, h[t - 1, :end], w_hh)
        for n in range(end):
            row = now[n]
            if n < reviews and t < padding[n]:
                row[:] = 0
            else:
                for j in range(len(row)):
                    row[j] = _tanh(row[j])


@_Compiled
def backward(
    above, h, table, ids, padding, mask, w_ih, w_hh, w_ih_grad, w_hh_grad, bias_grad, x_grad
):
    """Backpropagation through time, with g_t the gradient of h_t and d_t that of tanh's argument.

        d_t = g_t (1 - h_t^2),  g_(t-1) = what comes from the layer above + d_t W_hh

    Args: above: what comes from the layer above (T, N, H), or (1, N, H) to the last state alone;
        h, table, ids, padding, mask as in `forward`; w_ih* (H, E); w_hh* (H, H); w_ih_grad* (H, E),
        w_hh_grad* (H, H), bias_grad* (H,): added to; x_grad (T, N, E): overwritten.
    """
    reviews, steps = ids.shape
    end = -(-reviews // ROWS) * ROWS
    g, d = np.zeros((end, h.shape[2]), h.dtype), np.zeros((end, h.shape[2]), h.dtype)
    inputs, into = np.zeros((end, w_ih.shape[1]), h.dtype), np.zeros((end, w_ih.shape[1]), h.dtype)
    first = padding.min()
    x_grad[:first] = 0
    for t in range(steps - 1, first - 1, -1):
        token = t - (steps - len(above))
        g[:] = 0
        if token >= 0:
            g[:, : above.shape[2]] = above[token, :end]
        if t < steps - 1:
            _add_product(g, d, w_hh)
        for n in range(reviews):  # d of the padding stays 0
            slope, row, state = g[n], d[n], h[t, n]
            if t < padding[n]:
                d[n] = 0
            else:
                for j in range(len(row)):
                    row[j] = slope[j] * (1 - state[j] * state[j])
                for j in range(len(row)):
                    bias_grad[j] += row[j]
        _gather(table, ids, t, mask, inputs)
        _add_product(w_ih_grad, d.T, inputs)
        if t:
            _add_product(w_hh_grad, d.T, h[t - 1, :end])
        into[:] = 0
        _add_product(into, d, w_ih)
        for n in range(reviews):
            row, given, factor = x_grad[t, n], into[n], mask[n]
            for e in range(len(factor)):
                row[e] = given[e] * factor[e]


@_Compiled
def sum_by_word(gradients, ids, part, parts, table):
    """Some rows of a table (V, E) = the sums of gradients (C, T, N, E) at their ids (B, T).

    They are part number `part` of `parts` ranges of rows, cut so that all cost the same: clearing a
    row counts 1, adding to it 2. Ranges, since neighbours share a line of the cache, and threads
    that wrote to one line would wait for each other. B reviews stand in C blocks of N, of which the
    last may be in part empty.
    """
    cost = np.ones(len(table), np.int64)
    for b in range(len(ids)):
        for t in range(ids.shape[1]):
            cost[ids[b, t]] += 2
    before, total = np.cumsum(cost) - cost, cost.sum()
    first = np.searchsorted(before * parts, part * total)
    end = np.searchsorted(before * parts, (part + 1) * total)
    table[first:end] = 0
    size = gradients.shape[2]
    for b in range(0, len(ids), size):
        for t in range(ids.shape[1]):
            for n in range(min(size, len(ids) - b)):
                word = ids[b + n, t]
                if first <= word < end:
                    row, gradient = table[word], gradients[b // size, t, n]
                    for e in range(len(row)):
                        row[e] += gradient[e]
