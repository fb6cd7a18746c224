"""Draw configurations from the flow (R8, 3 x 200) and find their importance weights.

From random numbers to log weights in float64 and the effective sample size. Codes without a loop
of their own for this draw in chunks of 8,192 like bgfast; energies are float64 as in bgfast, except
those of bgflow, whose sampler uses one dtype throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import energies, flow_codes
from benchmarks.peers import same_weights as same
from benchmarks.peers.question import Answer, Case, Contender, Question
from bgfast.analysis.weights import WeightAccumulator
from bgfast.energies import ParticleDimer
from bgfast.flows import Sequential, log_weight
from bgfast.ops.dimer_reference import reference_energy
from bgfast.sampling.generate import generate

CHUNK = 8192
ENERGY_CHUNK = 1000
N_CHECKED = 256
LOG_NORM = 0.5 * same.DIM * math.log(2 * math.pi)


def cases(quick: bool) -> Iterator[Case]:
    n = 512 if quick else 100_000
    flow = same.make_flow((32, 32)) if quick else same.make_flow()
    z = torch.randn(N_CHECKED, same.DIM, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x, logdet = same.in_float64(flow).decode(z.double())
        expected = log_weight(reference_energy(x, same.P), z.double(), logdet)
    yield Case(f"n = {n:,}", n, (expected,), 1e-4, contenders(flow, z, n))


def in_chunks(log_w: Callable[[Tensor], Any], n: int) -> float:
    """Draw, weigh, and return the effective sample size, as one writes it without bgfast."""
    parts = []
    with torch.no_grad():
        for start in range(0, n, CHUNK):
            z = torch.randn(min(CHUNK, n - start), same.DIM)
            parts.append(torch.as_tensor(log_w(z)))
    all_w = torch.cat(parts)
    return float(torch.exp(2 * torch.logsumexp(all_w, 0) - torch.logsumexp(2 * all_w, 0)))


def contenders(flow: Sequential, z: Tensor, n: int) -> list[Contender]:
    def ours(flow: Sequential, tolerance: float | None = None) -> Answer:
        dimer = ParticleDimer()

        def call() -> float:
            weights = WeightAccumulator()
            for batch in generate(flow, dimer, n, chunk=CHUNK):
                weights.update(batch.log_w)
            return weights.result().ess

        def check() -> Tensor:
            with torch.no_grad():
                x, logdet = flow(z)
            return log_weight(dimer.energy(x.double()), z, logdet)

        return Answer(call, check, tolerance=tolerance)

    def by_torch(mapped: same.Mapped, energy: Callable[[Tensor], Tensor]) -> Answer:
        def log_w(z: Tensor) -> Tensor:
            x, logdet = mapped.decode(z)
            u = torch.cat([energy(part) for part in x.double().split(ENERGY_CHUNK)])
            return 0.5 * z.double().square().sum(-1) + LOG_NORM + logdet.double() - u

        def check() -> Tensor:
            with torch.no_grad():
                return log_w(z)

        return Answer(lambda: in_chunks(log_w, n), check)

    def eager() -> Answer:
        return by_torch(
            same.textbook(same.steps(flow)), partial(reference_energy, parameters=same.P)
        )

    def compiled() -> Answer:
        energy = torch.compile(partial(reference_energy, parameters=same.P), dynamic=None)
        return by_torch(same.compiled(same.steps(flow)), energy)

    def bgflow() -> Answer:
        bg = energies.bgflow_module()
        decode = flow_codes.bgflow(same.steps(flow)).decode

        class Decoder(bg.Flow):  # its flow runs from z to x
            def _forward(self, z: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
                x, logdet = decode(z)
                return x, logdet[:, None]

        prior, target = bg.NormalDistribution(same.DIM), energies.bgflow_energy(same.P)
        generator = bg.BoltzmannGenerator(prior, Decoder(), target)
        some = min(n, 10_000)

        def call() -> float:
            parts = []
            with torch.no_grad():
                for _ in range(some // ENERGY_CHUNK or 1):
                    rows = min(some, ENERGY_CHUNK)
                    parts.append(generator.sample(rows, with_log_weights=True)[-1])
            return float(bg.effective_sample_size(torch.cat(parts)))

        def check() -> Tensor:
            with torch.no_grad():
                x, logdet = decode(z)
                log_w = bg.log_weights_given_latent(
                    x, z, logdet[:, None], prior, target, normalize=False
                )
            return log_w

        return Answer(call, check, some)

    def jax() -> Answer:
        import jax
        import jax.numpy as jnp

        taken = same.steps(flow)
        weights = same.jax_weights(taken)
        _, decode = same.jax_maps(taken)
        energy = jax.vmap(energies.jax_energy(same.P))

        @jax.jit
        def log_w(weights: Any, z: Any) -> Any:
            x, logdet = decode(weights, z)
            wide = z.astype("float64")
            u = energy(x.astype("float64"))
            return 0.5 * (wide * wide).sum(-1) + LOG_NORM + logdet.astype("float64") - u

        rows = min(CHUNK, n)

        @jax.jit
        def drawn(weights: Any, key: Any) -> Any:
            return log_w(weights, jax.random.normal(key, (rows, same.DIM), "f4"))

        def call() -> float:
            keys = jax.random.split(jax.random.key(0), -(-n // CHUNK))
            all_w = jnp.concatenate([drawn(weights, key) for key in keys])
            lse = jax.scipy.special.logsumexp
            return float(jnp.exp(2 * lse(all_w) - lse(2 * all_w)))

        check = partial(log_w, weights, jnp.asarray(z.numpy()))
        return Answer(call, check, -(-n // rows) * rows)

    reduced = [
        Contender(
            name, partial(ours, same.in_precision(flow, precision), same.tolerance(precision))
        )
        for name, precision in same.other_precisions().items()
    ]
    return [
        Contender("bgfast", partial(ours, flow)),
        *reduced,
        Contender("JAX, jit", jax),
        Contender("torch.compile, flow and energy", compiled),
        Contender("torch eager, flow and energy", eager),
        Contender("bgflow, BoltzmannGenerator.sample", bgflow),
    ]


QUESTION = Question(
    "Draw and reweight: R8, 3 x 200, 76 coordinates, energy of the dimer",
    "us",
    cases,
    notes=("bgflow, in chunks of 1,000, is given 10,000 samples at most",),
    peers=("jax", "bgflow"),
)
