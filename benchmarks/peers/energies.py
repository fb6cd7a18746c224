"""The dimer's energy in other codes, each imported when its maker is called.

A maker takes the parameters and returns the energy as a function of configurations in the form its
code works with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bgfast_kernels.dimer import DimerParameters
from numpy.typing import NDArray
from torch import Tensor

Energy = Callable[[Any], Any]


def jax_energy(p: DimerParameters) -> Energy:
    """Return the energy of one configuration ``x[dim]``, every pair once."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)  # otherwise float64 input becomes float32 silently
    i, j = (part[1:] for part in np.triu_indices(p.n_particles, 1))

    def energy(x: Any) -> Any:
        r = x.reshape(-1, 2)
        restraint = p.k_d * ((r[0, 0] + r[1, 0]) ** 2 + r[0, 1] ** 2 + r[1, 1] ** 2)
        q = jnp.sqrt(jnp.sum((r[0] - r[1]) ** 2)) - p.d0
        dimer = p.a / 4 * q**4 - p.b / 2 * q**2 + p.c * q
        walls = p.k_box * jnp.sum(jnp.maximum(jnp.abs(r) - p.l, 0) ** 2)
        s6 = (p.sigma**2 / jnp.sum((r[i] - r[j]) ** 2, -1)) ** 3
        return restraint + dimer + walls + p.eps * jnp.sum(s6 * s6)

    return energy


def bgflow_module() -> Any:
    """Import bgflow, which is not on PyPI: put its source on PYTHONPATH.

    NumPy 2 and JAX have dropped names it uses; they get them back while it is imported.
    """
    names: list[tuple[Any, str, Any]] = [(np, "infty", np.inf)]
    with contextlib.suppress(ImportError):
        import jax.dlpack

        names.append((jax.dlpack, "to_dlpack", lambda array: array))  # bgflow's JAX bridge
    missing = [(module, name, value) for module, name, value in names if not hasattr(module, name)]
    for module, name, value in missing:
        setattr(module, name, value)
    try:
        import bgflow
    finally:
        for module, name, _ in missing:
            delattr(module, name)
    return bgflow


def bgflow_energy(p: DimerParameters) -> Any:
    """Return bgflow's energy with our parameters in its terms."""
    parameters = {
        "nsolvent": p.n_solvent,
        "eps": p.eps,
        "rm": p.sigma,
        "dimer_slope": p.c / 2,
        "dimer_a": p.b / 8,
        "dimer_b": p.a / 64,
        "dimer_dmid": p.d0,
        "dimer_k": p.k_d,
        "box_halfsize": p.l,
        "box_k": p.k_box / 2,
        "grid_k": 0.0,
        "rc": 0.9,
    }
    return bgflow_module().RepulsiveParticles(parameters)


def openmm_energy_and_gradient(
    p: DimerParameters, platform: str
) -> Callable[[NDArray[Any]], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return energies and gradients of ``x[n, dim]``, one configuration at a time."""
    context = openmm_context(p, platform, integrator=None)

    def run(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        u, gradient = np.empty(len(x)), np.empty(x.shape)
        positions = np.zeros((p.n_particles, 3))
        for k, row in enumerate(x):
            positions[:, :2] = row.reshape(-1, 2)
            context.setPositions(positions)
            state = context.getState(getEnergy=True, getForces=True)
            u[k] = state.getPotentialEnergy()._value
            gradient[k] = -state.getForces(asNumpy=True)._value[:, :2].ravel()
        return u, gradient

    return run


def openmm_context(p: DimerParameters, platform: str, integrator: Any) -> Any:
    """Return a context whose kJ/mol and nm stand for the reduced units."""
    import openmm

    system = openmm.System()
    for _ in range(p.n_particles):
        system.addParticle(1.0)
    dimer = openmm.CustomCompoundBondForce(
        2,
        f"{p.k_d}*((x1+x2)^2+y1^2+y2^2)+{p.a / 4}*q^4-{p.b / 2}*q^2+{p.c}*q;"
        f"q=distance(p1,p2)-{p.d0}",
    )
    dimer.addBond([0, 1], [])
    walls = openmm.CustomExternalForce(f"{p.k_box}*(max(abs(x)-{p.l},0)^2+max(abs(y)-{p.l},0)^2)")
    pairs = openmm.CustomNonbondedForce(f"{p.eps}*({p.sigma}/r)^12")
    for k in range(p.n_particles):
        walls.addParticle(k, [])
        pairs.addParticle([])
    pairs.addExclusion(0, 1)
    for force in (dimer, walls, pairs):
        system.addForce(force)
    integrator = integrator or openmm.VerletIntegrator(0.001)
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))


def in_chunks(
    energy: Callable[[Tensor], Tensor], x: Tensor, rows: int = 1000
) -> tuple[Tensor, Tensor]:
    """Return energies and gradients by autograd; torch is fastest in chunks that fit its caches."""
    results = []
    for chunk in x.split(rows):
        at = chunk.detach().requires_grad_()
        u = energy(at)
        results.append((u.detach().reshape(-1), torch.autograd.grad(u.sum(), at)[0]))
    us, gradients = zip(*results, strict=True)
    return torch.cat(us), torch.cat(gradients)
