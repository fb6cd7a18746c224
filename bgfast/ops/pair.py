"""Pair potentials as torch ops: energy, gradient, Hessian-vector product.

Every potential of :data:`bgfast_kernels.pair.POTENTIALS` is an op of its own for the tests and for
the choice of a backend, ``pair_<potential>``; all share ``torch.ops.bgfast.pair_energy_grad`` and
``pair_hvp``, see :mod:`bgfast.ops.pair_ops`. The backend ``"torch"`` is plain torch
(:mod:`bgfast.ops.pair_reference`) and left to autograd.
"""

from __future__ import annotations

from typing import Any

import torch
from bgfast_kernels.pair import POTENTIALS, PairParameters
from torch import Tensor

from bgfast.ops import pair_ops
from bgfast.ops.backend import select_backend
from bgfast.ops.pair_reference import reference_energy, reference_energy_grad, reference_hvp
from bgfast.ops.registry import TorchOp, register


def pair_energy(x: Tensor, parameters: PairParameters, backend: str | None = None) -> Tensor:
    """Return the reduced energies of particles with a pair potential, differentiable twice.

    Parameters
    ----------
    x
        Configurations, shape ``[..., N n_dim]`` for N >= 2 particles, coordinates interleaved.
    parameters
        Which potential, and its parameters; see :class:`bgfast_kernels.pair.PairParameters`.
    backend
        ``"torch"``, ``"numba"``, ``"cuda"``, or ``None``: chosen by the tensor.

    Returns
    -------
    Tensor
        Energies, shape ``[...]``, dtype of ``x``. Finite for every finite ``x``; NaN in the rows
        of ``x`` that hold a NaN.

    Raises
    ------
    TypeError
        If ``x`` is not a floating-point tensor or ``parameters`` not ``PairParameters``.
    ValueError
        If the last dimension of ``x`` is not ``n_dim`` times 2 or more.
    bgfast.ops.BackendError
        If the backend asked for cannot serve ``x``.
    """
    if _backend(x, parameters, backend) == "torch":
        return reference_energy(x, parameters)
    return pair_ops.energy_grad(x, *pair_ops.arguments(parameters))[0]


def pair_energy_grad(
    x: Tensor, parameters: PairParameters, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the energies ``[...]`` and their gradients dU/dx ``[..., D]`` in one pass.

    Both are differentiable; arguments and errors are those of :func:`pair_energy`.
    """
    if _backend(x, parameters, backend) == "torch":
        return reference_energy_grad(x, parameters)
    return pair_ops.energy_grad(x, *pair_ops.arguments(parameters))


def pair_hvp(
    x: Tensor, v: Tensor, parameters: PairParameters, backend: str | None = None
) -> Tensor:
    """Return the Hessian at each ``x[..., D]`` applied to ``v[..., D]``, shape ``[..., D]``.

    Linear in ``v`` and differentiable in it. With a kernel, a derivative in ``x`` (a third
    derivative of the energy) raises; ``backend="torch"`` has it.

    Raises
    ------
    TypeError, ValueError, bgfast.ops.BackendError
        See :func:`pair_energy`; also if ``v`` has not the shape, dtype and device of ``x``.
    """
    chosen = _backend(x, parameters, backend)
    if not isinstance(v, Tensor) or (v.dtype, v.device) != (x.dtype, x.device):
        got = f"{v.dtype} on {v.device}" if isinstance(v, Tensor) else type(v).__name__
        raise TypeError(f"v must be a tensor like x, {x.dtype} on {x.device}, got {got}")
    if v.shape != x.shape:
        raise ValueError(f"v must have the shape of x, {list(x.shape)}, got {list(v.shape)}")
    if chosen == "torch":
        return reference_hvp(x, v, parameters)
    return pair_ops.hvp(x, v, *pair_ops.arguments(parameters))


def _backend(x: Tensor, parameters: PairParameters, backend: str | None) -> str:
    if not isinstance(parameters, PairParameters):
        raise TypeError(f"parameters must be PairParameters, got {type(parameters).__name__}")
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, got {x.dtype}")
    n = parameters.n_dim
    if x.ndim == 0 or x.shape[-1] % n or x.shape[-1] < 2 * n:
        raise ValueError(f"x must have shape [..., {n} N] with N >= 2, got {list(x.shape)}")
    return select_backend(f"pair_{parameters.potential}", x, backend)


def _raw_calls(x: Tensor, parameters: PairParameters) -> list[tuple[Any, tuple[Any, ...]]]:
    rest = pair_ops.arguments(parameters)
    v = x.detach().roll(1, -1)
    return [
        (torch.ops.bgfast.pair_energy_grad.default, (x, *rest)),
        (torch.ops.bgfast.pair_hvp.default, (x, v, *rest)),
    ]


for _name in POTENTIALS:
    register(
        TorchOp(
            f"pair_{_name}",
            pair_energy,
            reference=reference_energy,
            differentiable=("x",),
            raw_calls=_raw_calls,
        )
    )
