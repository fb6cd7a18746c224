"""Linear assignment on a CUDA device."""

from __future__ import annotations

import functools

import numpy as np

from bgfast_kernels import cuda
from bgfast_kernels.assignment.augmenting_path import X_MAX

_SHARED_BYTES = 40 * 1024
_WARP = 32


@functools.cache
def program(n_particles: int, n_dim: int) -> cuda.Program:
    """Return the program of ``assign``.

    Raises
    ------
    ValueError
        If a configuration does not fit into shared memory.
    """
    bytes_each = 8 * (n_dim + 3) + 4 * 4
    for block in (128, 64, 32):
        if block // _WARP * n_particles * bytes_each <= _SHARED_BYTES:
            defines = (("N", n_particles), ("DIM", n_dim), ("BLOCK", block))
            return cuda.Program("assignment/assign.cuh", "float64", defines)
    most = _SHARED_BYTES // bytes_each
    raise ValueError(
        f"assignment on a CUDA device takes up to {most} particles in {n_dim} dimensions, "
        f"got {n_particles}"
    )


def programs() -> dict[str, cuda.Program]:
    """Return the program of the usual size by label."""
    return {"assign N=36 float64": program(36, 2)}


def assign(
    x: int,
    reference: int,
    n: int,
    n_particles: int,
    n_dim: int,
    permutation: int,
    *,
    device: int,
    stream: int,
) -> None:
    """Enqueue the assignment of ``n`` configurations.

    Parameters
    ----------
    x, reference
        Device addresses of ``[n, n_particles, n_dim]`` and ``[n_particles, n_dim]``, float64.
    n, n_particles, n_dim
        Sizes.
    permutation
        Device address of ``[n, n_particles]``, int64, to write; see
        :func:`bgfast_kernels.assignment.augmenting_path.assign`.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    """
    if n == 0 or n_particles == 0:
        return
    chosen = program(n_particles, n_dim)
    block = int(dict(chosen.defines)["BLOCK"])
    cuda.launch(
        chosen,
        "assign",
        grid=-(-n * _WARP // block),
        block=block,
        arguments=[
            cuda.pointer(x),
            cuda.pointer(reference),
            np.float64(X_MAX),
            np.int64(n),
            cuda.pointer(permutation),
        ],
        device=device,
        stream=stream,
    )
