"""The affine coupling step on the CPU: value and log-determinant, and all gradients, in one pass.

Lanes are the columns of one row, so that a row's bits depend on nothing but that row. Lanes beyond
its end are read as zeros, which have s = 0 and change no sum, and are not written.
Arrays are flat, with the distance between rows beside them: halves of wider rows are worked on
where they are, and a result may overwrite its own input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from bgfast_kernels import cpu
from bgfast_kernels.coupling.affine_spec import S_MAX
from bgfast_kernels.simd import exp, expm1, fma, lanes_in, larger, smaller, spread
from bgfast_kernels.simd.arithmetic import lane_sum
from bgfast_kernels.simd.memory import fill, load_between, store_between

Array = NDArray[Any]

# exp(2 SATURATED) is beyond the precision of float64: there tanh is 1.
SATURATED = 20.0
# Fewer numbers than this are not worth waking a thread for.
_LEAST_NUMBERS = 2**14


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
def _tanh(a: Any, zero: Any) -> Any:
    limit = zero + 2 * SATURATED
    e = expm1(larger(-limit, smaller(limit, a + a)))
    return e / (e + 2.0)


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
    zero = fill(x, 0.0)
    for i in range(start, stop):
        from_x, from_s, from_t, to_y = i * x_stride, i * s_stride, i * t_stride, i * y_stride
        total = zero
        for k in range(0, m, lanes):
            here = m - k
            s = S_MAX * _tanh(load_between(raw_s, from_s + k, 0, here, zero) * (1.0 / S_MAX), zero)
            total = total + s
            before = load_between(x, from_x + k, 0, here, zero)
            shift = load_between(t, from_t + k, 0, here, zero)
            after = fma(before, exp(s), shift) if sign > 0 else (before - shift) * exp(-s)
            store_between(y, to_y + k, 0, here, after)
        logdet[i] += sign * lane_sum(total)


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
    zero = fill(x, 0.0)
    for i in range(start, stop):
        from_x, from_s, from_t = i * x_stride, i * s_stride, i * t_stride
        from_logdet = spread(grad_logdet, i)
        for k in range(0, m, lanes):
            here = m - k
            bounded = _tanh(load_between(raw_s, from_s + k, 0, here, zero) * (1.0 / S_MAX), zero)
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
