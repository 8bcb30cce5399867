"""The loops of the `fused` engine, compiled for this machine's processor by numba.

What one token needs of the one before it is here; all else is torch's, for all tokens at once. Each
call takes one block of reviews and shares nothing with other calls, so that threads can take a
block each. Compiled code does not check indices: fused.py gives it shapes that fit.

Shapes: N reviews of a block, T tokens, V rows of a table, E features of a row, H hidden units.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

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


@_inner
def _add_product(total, a, b):
    """total (M, N) += a (M, K) b (K, N), four rows by four terms at a time."""
    rows, terms = len(total), len(b)
    for i in range(0, rows - 3, 4):
        r0, r1, r2, r3 = total[i], total[i + 1], total[i + 2], total[i + 3]
        for k in range(0, terms - 3, 4):
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            a00, a01, a02, a03 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            a10, a11, a12, a13 = a[i + 1, k], a[i + 1, k + 1], a[i + 1, k + 2], a[i + 1, k + 3]
            a20, a21, a22, a23 = a[i + 2, k], a[i + 2, k + 1], a[i + 2, k + 2], a[i + 2, k + 3]
            a30, a31, a32, a33 = a[i + 3, k], a[i + 3, k + 1], a[i + 3, k + 2], a[i + 3, k + 3]
            for j in range(total.shape[1]):
                v0, v1, v2, v3 = b0[j], b1[j], b2[j], b3[j]
                r0[j] += a00 * v0 + a01 * v1 + a02 * v2 + a03 * v3
                r1[j] += a10 * v0 + a11 * v1 + a12 * v2 + a13 * v3
                r2[j] += a20 * v0 + a21 * v1 + a22 * v2 + a23 * v3
                r3[j] += a30 * v0 + a31 * v1 + a32 * v2 + a33 * v3
        for k in range(terms - terms % 4, terms):
            a0, a1, a2, a3, row = a[i, k], a[i + 1, k], a[i + 2, k], a[i + 3, k], b[k]
            for j in range(total.shape[1]):
                v = row[j]
                r0[j] += a0 * v
                r1[j] += a1 * v
                r2[j] += a2 * v
                r3[j] += a3 * v
    for i in range(rows - rows % 4, rows):
        for k in range(terms):
            for j in range(total.shape[1]):
                total[i, j] += a[i, k] * b[k, j]


@_inner
def _tanh32(x):
    """tanh as Eigen's quotient of polynomials, which the compiler turns into vectors.

    `ptanh_float` in Eigen/src/Core/MathFunctionsImpl.h; within 2.4e-7 of tanh.
    """
    most = np.float32(7.90531110763549805)  # where the quotient is nearest to 1
    x = most if x > most else x
    x = -most if x < -most else x
    s = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * s + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * s + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return x * p / q


@_inner
def _tanh(row):
    """row (H,) = tanh(row)."""
    if row.itemsize == 4:
        for j in range(len(row)):
            row[j] = _tanh32(row[j])
    else:
        for j in range(len(row)):
            row[j] = math.tanh(row[j])


@_Compiled
def forward(h, w_hh, padding):
    """h_t = tanh(h_t + W_hh h_(t-1)), in place, where h_t is W_ih x_t + b before.

    Args: h (T, N, H); w_hh (H, H), transposed; padding (N,): tokens in front of a review's first
        word, where its h is set to 0.
    """
    first = padding.min()
    h[:first] = 0
    for t in range(first, len(h)):
        now = h[t]
        if t:
            _add_product(now, h[t - 1], w_hh)
        for n in range(len(now)):
            if t < padding[n]:
                now[n] = 0
            else:
                _tanh(now[n])


@_Compiled
def backward(d, h, w_hh, padding):
    """d_t = (d_t + d_(t+1) W_hh) (1 - h_t^2): backpropagation through time, in place.

    Args: d (T, N, H): the gradient of h_t that comes from above, and then that of what tanh is of;
        h, padding as in `forward`; w_hh (H, H).
    """
    first = padding.min()
    d[:first] = 0
    for t in range(len(d) - 1, first - 1, -1):
        now = d[t]
        if t < len(d) - 1:
            _add_product(now, d[t + 1], w_hh)
        for n in range(len(now)):
            row, state = now[n], h[t, n]
            if t < padding[n]:
                row[:] = 0
            else:
                for j in range(len(row)):
                    row[j] *= 1 - state[j] * state[j]


@_Compiled
def sum_by_word(gradients, ids, first, end, table):
    """table (V, E) += gradients (T, N, E) at their ids (N, T), in columns `first` to `end`."""
    for n in range(len(ids)):
        for t in range(ids.shape[1]):
            row, gradient = table[ids[n, t]], gradients[t, n]
            for e in range(first, end):
                row[e] += gradient[e]
