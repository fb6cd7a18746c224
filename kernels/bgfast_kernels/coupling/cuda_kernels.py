"""The coupling steps' CUDA kernels: programs and launches.

A row is shared by as many neighbouring lanes as its width asks for, and by no other row: its bits
are the same in any batch.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from bgfast_kernels import cuda
from bgfast_kernels.coupling.affine_spec import S_MAX
from bgfast_kernels.coupling.spline_parameters import check, constants

BLOCK = 128


class Rows(NamedTuple):
    """Rows of numbers on the device: the address, and how many numbers apart rows start."""

    address: int
    stride: int


def lanes(m: int) -> int:
    """Return the number of threads that share a row of ``m`` numbers.

    Few enough to leave few of them without a number, at least one sector of memory (8 floats).
    """
    return 4 if m <= 4 else 8 if m <= 48 else 32


@functools.lru_cache(maxsize=16)
def affine_program(m: int, dtype: str) -> cuda.Program:
    """Return the program of ``affine_value`` and ``affine_gradient``."""
    defines = (("G", lanes(m)), ("BLOCK", BLOCK), ("S_MAX", int(S_MAX)))
    return cuda.Program("coupling/affine.cuh", dtype, defines)


@functools.lru_cache(maxsize=32)
def spline_program(m: int, inverse: bool, dtype: str) -> cuda.Program:
    """Return the program of ``spline_value``."""
    blocks = ("BLOCKS", 4 if dtype == "float32" else 3)
    defines = (("G", lanes(m)), ("BLOCK", BLOCK), blocks, ("INVERSE", int(inverse)))
    return cuda.Program("coupling/spline.cuh", dtype, defines)


@functools.lru_cache(maxsize=2)
def spline_gradient_program(dtype: str) -> cuda.Program:
    """Return the program of ``spline_gradient``."""
    return cuda.Program("coupling/spline_gradient.cuh", dtype, (("BLOCK", BLOCK),))


def programs() -> dict[str, cuda.Program]:
    """Return the programs of half a dimer of 38 particles."""
    found = {}
    for dtype in ("float32", "float64"):
        found[f"affine_coupling m=38 {dtype}"] = affine_program(38, dtype)
        found[f"spline m=38 {dtype}"] = spline_program(38, False, dtype)
        found[f"spline inverse m=38 {dtype}"] = spline_program(38, True, dtype)
        found[f"spline_gradient {dtype}"] = spline_gradient_program(dtype)
    return found


def affine_coupling(
    x: Rows,
    raw_s: Rows,
    t: Rows,
    n: int,
    m: int,
    inverse: bool,
    dtype: str,
    y: int,
    logdet: int,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue a coupling step; see :func:`bgfast_kernels.coupling.affine.affine_coupling`.

    Parameters
    ----------
    x, raw_s, t
        ``[n, m]`` each; the numbers of a row are neighbours.
    n, m
        Rows, and numbers in a row; nothing is launched for n = 0.
    inverse
        Direction of the step.
    dtype
        ``"float32"`` or ``"float64"``.
    y, logdet
        Device addresses of the results, ``[n, m]`` and ``[n]``, contiguous. ``logdet`` is set.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    """
    arguments = [*_rows(x, raw_s, t), np.int64(n), np.int32(m), np.int32(inverse)]
    arguments += [cuda.pointer(y), cuda.pointer(logdet)]
    _per_row(affine_program(m, dtype), "affine_value", n, m, arguments, device, stream)


def affine_coupling_grad(
    x: Rows,
    raw_s: Rows,
    t: Rows,
    grad_y: Rows,
    grad_logdet: int,
    n: int,
    m: int,
    inverse: bool,
    dtype: str,
    grad_x: int,
    grad_raw_s: int,
    grad_t: int,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue the gradients of a coupling step, arguments as for :func:`affine_coupling`.

    Parameters
    ----------
    grad_y, grad_logdet
        Gradient with respect to the result, ``[n, m]`` and ``[n]``, the latter contiguous.
    grad_x, grad_raw_s, grad_t
        Device addresses of the gradients, ``[n, m]`` each, contiguous.
    """
    arguments = [*_rows(x, raw_s, t, grad_y), cuda.pointer(grad_logdet)]
    arguments += [np.int64(n), np.int32(m), np.int32(inverse)]
    arguments += [cuda.pointer(address) for address in (grad_x, grad_raw_s, grad_t)]
    _per_row(affine_program(m, dtype), "affine_gradient", n, m, arguments, device, stream)


def spline(
    x: int,
    raw: int,
    n: int,
    m: int,
    n_parameters: int,
    bound: float,
    inverse: bool,
    dtype: str,
    y: int,
    logdet: int,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue the spline of ``n`` rows; see :func:`bgfast_kernels.coupling.spline.spline`.

    Parameters
    ----------
    x, raw
        Device addresses of ``[n, m]`` numbers and ``[n, n_parameters, m]`` raw numbers, contiguous.
    n, m, n_parameters
        Rows, numbers in a row, raw numbers of each; nothing is launched for n = 0.
    bound, inverse
        The interval, and the direction.
    dtype
        ``"float32"`` or ``"float64"``.
    y, logdet
        Device addresses of the results, ``[n, m]`` and ``[n]``, contiguous.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    """
    arguments: list[np.generic] = [cuda.pointer(x), cuda.pointer(raw)]
    arguments += [np.int64(n), np.int32(m), np.int32(check(n_parameters, bound))]
    arguments += _constants(n_parameters, bound, dtype)
    arguments += [cuda.pointer(y), cuda.pointer(logdet)]
    _per_row(spline_program(m, inverse, dtype), "spline_value", n, m, arguments, device, stream)


def spline_gradient(
    x: int,
    raw: int,
    grad_value: int,
    grad_logdet: int,
    n: int,
    m: int,
    n_parameters: int,
    bound: float,
    inverse: bool,
    dtype: str,
    grad_x: int,
    grad_raw: int,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue the gradients of the spline, arguments as for :func:`spline`.

    Parameters
    ----------
    x
        Input of the spline.
    grad_value, grad_logdet
        Derivatives of the loss by the outputs, ``[n, m]`` and ``[n]``.
    grad_x, grad_raw
        Device addresses of the gradients, shaped like ``x`` and ``raw``.
    """
    if n * m == 0:
        return
    arguments: list[np.generic] = [
        cuda.pointer(address) for address in (x, raw, grad_value, grad_logdet)
    ]
    arguments += [np.int64(n), np.int32(m), np.int32(check(n_parameters, bound))]
    arguments += [np.int32(inverse), *_constants(n_parameters, bound, dtype)]
    arguments += [cuda.pointer(grad_x), cuda.pointer(grad_raw)]
    cuda.launch(
        spline_gradient_program(dtype),
        "spline_gradient",
        grid=-(-n * m // BLOCK),
        block=BLOCK,
        arguments=arguments,
        device=device,
        stream=stream,
    )


def _rows(*found: Rows) -> list[np.generic]:
    return [a for rows in found for a in (cuda.pointer(rows.address), np.int64(rows.stride))]


def _constants(n_parameters: int, bound: float, dtype: str) -> list[np.generic]:
    return list(constants(bound, check(n_parameters, bound), dtype))


def _per_row(
    program: cuda.Program,
    kernel: str,
    n: int,
    m: int,
    arguments: list[np.generic],
    device: int,
    stream: int,
) -> None:
    if n == 0:
        return
    cuda.launch(
        program,
        kernel,
        grid=-(-n // (BLOCK // lanes(m))),
        block=BLOCK,
        arguments=arguments,
        device=device,
        stream=stream,
    )
