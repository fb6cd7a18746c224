"""The affine coupling step on the CPU: value and log-determinant, and all gradients, in one pass.

Lanes are the columns of one row, so that a row's bits depend on nothing but that row. Lanes beyond
its end are read as zeros, which have s = 0 and change no sum, and are not written. Rows are given
by address and distance: halves of wider rows are worked on where they are, and a result may
overwrite its own input. The caller keeps the memory alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu
from bgfast_kernels.coupling.affine_spec import S_MAX
from bgfast_kernels.simd import (
    exp,
    fill,
    fma,
    lanes_in,
    load_between,
    numbers_at,
    spread,
    store_between,
    tanh,
)
from bgfast_kernels.simd.arithmetic import lane_sum

# Fewer numbers than this are not worth waking a thread for.
_LEAST_NUMBERS = 2**14


Rows = tuple[int, int]
"""Rows of numbers: the address of the first, and how many numbers further each next one is."""


class Shape(NamedTuple):
    """``n`` rows of ``m`` numbers of the dtype of the array ``like``."""

    n: int
    m: int
    like: NDArray[Any]


FLOAT32, FLOAT64 = np.empty(0, np.float32), np.empty(0, np.float64)
"""What numbers may be like."""


def affine_coupling(
    shape: Shape,
    x: Rows,
    raw_s: Rows,
    t: Rows,
    y: Rows,
    logdet: Rows,
    inverse: bool,
    *,
    more: bool = False,
) -> None:
    """Compute a coupling step.

    Parameters
    ----------
    shape
        Of all arguments but the log-determinants, which are single numbers.
    x, raw_s, t
        Coordinates, raw log-scale and shift.
    y
        Where the result goes; may be ``x``.
    logdet
        Where the log-determinants go.
    inverse
        ``x exp(s) + t`` if True, ``(x - t) exp(-s)`` if False.
    more
        Whether to add to what is at ``logdet``.
    """
    _run(_value_rows, shape, *x, *raw_s, *t, *y, *logdet, more, 1.0 if inverse else -1.0)


def affine_coupling_grad(
    shape: Shape,
    x: Rows,
    raw_s: Rows,
    t: Rows,
    grad_y: Rows,
    grad_logdet: Rows,
    grad_x: Rows,
    grad_raw_s: Rows,
    grad_t: Rows,
    inverse: bool,
) -> None:
    """Compute the gradients of a coupling step, arguments as for :func:`affine_coupling`.

    Parameters
    ----------
    grad_y, grad_logdet
        Gradient with respect to the result.
    grad_x, grad_raw_s, grad_t
        Where the gradients go; ``grad_x`` may be ``grad_y``.
    """
    inputs = (*x, *raw_s, *t, *grad_y, *grad_logdet)
    sign = 1.0 if inverse else -1.0
    _run(_grad_rows, shape, *inputs, *grad_x, *grad_raw_s, *grad_t, sign)


def _run(kernel: Any, shape: Shape, *arguments: Any) -> None:
    n, m, like = shape
    if n:
        least = max(1, _LEAST_NUMBERS // max(1, m))
        cpu.parallel_rows(kernel, n, like, m, *arguments, min_rows=least)


@cpu.jit
def _value_rows(
    start: Any,
    stop: Any,
    like: Any,
    m: Any,
    x_address: Any,
    x_stride: Any,
    s_address: Any,
    s_stride: Any,
    t_address: Any,
    t_stride: Any,
    y_address: Any,
    y_stride: Any,
    logdet_address: Any,
    logdet_stride: Any,
    more: Any,
    sign: Any,
) -> None:
    x, raw_s, t = (
        numbers_at(x_address, like),
        numbers_at(s_address, like),
        numbers_at(t_address, like),
    )
    y, logdet = numbers_at(y_address, like), numbers_at(logdet_address, like)
    lanes = lanes_in(like)
    zero = fill(like, 0.0)
    for i in range(start, stop):
        from_x, from_s, from_t, to_y = i * x_stride, i * s_stride, i * t_stride, i * y_stride
        total = zero
        for k in range(0, m, lanes):
            here = m - k
            s = S_MAX * tanh(load_between(raw_s, from_s + k, 0, here, zero) * (1.0 / S_MAX))
            total = total + s
            before = load_between(x, from_x + k, 0, here, zero)
            shift = load_between(t, from_t + k, 0, here, zero)
            after = fma(before, exp(s), shift) if sign > 0 else (before - shift) * exp(-s)
            store_between(y, to_y + k, 0, here, after)
        found, at = sign * lane_sum(total), i * logdet_stride
        logdet[at] = logdet[at] + found if more else found


@cpu.jit
def _grad_rows(
    start: Any,
    stop: Any,
    like: Any,
    m: Any,
    x_address: Any,
    x_stride: Any,
    s_address: Any,
    s_stride: Any,
    t_address: Any,
    t_stride: Any,
    grad_y_address: Any,
    grad_y_stride: Any,
    grad_logdet_address: Any,
    grad_logdet_stride: Any,
    grad_x_address: Any,
    grad_x_stride: Any,
    grad_s_address: Any,
    grad_s_stride: Any,
    grad_t_address: Any,
    grad_t_stride: Any,
    sign: Any,
) -> None:
    x, raw_s, t = (
        numbers_at(x_address, like),
        numbers_at(s_address, like),
        numbers_at(t_address, like),
    )
    grad_y, grad_logdet = numbers_at(grad_y_address, like), numbers_at(grad_logdet_address, like)
    grad_x, grad_s = numbers_at(grad_x_address, like), numbers_at(grad_s_address, like)
    grad_t = numbers_at(grad_t_address, like)
    lanes = lanes_in(like)
    zero = fill(like, 0.0)
    for i in range(start, stop):
        from_x, from_s, from_t = i * x_stride, i * s_stride, i * t_stride
        from_logdet = spread(grad_logdet, i * grad_logdet_stride)
        for k in range(0, m, lanes):
            here = m - k
            bounded = tanh(load_between(raw_s, from_s + k, 0, here, zero) * (1.0 / S_MAX))
            before = load_between(x, from_x + k, 0, here, zero)
            g = load_between(grad_y, i * grad_y_stride + k, 0, here, zero)
            if sign > 0:
                g_x = g * exp(S_MAX * bounded)
                g_s = fma(g_x, before, from_logdet)
                g_t = g
            else:
                g_x = g * exp(-S_MAX * bounded)
                shift = load_between(t, from_t + k, 0, here, zero)
                g_s = -fma(g_x, before - shift, from_logdet)
                g_t = -g_x
            store_between(grad_x, i * grad_x_stride + k, 0, here, g_x)
            store_between(grad_s, i * grad_s_stride + k, 0, here, (1.0 - bounded * bounded) * g_s)
            store_between(grad_t, i * grad_t_stride + k, 0, here, g_t)
