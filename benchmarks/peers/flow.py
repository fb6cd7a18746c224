"""The flow, R8 with networks of 3 x 200 in 76 coordinates, float32: maps and training steps.

An ML step is the loss -log q(x) and its gradient in every weight; a KL step is
u(x) - log|det dx/dz| with generated x, the energy's gradient included; neither includes the
optimiser's update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import energies, flow_codes
from benchmarks.peers import same_weights as same
from benchmarks.peers.question import Answer, Case, Contender, Question
from bgfast.energies import ParticleDimer
from bgfast.flows import Sequential
from bgfast.ops.dimer_reference import reference_energy
from bgfast.training import LinLogCap, kl_loss, ml_loss

CAP = LinLogCap(1000.0)
Loss = Callable[[same.Mapped, Tensor], Tensor]
Run = Callable[[same.Mapped, Tensor], Any]
TORCH_CODES: dict[str, Callable[[list[same.Step]], same.Mapped]] = {
    "torch.compile": same.compiled,
    "torch eager": same.textbook,
    "nflows": flow_codes.nflows,
    "normflows": flow_codes.normflows,
    "zuko": flow_codes.zuko,
    "bgflow": flow_codes.bgflow,
}


def eager_energy(x: Tensor) -> Tensor:
    return reference_energy(x, same.P)


def forward(flow: same.Mapped, z: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return flow.decode(z)


def inverse(flow: same.Mapped, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return flow.encode(x)


def ml(flow: same.Mapped, x: Tensor) -> Tensor:
    z, logdet = flow.encode(x)
    return (0.5 * z.square().sum(-1) - logdet).mean()


def kl(flow: same.Mapped, z: Tensor, energy: Callable[[Tensor], Tensor] = eager_energy) -> Tensor:
    x, logdet = flow.decode(z)
    return (CAP(energy(x).reshape(-1)) - logdet).mean()


def step(loss: Loss) -> Run:
    """Return what gives the loss and the norm of its gradient, by which steps are compared."""

    def run(flow: same.Mapped, batch: Tensor) -> tuple[Tensor, Tensor]:
        value = loss(flow, batch)
        return value.detach(), norm(torch.autograd.grad(value, flow.parameters))

    return run


def norm(gradients: Any) -> Tensor:
    return torch.stack([g.square().sum() for g in gradients]).sum().sqrt()


def cases(quick: bool) -> Iterator[Case]:
    flow = same.make_flow((32, 32)) if quick else same.make_flow()
    generator = torch.Generator().manual_seed(1)
    for n in (64,) if quick else (1024, 8192):
        z = torch.randn(n, same.DIM, generator=generator)
        with torch.no_grad():
            x = flow(z)[0]
        yield case(f"forward (z to x), B = {n:,}", flow, z, forward)
        yield case(f"inverse (x to z), B = {n:,}", flow, x, inverse)
        yield case(f"ML step, B = {n:,}", flow, x, step(ml), ours=our_ml)
        yield case(f"KL step, B = {n:,}", flow, z, step(kl), ours=our_kl, is_kl=True)


def our_ml(flow: Sequential) -> Loss:
    constant = 0.5 * same.DIM * torch.log(torch.tensor(2 * torch.pi))
    return lambda mapped, x: ml_loss(flow, x).value - constant


def our_kl(flow: Sequential) -> Loss:
    dimer = ParticleDimer()
    return lambda mapped, z: kl_loss(flow, dimer, z, 1.0, CAP).value


def case(
    label: str,
    flow: Sequential,
    batch: Tensor,
    run: Run,
    ours: Callable[[Sequential], Loss] | None = None,
    is_kl: bool = False,
) -> Case:
    """Pose ``run`` on ``batch`` to every code; the reference is plain torch in float64.

    ``ours(flow)`` is the loss of a training step as bgfast has it.
    """
    from_z = is_kl or run is forward
    expected = [part.detach() for part in run(same.in_float64(flow), batch.double())]

    def answer(make: Callable[[list[same.Step]], same.Mapped], run: Run) -> Answer:
        mapped = make(same.steps(flow))
        return Answer(lambda: run(mapped, batch))

    def theirs(name: str) -> Answer:
        own = run
        if is_kl and name == "bgflow":  # its energy belongs to it
            own = step(partial(kl, energy=energies.bgflow_energy(same.P).energy))
        if is_kl and name == "torch.compile":
            own = step(partial(kl, energy=torch.compile(eager_energy, dynamic=False)))
        return answer(TORCH_CODES[name], own)

    def our_answer(flow: Sequential, tolerance: float | None = None) -> Answer:
        mapped = same.ours(flow)
        own = step(ours(flow)) if ours else run
        return Answer(lambda: own(mapped, batch), tolerance=tolerance)

    reduced = [
        Contender(name, partial(our_answer, other, same.tolerance(precision)))
        for name, precision in same.other_precisions().items()
        for other in [same.in_precision(flow, precision)]
        # These weights are steep from x to z: what bfloat16 rounds does not compare there.
        if precision == "high" or from_z
    ]
    contenders = [
        Contender("bgfast", lambda: our_answer(flow)),
        *reduced,
        Contender("JAX, jit", lambda: jax_answer(label, flow, batch)),
        *(Contender(name, partial(theirs, name)) for name in TORCH_CODES),
    ]
    if is_kl:
        without_energies = ("nflows", "normflows", "zuko")
        contenders = [c for c in contenders if c.name not in without_energies]
    return Case(label, len(batch), expected, 2e-3, contenders)


def jax_answer(label: str, flow: Sequential, batch: Tensor) -> Answer:
    import jax
    import jax.numpy as jnp

    taken = same.steps(flow)
    weights = same.jax_weights(taken)
    encode, decode = same.jax_maps(taken)
    energy = jax.vmap(energies.jax_energy(same.P))

    def ml(weights: Any, x: Any) -> Any:
        z, logdet = encode(weights, x)
        return (0.5 * (z * z).sum(-1) - logdet).mean()

    def kl(weights: Any, z: Any) -> Any:
        x, logdet = decode(weights, z)
        u = jnp.minimum(energy(x), CAP.e_max)
        excess = jnp.log1p(jnp.maximum(u - CAP.e_high, 0))
        return (jnp.where(u > CAP.e_high, CAP.e_high + excess, u) - logdet).mean()

    def with_gradient(loss: Any) -> Any:
        def run(weights: Any, batch: Any) -> Any:
            value, gradients = jax.value_and_grad(loss)(weights, batch)
            leaves = jax.tree_util.tree_leaves(gradients)
            return value, jnp.sqrt(sum((g * g).sum() for g in leaves))

        return run

    functions = {
        "forward": decode,
        "inverse": encode,
        "ML": with_gradient(ml),
        "KL": with_gradient(kl),
    }
    run = jax.jit(functions[label.split()[0]])
    inside = jnp.asarray(batch.numpy())
    return Answer(lambda: jax.block_until_ready(run(weights, inside)))


QUESTION = Question(
    "Flow R8, conditioner networks 3 x 200 tanh, 76 coordinates, float32, the same weights in all",
    "us",
    cases,
    peers=("jax", "normflows", "nflows", "zuko", "bgflow"),
)
