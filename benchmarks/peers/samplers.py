"""Steps of samplers for the dimer, 38 particles: proposals per second, or of dynamics, force steps.

Metropolis moves of all coordinates by normal numbers, and sweeps of single-particle moves. Codes
are compared by the energies they find at the start, and by their acceptance from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from bgfast_kernels.dimer import DimerParameters
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import samplers as plain
from benchmarks.peers import energies
from benchmarks.peers.question import Answer, Case, Contender, Question
from bgfast.energies import ParticleDimer
from bgfast.ops.dimer_reference import reference_energy
from bgfast.sampling import MetropolisSampler

P = DimerParameters()
N_WALKERS = 64
Array = NDArray[np.float64]


@lru_cache(maxsize=1)
def equilibrated() -> Array:
    start = np.tile(ParticleDimer().lattice_configuration(1.0).numpy(), (N_WALKERS, 1))
    sampler = MetropolisSampler(ParticleDimer(), start, step=plain.STEP["particle"])
    sampler.run(500, 500)
    return sampler.walkers.x.copy()


def cases(quick: bool) -> Iterator[Case]:
    x = equilibrated()
    u = reference_energy(torch.from_numpy(x), P).numpy()
    n_steps = 20 if quick else 2000
    n_slow = 5 if quick else 200
    for moves in ("all", "particle"):
        rates = acceptance(x, moves)
        people = all_moves(x, n_steps, n_slow) if moves == "all" else sweeps(x, n_steps, n_slow)
        proposals = n_steps * N_WALKERS * (1 if moves == "all" else P.n_particles)
        what = "all coordinates at once" if moves == "all" else "single particles in turn"
        # Energies agree to rounding; the acceptance of short runs varies: see `compared`.
        yield Case(f"Metropolis, {what}, {N_WALKERS} walkers", proposals, (u,), 1e-5, people(rates))


def acceptance(x: Array, moves: str) -> tuple[float, float]:
    """Return mean and standard error of the acceptance over the walkers, from bgfast."""
    accepted = ours(x, moves, seed=9).run(200, 200).acceptance
    return float(accepted.mean()), float(accepted.std(ddof=1) / np.sqrt(len(x)))


def ours(x: Array, moves: str, seed: int = 0) -> MetropolisSampler:
    return MetropolisSampler(ParticleDimer(), x, step=plain.STEP[moves], moves=moves, seed=seed)


def compared(u: Any, accepted: float, expected: tuple[float, float]) -> Any:
    """Return the energies if the acceptance is that of bgfast within errors, NaN otherwise."""
    mean, error = expected
    return np.asarray(u) if abs(accepted - mean) < 6 * error + 0.02 else np.full(len(u), np.nan)


def all_moves(x: Array, n_steps: int, n_slow: int) -> Callable[..., list[Contender]]:
    sigma = plain.STEP["all"]

    def bgfast() -> Answer:
        sampler = ours(x, "all")
        u = sampler.walkers.u.copy()
        return Answer(lambda: sampler.run(n_steps, n_steps), lambda: u)

    def batched_torch(energy: Callable[[Tensor], Tensor], rates: tuple[float, float]) -> Answer:
        start = torch.from_numpy(x)

        def run(n: int) -> float:
            at, u, accepted = start, energy(start), 0
            for _ in range(n):
                trial = at + sigma * torch.randn_like(at)
                u_trial = energy(trial)
                accept = torch.rand(len(at)) < torch.exp((u - u_trial).clamp(max=0))
                at, u = torch.where(accept[:, None], trial, at), torch.where(accept, u_trial, u)
                accepted = accepted + accept.double().mean()
            return float(accepted) / n

        n = n_slow
        return Answer(
            lambda: run(n), lambda: compared(energy(start), run(200), rates), n * N_WALKERS
        )

    def jax(rates: tuple[float, float]) -> Answer:
        import jax
        import jax.numpy as jnp

        energy = jax.vmap(energies.jax_energy(P))
        start = jnp.asarray(x)

        @partial(jax.jit, static_argnums=1)
        def run(key: Any, n: int) -> Any:
            def step(_: Any, state: Any) -> Any:
                at, u, key, accepted = state
                key, k1, k2 = jax.random.split(key, 3)
                trial = at + sigma * jax.random.normal(k1, at.shape, at.dtype)
                u_trial = energy(trial)
                accept = jax.random.uniform(k2, u.shape) < jnp.exp(jnp.minimum(u - u_trial, 0))
                kept = jnp.where(accept[:, None], trial, at), jnp.where(accept, u_trial, u)
                return *kept, key, accepted + accept.mean()

            return jax.lax.fori_loop(0, n, step, (start, energy(start), key, 0.0))[-1] / n

        key, n = jax.random.key(0), n_slow
        return Answer(
            lambda: jax.block_until_ready(run(key, n)),
            lambda: compared(energy(start), float(run(key, 200)), rates),
            n * N_WALKERS,
        )

    def numpy() -> Answer:
        one = x[0].reshape(-1, 2)
        return Answer(
            lambda: plain.numpy_all(one, n_slow, plain.matrix_energy),
            lambda: np.array([plain.matrix_energy(row.reshape(-1, 2)) for row in x]),
            n_slow,
        )

    def openmm() -> Answer:
        import openmm

        integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.0001)
        context = energies.openmm_context(P, "Reference", integrator)
        measure = energies.openmm_energy_and_gradient(P, "Reference")
        positions = np.zeros((P.n_particles, 3))
        positions[:, :2] = x[0].reshape(-1, 2)
        context.setPositions(positions)
        step = context.getIntegrator().step  # of the context's own reference, which keeps it alive

        def call() -> None:
            context.setPositions(positions)
            step(n_slow)

        return Answer(call, lambda: measure(x)[0], n_slow)

    def eager(rates: tuple[float, float]) -> Answer:
        return batched_torch(partial(reference_energy, parameters=P), rates)

    def people(rates: tuple[float, float]) -> list[Contender]:
        return [
            Contender("bgfast", bgfast),
            Contender("JAX, jit, vmap over walkers", lambda: jax(rates)),
            Contender("torch eager, batch of walkers", lambda: eager(rates)),
            Contender("NumPy, one walker, as published", numpy),
            Contender("OpenMM, one walker, Langevin instead", openmm),
        ]

    return people


def sweeps(x: Array, n_steps: int, n_slow: int) -> Callable[..., list[Contender]]:
    def bgfast() -> Answer:
        sampler = ours(x, "particle")
        u = sampler.walkers.u.copy()
        return Answer(lambda: sampler.run(n_steps, n_steps), lambda: u)

    def numpy() -> Answer:
        one = x[0].reshape(-1, 2)
        n = max(1, n_slow // P.n_particles)
        return Answer(
            lambda: plain.numpy_particle(one, n),
            lambda: np.array([plain.energy(row.reshape(-1, 2)) for row in x]),
            n * P.n_particles,
        )

    def people(rates: tuple[float, float]) -> list[Contender]:
        return [Contender("bgfast", bgfast), Contender("NumPy, one walker", numpy)]

    return people


QUESTION = Question(
    "Sampler steps, dimer of 38 particles, float64",
    "us",
    cases,
    notes=("an item is one proposal, of OpenMM one step of dynamics",),
    peers=("jax", "openmm"),
)
