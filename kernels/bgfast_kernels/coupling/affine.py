"""The affine coupling step on the CPU: value and log-determinant, and all gradients, in one pass.

Lanes are the columns of one row, so that a row's bits depend on nothing but that row. A row is
copied to a buffer filled up with zeros to whole vectors; zeros have s = 0 and change no sum.
Arrays are flat, with the distance between rows beside them: halves of wider rows are worked on
where they are, and a result may overwrite its own input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu
from bgfast_kernels.coupling.affine_spec import S_MAX
from bgfast_kernels.simd import (
    exp,
    expm1,
    fma,
    lanes_in,
    larger,
    load,
    smaller,
    spread,
    store,
)

Array = NDArray[Any]

# exp(2 SATURATED) is beyond the precision of float64: there tanh is 1.
SATURATED = 20.0
# Fewer numbers than this are not worth waking a thread for.
_LEAST_NUMBERS = 2**17


class Rows(NamedTuple):
    """``n`` rows of ``m`` numbers, row i at ``flat[i * stride]``."""

    flat: Array
    stride: int


def affine_coupling(
    x: Rows, raw_s: Rows, t: Rows, y: Rows, logdet: Array, m: int, inverse: bool
) -> None:
    """Compute a coupling step.

    Parameters
    ----------
    x, raw_s, t
        Coordinates, raw log-scale and shift, ``[n, m]`` each, float32 or float64.
    y
        Where the result goes, ``[n, m]``; may be ``x``.
    logdet
        ``[n]``; the log-determinants are added to it.
    m
        Numbers in a row.
    inverse
        ``x exp(s) + t`` if True, ``(x - t) exp(-s)`` if False.
    """
    sign = 1.0 if inverse else -1.0
    _run(_value_rows, len(logdet), m, *x, *raw_s, *t, *y, logdet, m, sign)


def affine_coupling_grad(
    x: Rows,
    raw_s: Rows,
    t: Rows,
    grad_y: Rows,
    grad_logdet: Array,
    grad_x: Rows,
    grad_raw_s: Rows,
    grad_t: Rows,
    m: int,
    inverse: bool,
) -> None:
    """Compute the gradients of a coupling step, arguments as for :func:`affine_coupling`.

    Parameters
    ----------
    grad_y, grad_logdet
        Gradient with respect to the result, ``[n, m]`` and ``[n]``.
    grad_x, grad_raw_s, grad_t
        Where the gradients go, ``[n, m]`` each; ``grad_x`` may be ``grad_y``.
    """
    inputs = (*x, *raw_s, *t, *grad_y, grad_logdet)
    sign = 1.0 if inverse else -1.0
    outputs = (*grad_x, *grad_raw_s, *grad_t)
    _run(_grad_rows, len(grad_logdet), m, *inputs, *outputs, m, sign)


def _run(kernel: Any, n: int, m: int, *arguments: Any) -> None:
    if n:
        cpu.parallel_rows(kernel, n, *arguments, min_rows=max(1, _LEAST_NUMBERS // m))


@cpu.jit(inline="always")  # type: ignore[untyped-decorator]
def _tanh(a: Any, limit: Any) -> Any:
    e = expm1(larger(-limit, smaller(limit, a + a)))
    return e / (e + 2.0)


@cpu.jit
def _copy(source: Any, start: Any, target: Any, target_start: Any, m: Any) -> None:
    for j in range(m):
        target[target_start + j] = source[start + j]


@cpu.jit
def _sum(numbers: Any) -> Any:
    width = len(numbers) // 2
    while width:
        for j in range(width):
            numbers[j] += numbers[j + width]
        width //= 2
    return numbers[0]


@cpu.jit
def _value_rows(
    start: Any,
    stop: Any,
    x: Any,
    x_stride: Any,
    raw_s: Any,
    s_stride: Any,
    t: Any,
    t_stride: Any,
    y: Any,
    y_stride: Any,
    logdet: Any,
    m: Any,
    sign: Any,
) -> None:
    lanes = lanes_in(x)
    width = -(-m // lanes) * lanes
    row_x, row_s, row_t = (
        np.zeros(width, x.dtype),
        np.zeros(width, x.dtype),
        np.zeros(width, x.dtype),
    )
    totals = np.zeros(lanes, x.dtype)
    limit = spread(np.full(1, 2 * SATURATED, x.dtype), 0)
    for i in range(start, stop):
        _copy(x, i * x_stride, row_x, 0, m)
        _copy(raw_s, i * s_stride, row_s, 0, m)
        _copy(t, i * t_stride, row_t, 0, m)
        total = limit - limit
        for k in range(0, width, lanes):
            s = S_MAX * _tanh(load(row_s, k) * (1.0 / S_MAX), limit)
            total = total + s
            if sign > 0:
                store(row_x, k, fma(load(row_x, k), exp(s), load(row_t, k)))
            else:
                store(row_x, k, (load(row_x, k) - load(row_t, k)) * exp(-s))
        _copy(row_x, 0, y, i * y_stride, m)
        store(totals, 0, total)
        logdet[i] += sign * _sum(totals)


@cpu.jit
def _grad_rows(
    start: Any,
    stop: Any,
    x: Any,
    x_stride: Any,
    raw_s: Any,
    s_stride: Any,
    t: Any,
    t_stride: Any,
    grad_y: Any,
    grad_y_stride: Any,
    grad_logdet: Any,
    grad_x: Any,
    grad_x_stride: Any,
    grad_s: Any,
    grad_s_stride: Any,
    grad_t: Any,
    grad_t_stride: Any,
    m: Any,
    sign: Any,
) -> None:
    lanes = lanes_in(x)
    width = -(-m // lanes) * lanes
    row_x, row_s, row_t = (
        np.zeros(width, x.dtype),
        np.zeros(width, x.dtype),
        np.zeros(width, x.dtype),
    )
    row_g = np.zeros(width, x.dtype)
    limit = spread(np.full(1, 2 * SATURATED, x.dtype), 0)
    for i in range(start, stop):
        _copy(x, i * x_stride, row_x, 0, m)
        _copy(raw_s, i * s_stride, row_s, 0, m)
        _copy(t, i * t_stride, row_t, 0, m)
        _copy(grad_y, i * grad_y_stride, row_g, 0, m)
        from_logdet = spread(grad_logdet, i)
        for k in range(0, width, lanes):
            bounded = _tanh(load(row_s, k) * (1.0 / S_MAX), limit)
            g = load(row_g, k)
            if sign > 0:
                g_x = g * exp(S_MAX * bounded)
                g_s = fma(g_x, load(row_x, k), from_logdet)
                store(row_t, k, g)
            else:
                g_x = g * exp(-S_MAX * bounded)
                g_s = -fma(g_x, load(row_x, k) - load(row_t, k), from_logdet)
                store(row_t, k, -g_x)
            store(row_x, k, g_x)
            store(row_s, k, (1.0 - bounded * bounded) * g_s)
        _copy(row_x, 0, grad_x, i * grad_x_stride, m)
        _copy(row_s, 0, grad_s, i * grad_s_stride, m)
        _copy(row_t, 0, grad_t, i * grad_t_stride, m)
        for k in range(m, width):
            row_x[k], row_s[k], row_t[k] = 0.0, 0.0, 0.0
