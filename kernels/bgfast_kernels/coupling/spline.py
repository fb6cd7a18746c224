"""The rational-quadratic spline's public CPU kernels: arrays in, arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import cpu
from bgfast_kernels.coupling.spline_gradient import gradient_rows
from bgfast_kernels.coupling.spline_parameters import check, constants
from bgfast_kernels.coupling.spline_rows import spline_rows

Array = NDArray[Any]

_ELEMENTS_PER_THREAD = 4096


def spline(x: Array, raw: Array, bound: float, inverse: bool = False) -> tuple[Array, Array]:
    """Map every coordinate by its own monotonic rational-quadratic spline.

    Parameters
    ----------
    x
        ``[n, m]`` numbers, float32 or float64.
    raw
        ``[n, 3 K - 1, m]``: K raw widths, K raw heights, K - 1 raw slopes of each coordinate.
    bound
        The spline acts on [-bound, bound]; outside it is the identity.
    inverse
        Apply the inverse map.

    Returns
    -------
    y, logdet
        ``[n, m]`` values and ``[n]`` sums of log dy/dx over the coordinates.
    """
    n, m = x.shape
    n_bins = check(raw.shape[1], bound)
    y, logdet = np.empty((n, m), x.dtype), np.zeros(n, x.dtype)
    if n * m:
        numbers = constants(bound, n_bins, x.dtype)
        arguments = (_flat(x), _flat(raw), m, n_bins, inverse, numbers, y.reshape(-1), logdet)
        _parallel(spline_rows, x, *arguments)
    return y, logdet


def spline_gradient(
    x: Array, raw: Array, grad_value: Array, grad_logdet: Array, bound: float, inverse: bool = False
) -> tuple[Array, Array]:
    """Return the gradients of a loss by the input of :func:`spline` and by ``raw``.

    Parameters
    ----------
    x
        ``[n, m]``: the input of :func:`spline`.
    raw, bound, inverse
        As given to :func:`spline`.
    grad_value, grad_logdet
        ``[n, m]`` and ``[n]``: derivatives of the loss by the outputs of :func:`spline`.

    Returns
    -------
    grad_input, grad_raw
        Shaped like ``x`` and ``raw``.
    """
    n, m = x.shape
    n_bins = check(raw.shape[1], bound)
    grad_input, grad_raw = np.empty((n, m), x.dtype), np.empty(raw.shape, x.dtype)
    if n * m:
        inputs = (_flat(x), _flat(raw), _flat(grad_value), _flat(grad_logdet))
        sizes = (m, n_bins, inverse, constants(bound, n_bins, x.dtype))
        outputs = (grad_input.reshape(-1), grad_raw.reshape(-1))
        _parallel(gradient_rows, x, *inputs, *sizes, *outputs)
    return grad_input, grad_raw


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1)


def _parallel(kernel: Any, x: Array, *arguments: Any) -> None:
    n, m = x.shape
    lanes = 64 // x.dtype.itemsize
    min_rows = max(lanes, _ELEMENTS_PER_THREAD // m)
    cpu.parallel_rows(kernel, n, *arguments, block=lanes, min_rows=min_rows)
