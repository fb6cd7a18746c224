"""The energy cap on a CUDA device: a thread for every energy."""

from __future__ import annotations

import functools

import numpy as np

from bgfast_kernels import cuda

BLOCK = 128


@functools.cache
def program(dtype: str) -> cuda.Program:
    """Return the program of ``lin_log_cap``."""
    return cuda.Program("cap/cap.cuh", dtype, (("BLOCK", BLOCK),))


def programs() -> dict[str, cuda.Program]:
    """Return the programs of both dtypes by label."""
    return {f"lin_log_cap {dtype}": program(dtype) for dtype in ("float32", "float64")}


def lin_log_cap(
    u: int,
    n: int,
    e_high: float,
    e_max: float,
    dtype: str,
    capped: int,
    derivative: int,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue the cap of ``n`` energies; see :func:`bgfast_kernels.cap.cap.lin_log_cap`.

    Parameters
    ----------
    u
        Device address of the energies, contiguous.
    n
        How many; nothing is launched for 0.
    e_high, e_max
        The limits, arguments of the kernel: no tensor is made of them.
    dtype
        ``"float32"`` or ``"float64"``.
    capped, derivative
        Device addresses of the results, ``[n]`` each.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    """
    if n == 0:
        return
    real = np.dtype(dtype).type
    cuda.launch(
        program(dtype),
        "lin_log_cap",
        grid=-(-n // BLOCK),
        block=BLOCK,
        arguments=[
            cuda.pointer(u),
            np.int64(n),
            real(e_high),
            real(e_max),
            cuda.pointer(capped),
            cuda.pointer(derivative),
        ],
        device=device,
        stream=stream,
    )
