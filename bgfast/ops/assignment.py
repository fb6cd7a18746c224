"""Relabel identical particles: the permutation closest to a reference configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from bgfast_kernels import get
from bgfast_kernels.assignment.augmenting_path import X_MAX
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from bgfast.ops import assignment_cuda
from bgfast.ops.backend import select_backend
from bgfast.ops.registry import TorchOp, register


def assign(x: Tensor, reference: Tensor, backend: str | None = None) -> Tensor:
    """Return the permutation of particles that brings each row closest to a reference.

    Parameters
    ----------
    x
        Configurations, shape ``[..., N, dim]``, float32 or float64.
    reference
        Reference configuration, shape ``[N, dim]``, on the device of ``x``.
    backend
        ``"torch"`` (a loop over SciPy), ``"numba"``, ``"cuda"`` or ``None`` (chosen by the tensor).

    Returns
    -------
    Tensor
        ``perm``, int64, shape ``[..., N]``: of all permutations the one with the least
        ``sum_k |x[..., perm[k], :] - reference[k]|^2``, in float64 arithmetic. A row with a
        coordinate that is NaN, infinite or beyond 1e140 gets the identity. It has no derivative.

    Raises
    ------
    TypeError
        If an argument is not a float32 or float64 tensor.
    ValueError
        If the shapes do not match.
    """
    _check(x, reference)
    perm: Tensor = torch.ops.bgfast.assignment(x.detach(), reference.detach(), backend)
    return perm


def relabel(
    x: Tensor, reference: Tensor, n_fixed: int = 2, n_dim: int = 2, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Relabel the identical particles of flat configurations to be closest to a reference.

    Parameters
    ----------
    x
        Configurations, shape ``[..., D]``, particles interleaved, ``D = n_dim * n_particles``.
    reference
        Reference configuration, shape ``[D]``.
    n_fixed
        Number of leading particles that keep their place.
    n_dim
        Coordinates of one particle.
    backend
        See :func:`assign`.

    Returns
    -------
    relabelled, perm
        The configurations with relabelled particles, shape ``[..., D]``, differentiable in ``x``;
        and the permutation of the particles after the leading ones, int64, ``[..., N]``.

    Raises
    ------
    TypeError, ValueError
        See :func:`assign`.
    """
    particles, target = _split(x, reference, n_fixed, n_dim)
    perm = assign(particles, target, backend)
    relabelled = torch.take_along_dim(particles, perm[..., None], dim=-2)
    leading = x[..., : n_fixed * n_dim]
    return torch.cat([leading, relabelled.flatten(-2)], dim=-1), perm


def is_canonical(
    x: Tensor, reference: Tensor, n_fixed: int = 2, n_dim: int = 2, backend: str | None = None
) -> Tensor:
    """Return whether :func:`relabel` would leave each row as it is, bool, shape ``[...]``.

    Takes the arguments of :func:`relabel`. A row that is not finite has no order and is ``False``.
    """
    particles, target = _split(x, reference, n_fixed, n_dim)
    perm = assign(particles, target, backend)
    identity = torch.arange(target.shape[0], device=x.device)
    return (perm == identity).all(-1) & x.isfinite().all(-1)


def _split(x: Tensor, reference: Tensor, n_fixed: int, n_dim: int) -> tuple[Tensor, Tensor]:
    for name, value, least in (("n_fixed", n_fixed, 0), ("n_dim", n_dim, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if reference.ndim != 1 or reference.shape[0] % n_dim or reference.shape[0] < n_fixed * n_dim:
        raise ValueError(
            f"reference must have shape [D] with D a multiple of n_dim = {n_dim} and at least "
            f"n_fixed * n_dim = {n_fixed * n_dim}, got {list(reference.shape)}"
        )
    if x.ndim == 0 or x.shape[-1] != reference.shape[0]:
        raise ValueError(f"x must have shape [..., {reference.shape[0]}], got {list(x.shape)}")
    n_free = reference.shape[0] // n_dim - n_fixed
    particles = x[..., n_fixed * n_dim :].reshape(*x.shape[:-1], n_free, n_dim)
    return particles, reference[n_fixed * n_dim :].reshape(n_free, n_dim)


def _check(x: Tensor, reference: Tensor) -> None:
    for name, tensor in (("x", x), ("reference", reference)):
        if not isinstance(tensor, Tensor) or tensor.dtype not in (torch.float32, torch.float64):
            got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be a float32 or float64 tensor, got {got}")
    if reference.ndim != 2 or reference.shape[1] == 0:
        raise ValueError(f"reference must have shape [N, dim], got {list(reference.shape)}")
    if x.ndim < 2 or x.shape[-2:] != reference.shape:
        wanted = ", ".join(str(n) for n in reference.shape)
        raise ValueError(f"x must have shape [..., {wanted}], got {list(x.shape)}")
    if x.device != reference.device:
        raise ValueError(
            f"reference must be on the device of x, {x.device}, got {reference.device}"
        )


@torch.library.custom_op("bgfast::assignment", mutates_args=())
def _assignment(x: Tensor, reference: Tensor, backend: str | None) -> Tensor:
    # The backend is chosen in here because torch.compile cannot trace the choice.
    backend = select_backend("assignment", x, backend)
    if backend == "torch":
        return _reference(x, reference)
    if backend == "cuda":
        return assignment_cuda.assign(x, reference)
    implementation = get("assignment").load(backend)
    rows = x.reshape(-1, *reference.shape).numpy()
    return torch.from_numpy(implementation(rows, reference.numpy())).reshape(x.shape[:-1])


@_assignment.register_fake
def _(x: Tensor, reference: Tensor, backend: str | None) -> Tensor:
    return x.new_empty(x.shape[:-1], dtype=torch.int64)


@_assignment.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, reference: Tensor, backend: str | None
) -> tuple[Tensor, int]:
    x_dim, reference_dim, _ = in_dims
    if reference_dim is None:
        assert x_dim is not None
        return torch.ops.bgfast.assignment(x.movedim(x_dim, 0), reference, backend), 0
    references = reference.unbind(reference_dim)
    xs = [x] * len(references) if x_dim is None else x.unbind(x_dim)
    pairs = zip(xs, references, strict=True)
    return torch.stack([torch.ops.bgfast.assignment(*pair, backend) for pair in pairs]), 0


def _reference(x: Tensor, reference: Tensor) -> Tensor:
    """Solve every row with SciPy."""
    target = reference.double().cpu().numpy()
    rows = x.double().cpu().reshape(-1, *reference.shape).numpy()
    perm = np.tile(np.arange(target.shape[0]), (len(rows), 1))
    for row, out in zip(rows, perm, strict=True):
        if max(np.abs(row).max(initial=0), np.abs(target).max(initial=0)) < X_MAX:  # not if NaN
            out[:] = linear_sum_assignment(cdist(target, row, "sqeuclidean"))[1]
    return torch.from_numpy(perm).to(x.device).reshape(x.shape[:-1])


def _reference_assign(x: Tensor, reference: Tensor) -> Tensor:
    return assign(x, reference, backend="torch")


def _raw_calls(x: Tensor, reference: Tensor) -> list[tuple[Any, tuple[Any, ...]]]:
    return [(torch.ops.bgfast.assignment.default, (x, reference, None))]


register(TorchOp("assignment", assign, reference=_reference_assign, raw_calls=_raw_calls))
