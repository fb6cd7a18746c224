"""Energy and gradient of the dimer, 38 particles: every code evaluates the same configurations."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bgfast_kernels import cpu
from bgfast_kernels.dimer import DimerParameters, lattice
from torch import Tensor

from benchmarks.peers import energies
from benchmarks.peers.question import Answer, Case, Contender, Question
from bgfast.ops import dimer_energy_grad
from bgfast.ops.dimer_reference import reference_energy

P = DimerParameters()
MOST_ROWS = {"OpenMM": 100, "bgflow": 20_000}
"""Given more, they take the same time per configuration."""


def cases(quick: bool) -> Iterator[Case]:
    sizes = {torch.float32: [1, 1000, 100_000], torch.float64: [1000]}
    if quick:
        sizes = {torch.float32: [1, 64], torch.float64: [64]}
    for dtype, ns in sizes.items():
        for n in ns:
            x = torch.from_numpy(lattice(np.random.default_rng(0), n, np.float64, P)).to(dtype)
            few = x[:1000].double()
            expected = energies.in_chunks(partial(reference_energy, parameters=P), few)
            yield Case(f"{str(dtype)[6:]}, B = {n:,}", n, expected, 2e-4, contenders(x))


def contenders(x: Tensor) -> list[Contender]:
    few = x[:1000]

    def ours() -> Answer:
        return Answer(
            lambda: dimer_energy_grad(x, P, backend="numba"),
            lambda: dimer_energy_grad(few, P, backend="numba"),
        )

    def by_autograd(make: Any, most: int | None = None) -> Answer:
        energy = make()
        some = x[:most]
        return Answer(
            lambda: energies.in_chunks(energy, some),
            lambda: energies.in_chunks(energy, few),
            len(some),
        )

    def eager() -> Any:
        return partial(reference_energy, parameters=P)

    def compiled() -> Any:
        return torch.compile(eager(), dynamic=False)

    def bgflow() -> Any:
        return energies.bgflow_energy(P).energy

    def jax() -> Answer:
        import jax

        batched = jax.jit(jax.vmap(jax.value_and_grad(energies.jax_energy(P))))
        inside = jax.numpy.asarray(x.numpy())
        return Answer(
            lambda: jax.block_until_ready(batched(inside)), lambda: batched(inside[: len(few)])
        )

    def openmm(platform: str) -> Answer:
        run = energies.openmm_energy_and_gradient(P, platform)
        some = x[: MOST_ROWS["OpenMM"]].numpy()
        return Answer(lambda: run(some), n=len(some))

    by_hand = [Contender("C by hand (a ceiling), AVX-512", partial(ceiling, x))]
    return [
        Contender("bgfast", ours),
        *(by_hand if len(x) > 1 else []),
        Contender("JAX, jit + vmap", jax),
        Contender("torch.compile, autograd", lambda: by_autograd(compiled)),
        Contender("torch eager, autograd", lambda: by_autograd(eager)),
        Contender("bgflow, autograd", lambda: by_autograd(bgflow, MOST_ROWS["bgflow"])),
        Contender("OpenMM Reference, one by one", lambda: openmm("Reference")),
        Contender("OpenMM CPU, one by one", lambda: openmm("CPU")),
    ]


def ceiling(x: Tensor) -> Answer:
    from benchmarks.dimer_kernel import c_ceiling

    if not shutil.which("gcc"):
        raise ImportError("no gcc")
    with tempfile.TemporaryDirectory() as folder:  # what is loaded stays when its file goes
        contender = c_ceiling(Path(folder))
    threads = cpu.get_threads()
    return Answer(contender(x, threads), contender(x[:1000], threads))


QUESTION = Question(
    "Energy and gradient of the dimer, 38 particles, 76 coordinates, 702 pairs",
    "ns",
    cases,
    notes=("torch works in chunks of 1,000 rows", "OpenMM is given 100 configurations at most"),
    peers=("jax", "openmm"),
)
