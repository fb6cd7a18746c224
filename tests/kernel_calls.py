"""One small call of every CUDA kernel that ships, in the program it ships in.

Few rows, a number that fills no block: the calls are for tools that follow every access, such as
compute-sanitizer. That none is missing is a test, ``tests/kernels/test_kernel_calls.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from bgfast_kernels import montecarlo
from bgfast_kernels.dimer import DimerParameters, lattice
from bgfast_kernels.pair import PairParameters, cluster, numba_kernels

from bgfast.energies import DoubleWell, MuellerBrown, ParticleDimer
from bgfast.ops import (
    assignment,
    assignment_cuda,
    cap_cuda,
    coupling_cuda,
    dimer_cuda,
    pair_cuda,
    spline_cuda,
)
from bgfast.ops import gauss_transform_cuda as transform
from bgfast.ops.cap_reference import reference_cap_gradient, reference_lin_log_cap
from bgfast.ops.coupling_reference import reference_affine_coupling
from bgfast.ops.spline_reference import reference_spline
from bgfast.sampling.metropolis import SYSTEMS
from bgfast.sampling.metropolis_cuda import DeviceMoves
from tests.montecarlo_shim import walkers_at

ROWS = 61
BOUND = 4.0
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9}
"""Largest error relative to the largest number: a lost row is noticed, rounding is not."""

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class KernelCall:
    """A call by CUDA kernels, and the same without.

    Parameters
    ----------
    inputs
        On the CPU.
    kernels
        The call, of the inputs on a device.
    exact
        What it returns, of the inputs in float64, on the CPU.
    """

    inputs: Tensors
    kernels: Callable[..., Tensors]
    exact: Callable[..., Tensors]

    def check(self, device: torch.device) -> None:
        """Compare the kernels' results on ``device`` with those without."""
        found = self.kernels(*(t.to(device) for t in self.inputs))
        expected = self.exact(*(t.double() for t in self.inputs))
        allowed = TOLERANCE[self.inputs[0].dtype]
        for f, e in zip(found, expected, strict=True):
            off = (f.cpu().double() - e.double()).abs().max()
            assert off <= allowed * e.abs().max()  # also false for NaN


def calls() -> dict[str, KernelCall]:
    """Return every call by a label."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        for n in (38, 100):
            found[f"dimer N={n} {name}"] = _dimer(n, dtype)
        for potential, n_dim, sizes in (
            ("lennard_jones", 3, (13, 55, 200)),
            ("repulsion", 2, (38,)),
        ):
            for n in sizes:
                found[f"{potential} N={n} {name}"] = _pair(potential, n_dim, n, dtype)
        for inverse in (False, True):
            way = "inverse" if inverse else "forward"
            found[f"affine {way} {name}"] = _affine(dtype, inverse)
            found[f"spline {way} {name}"] = _spline(dtype, inverse)
        found[f"energy cap {name}"] = _cap(dtype)
    found["assignment"] = _assignment()
    for h in (0.002, 0.1, 3.0):
        found[f"kernel density h={h}"] = _density(h)
        found[f"its derivative h={h}"] = _derivative(h)
    for label, energy, moves in (
        ("dimer", ParticleDimer(), "particle"),
        ("dimer", ParticleDimer(), "all"),
        ("double well D=2", DoubleWell(2), "all"),
        ("double well D=100", DoubleWell(100), "all"),
        ("Mueller-Brown", MuellerBrown(), "all"),
    ):
        found[f"Monte Carlo {label} {moves}"] = _moves(energy, moves)
    return found


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def _dimer(n: int, dtype: torch.dtype) -> KernelCall:
    p = DimerParameters(n_solvent=n - 2)
    x = torch.from_numpy(lattice(np.random.default_rng(0), ROWS, np.float64, p))
    values = [p.eps, p.sigma, p.k_d, p.d0, p.a, p.b, p.c, p.l, p.k_box]

    def exact(x: torch.Tensor, v: torch.Tensor) -> Tensors:
        ops = torch.ops.bgfast
        product = ops.dimer_hvp(x, v, p.n_solvent, values)
        return *ops.dimer_energy_grad(x, p.n_solvent, values), product

    return KernelCall(
        (x.to(dtype), _normal(*x.shape).to(dtype)),
        lambda x, v: (*dimer_cuda.energy_grad(x, p), dimer_cuda.hvp(x, v, p)),
        exact,
    )


def _pair(potential: str, n_dim: int, n: int, dtype: torch.dtype) -> KernelCall:
    p = PairParameters(potential, n_dim, trap=0.5)
    x = torch.from_numpy(cluster(np.random.default_rng(0), ROWS, np.float64, n, n_dim))

    def exact(x: torch.Tensor, v: torch.Tensor) -> Tensors:
        rows, directions = x.numpy(), v.numpy()
        u, grad = numba_kernels.pair_energy_grad(rows, p)
        found = (u, grad, numba_kernels.pair_hvp(rows, directions, p))
        return tuple(torch.from_numpy(a) for a in found)

    return KernelCall(
        (x.to(dtype), _normal(*x.shape).to(dtype)),
        lambda x, v: (*pair_cuda.energy_grad(x, p), pair_cuda.hvp(x, v, p)),
        exact,
    )


def _with_gradients(function: Callable[..., Tensors], inputs: Tensors, outer: Tensors) -> Tensors:
    leaves = [t.requires_grad_() for t in inputs]
    results = function(*leaves)
    grads = torch.autograd.grad(results, leaves, outer)
    return tuple(t.detach() for t in (*results, *grads))


def _affine(dtype: torch.dtype, inverse: bool) -> KernelCall:
    def kernels(x, raw_s, t, g, g_l):
        value = coupling_cuda.affine_coupling(x, raw_s, t, inverse)
        return *value, *coupling_cuda.affine_coupling_grad(x, raw_s, t, g, g_l, inverse)

    def exact(x, raw_s, t, g, g_l):
        def step(x, raw_s, t):
            return reference_affine_coupling(x, raw_s, t, inverse=inverse)

        return _with_gradients(step, (x, raw_s, t), (g, g_l))

    inputs = [_normal(ROWS, 38, seed=i) for i in range(4)]
    return KernelCall(tuple(t.to(dtype) for t in (*inputs, _normal(ROWS))), kernels, exact)


def _spline(dtype: torch.dtype, inverse: bool) -> KernelCall:
    def kernels(x, raw, g, g_l):
        value = spline_cuda.spline(x, raw, BOUND, inverse)
        return *value, *spline_cuda.spline_gradient(x, raw, g, g_l, BOUND, inverse)

    def exact(x, raw, g, g_l):
        return _with_gradients(
            lambda x, raw: reference_spline(x, raw, BOUND, inverse), (x, raw), (g, g_l)
        )

    numbers = 0.3 * _normal(ROWS, 3 * 8 - 1, 38, seed=1)
    inputs = (2.0 * _normal(ROWS, 38), numbers, _normal(ROWS, 38, seed=2), _normal(ROWS, seed=3))
    return KernelCall(tuple(t.to(dtype) for t in inputs), kernels, exact)


def _cap(dtype: torch.dtype) -> KernelCall:
    e_high, e_max = 1.0, 50.0

    def exact(u: torch.Tensor) -> Tensors:
        ones = torch.ones_like(u)
        slope = reference_cap_gradient(u, ones, e_high, e_max)
        return reference_lin_log_cap(u, e_high, e_max), slope

    return KernelCall(
        (30.0 * _normal(ROWS).to(dtype),),
        lambda u: cap_cuda.lin_log_cap(u, e_high, e_max),
        exact,
    )


def _assignment() -> KernelCall:
    reference = _normal(36, 2)
    return KernelCall(
        (reference + 0.5 * _normal(ROWS, 36, 2, seed=1), reference),
        lambda x, reference: (assignment_cuda.assign(x, reference),),
        lambda x, reference: (assignment.assign(x, reference, backend="numba"),),
    )


def _density(h: float) -> KernelCall:
    """Densities at the points, some of them far from all others; walls."""

    def arguments(points: torch.Tensor) -> tuple[object, ...]:
        share = torch.full_like(points, 1 / len(points))
        return None, points, share, None, True, h, 0, [-50.0, 50.0], 1

    points = torch.cat([_normal(700), torch.tensor([9.0, -20.0])])
    return KernelCall(
        (points,),
        lambda points: transform.gauss_transform_cuda(*arguments(points)),
        lambda points: torch.ops.bgfast.gauss_transform(*arguments(points)),
    )


def _derivative(h: float) -> KernelCall:
    """Sums over sources that carry the scale, some of them far."""

    def arguments(q: torch.Tensor, points: torch.Tensor, c: torch.Tensor) -> tuple[object, ...]:
        scale = torch.zeros_like(points)
        scale[::50] = 1.0  # those that are summed one by one
        return q, points, c, scale, False, h, 1, [-5.0, 5.0], 1

    points = _normal(700).clamp(-4.9, 4.9)
    return KernelCall(
        (torch.linspace(-4.9, 4.9, ROWS, dtype=torch.float64), points, _normal(700, seed=1)),
        lambda *inputs: transform.gauss_transform_cuda(*arguments(*inputs))[:2],
        lambda *inputs: torch.ops.bgfast.gauss_transform(*arguments(*inputs))[:2],
    )


def _moves(energy: torch.nn.Module, moves: str) -> KernelCall:
    system = SYSTEMS[type(energy).__name__](energy)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (ROWS, system.dim))
    if isinstance(energy, ParticleDimer):
        x = lattice(rng, ROWS, np.float64, energy.params)

    def walkers(x: torch.Tensor) -> montecarlo.Walkers:
        return walkers_at(system, x.cpu().numpy().copy(), step=0.05)

    def kernels(x: torch.Tensor) -> Tensors:
        moved = DeviceMoves(system, moves, x.device).advance_walkers(walkers(x), 2, 2)
        return tuple(torch.from_numpy(a) for a in moved)

    def exact(x: torch.Tensor) -> Tensors:
        moved = montecarlo.advance(system, moves, copy.deepcopy(walkers(x)), 2, 2)
        return tuple(torch.from_numpy(a) for a in moved)

    return KernelCall((torch.from_numpy(x),), kernels, exact)
