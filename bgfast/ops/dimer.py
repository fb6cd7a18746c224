"""The dimer in a repulsive fluid as a torch op: energy, gradient, Hessian-vector product.

``torch.ops.bgfast.dimer_energy_grad`` and ``torch.ops.bgfast.dimer_hvp`` run the kernels; the
derivatives are tied together by two autograd functions outside of them. The backend ``"torch"`` is
plain torch (:mod:`bgfast.ops.dimer_reference`) and left to autograd.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from bgfast_kernels.dimer import DimerParameters, numba_kernels
from torch import Tensor

from bgfast.ops import dimer_cuda
from bgfast.ops.backend import select_backend
from bgfast.ops.dimer_reference import reference_energy, reference_energy_grad, reference_hvp
from bgfast.ops.library import (
    batch_first,
    define,
    energy_grad_fake,
    hvp_fake,
    implement,
    rows_alike,
)
from bgfast.ops.registry import TorchOp, register


def dimer_energy(x: Tensor, parameters: DimerParameters, backend: str | None = None) -> Tensor:
    """Return the reduced energies of dimer configurations, differentiable twice.

    Parameters
    ----------
    x
        Configurations, shape ``[..., D]`` with ``D = parameters.dim``, coordinates interleaved.
    parameters
        Parameters of the energy, see :class:`bgfast_kernels.dimer.DimerParameters`.
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
        If ``x`` is not a floating-point tensor or ``parameters`` not a ``DimerParameters``.
    ValueError
        If the last dimension of ``x`` is not ``D``.
    bgfast.ops.BackendError
        If the backend asked for cannot serve ``x``.
    """
    if _backend(x, parameters, backend) == "torch":
        return reference_energy(x, parameters)
    return _energy_grad(x, parameters)[0]


def dimer_energy_grad(
    x: Tensor, parameters: DimerParameters, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the energies ``[...]`` and their gradients dU/dx ``[..., D]`` in one pass.

    Both are differentiable; arguments and errors are those of :func:`dimer_energy`.
    """
    if _backend(x, parameters, backend) == "torch":
        return reference_energy_grad(x, parameters)
    return _energy_grad(x, parameters)


def dimer_hvp(
    x: Tensor, v: Tensor, parameters: DimerParameters, backend: str | None = None
) -> Tensor:
    """Return the Hessian at each ``x[..., D]`` applied to ``v[..., D]``, shape ``[..., D]``.

    Linear in ``v`` and differentiable in it. With a kernel, a derivative in ``x`` (a third
    derivative of the energy) raises; ``backend="torch"`` has it.

    Raises
    ------
    TypeError, ValueError, bgfast.ops.BackendError
        See :func:`dimer_energy`; also if ``v`` has not the shape, dtype and device of ``x``.
    """
    chosen = _backend(x, parameters, backend)
    if not isinstance(v, Tensor) or (v.dtype, v.device) != (x.dtype, x.device):
        got = f"{v.dtype} on {v.device}" if isinstance(v, Tensor) else type(v).__name__
        raise TypeError(f"v must be a tensor like x, {x.dtype} on {x.device}, got {got}")
    if v.shape != x.shape:
        raise ValueError(f"v must have the shape of x, {list(x.shape)}, got {list(v.shape)}")
    if chosen == "torch":
        return reference_hvp(x, v, parameters)
    return _hvp(x, v, parameters.n_solvent, _values(parameters))


def _backend(x: Tensor, parameters: DimerParameters, backend: str | None) -> str:
    if not isinstance(parameters, DimerParameters):
        raise TypeError(f"parameters must be DimerParameters, got {type(parameters).__name__}")
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, got {x.dtype}")
    if x.ndim == 0 or x.shape[-1] != parameters.dim:
        raise ValueError(
            f"x must have shape [..., {parameters.dim}] for {parameters.n_solvent} solvent "
            f"particles, got {list(x.shape)}"
        )
    return select_backend("dimer", x, backend)


def _values(p: DimerParameters) -> list[float]:
    return [p.eps, p.sigma, p.k_d, p.d0, p.a, p.b, p.c, p.l, p.k_box]


def _energy_grad(x: Tensor, parameters: DimerParameters) -> tuple[Tensor, Tensor]:
    if x.requires_grad and torch.is_grad_enabled():
        return _tracked_energy_grad(x, parameters.n_solvent, _values(parameters))
    u, grad = torch.ops.bgfast.dimer_energy_grad(x, parameters.n_solvent, _values(parameters))
    return u, grad


class _EnergyGrad(torch.autograd.Function):
    """x -> u, dU/dx. The saved gradient is an output, so it is differentiated in turn."""

    @staticmethod
    def forward(x: Tensor, n_solvent: int, values: list[float]) -> tuple[Tensor, Tensor]:
        u, grad = torch.ops.bgfast.dimer_energy_grad(x, n_solvent, values)
        return u, grad

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.n_solvent, ctx.values = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor | None, grad_g: Tensor | None) -> tuple[Any, ...]:
        x, g = ctx.saved_tensors
        total = None if grad_u is None else grad_u.unsqueeze(-1) * g
        if grad_g is not None:
            second = _hvp(x, grad_g, ctx.n_solvent, ctx.values)
            total = second if total is None else total + second
        return total, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, n_solvent: int, values: list[float]
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        (x,) = batch_first(info, in_dims, x)
        return _tracked_energy_grad(x, n_solvent, values), (0, 0)


class _Hvp(torch.autograd.Function):
    """x, v -> H(x) v; symmetric, hence its own transpose in v."""

    @staticmethod
    def forward(x: Tensor, v: Tensor, n_solvent: int, values: list[float]) -> Tensor:
        product: Tensor = torch.ops.bgfast.dimer_hvp(x, v, n_solvent, values)
        return product

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.n_solvent, ctx.values = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        if grad is None:
            return None, None, None, None
        if ctx.needs_input_grad[0]:
            raise NotImplementedError(
                "the dimer kernels have no third derivatives: detach x, or use backend='torch'"
            )
        (x,) = ctx.saved_tensors
        return None, _hvp(x, grad, ctx.n_solvent, ctx.values), None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        v: Tensor,
        n_solvent: int,
        values: list[float],
    ) -> tuple[Tensor, int]:
        x, v = batch_first(info, in_dims, x, v)
        return _hvp(x, v, n_solvent, values), 0


def _tracked_energy_grad(x: Tensor, n_solvent: int, values: list[float]) -> tuple[Tensor, Tensor]:
    u, grad = _EnergyGrad.apply(x, n_solvent, values)  # type: ignore[no-untyped-call]
    return u, grad


def _hvp(x: Tensor, v: Tensor, n_solvent: int, values: list[float]) -> Tensor:
    product: Tensor = _Hvp.apply(x, v, n_solvent, values)  # type: ignore[no-untyped-call]
    return product


# The ops themselves know nothing of derivatives.


@functools.lru_cache(maxsize=64)
def _parameters(n_solvent: int, values: tuple[float, ...]) -> DimerParameters:
    return DimerParameters(n_solvent, *values)


def _energy_grad_cpu(x: Tensor, n_solvent: int, values: list[float]) -> tuple[Tensor, Tensor]:
    parameters = _parameters(n_solvent, tuple(values))
    array = x.detach().numpy()  # reshaping arrays costs a fraction of reshaping tensors
    shape = array.shape
    u, grad = numba_kernels.dimer_energy_grad(array.reshape(-1, shape[-1]), parameters)
    return torch.from_numpy(u.reshape(shape[:-1])), torch.from_numpy(grad.reshape(shape))


def _hvp_cpu(x: Tensor, v: Tensor, n_solvent: int, values: list[float]) -> Tensor:
    parameters = _parameters(n_solvent, tuple(values))
    x_array, v_array = x.detach().numpy(), v.detach().numpy()
    rows = (-1, x_array.shape[-1])
    product = numba_kernels.dimer_hvp(x_array.reshape(rows), v_array.reshape(rows), parameters)
    return torch.from_numpy(product.reshape(x_array.shape))


def _energy_grad_cuda(x: Tensor, n_solvent: int, values: list[float]) -> tuple[Tensor, Tensor]:
    return dimer_cuda.energy_grad(x, _parameters(n_solvent, tuple(values)))


def _hvp_cuda(x: Tensor, v: Tensor, n_solvent: int, values: list[float]) -> Tensor:
    return dimer_cuda.hvp(x, v, _parameters(n_solvent, tuple(values)))


def _define_ops() -> Any:
    library = define(
        "dimer_energy_grad(Tensor x, int n_solvent, float[] values) -> (Tensor, Tensor)",
        "dimer_hvp(Tensor x, Tensor v, int n_solvent, float[] values) -> Tensor",
    )
    implement(
        library,
        "dimer_energy_grad",
        cpu=_energy_grad_cpu,
        cuda=_energy_grad_cuda,
        fake=energy_grad_fake,
        vmap=rows_alike("dimer_energy_grad", 1),
    )
    implement(
        library,
        "dimer_hvp",
        cpu=_hvp_cpu,
        cuda=_hvp_cuda,
        fake=hvp_fake,
        vmap=rows_alike("dimer_hvp", 2),
    )
    return library


_LIBRARY = _define_ops()  # the ops live as long as it does


def _raw_calls(x: Tensor, parameters: DimerParameters) -> list[tuple[Any, tuple[Any, ...]]]:
    rest = (parameters.n_solvent, _values(parameters))
    v = x.detach().roll(1, -1)
    return [
        (torch.ops.bgfast.dimer_energy_grad.default, (x, *rest)),
        (torch.ops.bgfast.dimer_hvp.default, (x, v, *rest)),
    ]


register(
    TorchOp(
        "dimer",
        dimer_energy,
        reference=reference_energy,
        differentiable=("x",),
        raw_calls=_raw_calls,
    )
)
