"""One RealNVP, the R8 of the particle dimer, and its steps as any code can take them.

``z = x exp(s) + t``, ``s`` bounded, on every second coordinate given the others: all codes that
compete run these weights, so that they must return the same numbers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from bgfast_kernels import network
from bgfast_kernels.coupling import S_MAX
from bgfast_kernels.dimer import DimerParameters
from torch import Tensor, nn

from bgfast.energies import ParticleDimer
from bgfast.flows import RealNVP, Sequential, architecture, from_config
from bgfast.flows.execution import Precision, bfloat16_is_supported
from bgfast.ops.coupling_reference import bounded

P = DimerParameters()
DIM = P.dim
WIDTH = 0.05
"""Standard deviation, about, of the coordinates the flow generates around a lattice."""

Map = Callable[[Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Step:
    """One coupling step: coordinates ``transformed::2`` change, the others decide how."""

    transformed: int
    scale: nn.Sequential
    shift: nn.Sequential


@dataclass(frozen=True)
class Mapped:
    """The flow in one code: x to (z, log-determinant) and back, and what to differentiate in."""

    encode: Map
    decode: Map
    parameters: list[nn.Parameter]


def make_flow(hidden: tuple[int, ...] = (200, 200, 200), spec: str = "R8") -> Sequential:
    """Return a flow with weights as after training: not small, and x close to a lattice."""
    flow = architecture(spec, DIM, hidden)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.03 * torch.randn(p.shape, generator=generator))
        last = [m for m in flow.modules() if isinstance(m, RealNVP)][-1]
        lattice = ParticleDimer().lattice_configuration(1.2).float()
        for half in (0, 1):
            scale, shift = (getattr(last, f"{kind}_{half + 1}") for kind in ("scale", "shift"))
            output_of(scale).bias += S_MAX * math.atanh(-math.log(WIDTH) / S_MAX)
            output_of(shift).bias -= lattice[half::2] / WIDTH
    return flow


def in_precision(flow: Sequential, precision: Precision) -> Sequential:
    """Return the flow with its networks in another precision, with weights of its own."""
    other = from_config({**flow.config, "precision": precision})
    other.load_state_dict(flow.state_dict())
    return other


def tolerance(precision: Precision) -> float:
    """Return how far off results in that precision may be, relative to their size."""
    return 0.05 if precision == "bfloat16" else 2e-2


def other_precisions() -> dict[str, Precision]:
    """Return those that this processor is faster in than in float32, by the contender's name."""
    found: dict[str, Precision] = {}
    if network.is_supported():
        found["bgfast, high precision"] = "high"
    if bfloat16_is_supported():
        found["bgfast, bfloat16 nets"] = "bfloat16"
    return found


def output_of(network: nn.Module) -> nn.Linear:
    return [m for m in network.modules() if isinstance(m, nn.Linear)][-1]


def steps(flow: Sequential) -> list[Step]:
    """Return copies of the steps of ``flow``, from x to z."""
    found = []
    for block in reversed([m for m in flow.modules() if isinstance(m, RealNVP)]):
        found.append(Step(1, plain(block.scale_2), plain(block.shift_2)))
        found.append(Step(0, plain(block.scale_1), plain(block.shift_1)))
    return found


def in_float64(flow: Sequential) -> Mapped:
    """Return the flow as plain torch in float64, the reference."""
    return textbook([Step(s.transformed, s.scale.double(), s.shift.double()) for s in steps(flow)])


def plain(network: nn.Module) -> nn.Sequential:
    """Return the conditioner as one would first write it."""
    layers = [copy.deepcopy(m) for m in network.modules() if isinstance(m, nn.Linear)]
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [layer, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def textbook(taken: list[Step]) -> Mapped:
    """Plain torch: slices, four networks a block, stack."""

    def changed(step: Step, x: Tensor, change: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        halves = [x[:, 0::2], x[:, 1::2]]
        given = halves[1 - step.transformed]
        s, t = bounded(step.scale(given)), step.shift(given)
        halves[step.transformed] = change(halves[step.transformed], s, t)
        return torch.stack(halves, -1).flatten(-2), s.sum(-1)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = x.new_zeros(len(x))
        for step in taken:
            x, s = changed(step, x, lambda half, s, t: half * torch.exp(s) + t)
            logdet = logdet + s
        return x, logdet

    def decode(z: Tensor) -> tuple[Tensor, Tensor]:
        logdet = z.new_zeros(len(z))
        for step in reversed(taken):
            z, s = changed(step, z, lambda half, s, t: (half - t) * torch.exp(-s))
            logdet = logdet - s
        return z, logdet

    return Mapped(encode, decode, parameters_of(taken))


def parameters_of(taken: list[Step]) -> list[nn.Parameter]:
    return [p for s in taken for p in (*s.scale.parameters(), *s.shift.parameters())]


def compiled(taken: list[Step]) -> Mapped:
    found = textbook(taken)
    encode, decode = (torch.compile(f, dynamic=False) for f in (found.encode, found.decode))
    return Mapped(encode, decode, found.parameters)


def ours(flow: Sequential) -> Mapped:
    return Mapped(flow.inverse, flow.forward, list(flow.parameters()))


def widened(network: nn.Sequential, transformed: int) -> nn.Sequential:
    """Return the network on all coordinates, for codes that mask: zero weights at the others."""
    wide = copy.deepcopy(network)
    linear = [m for m in wide if isinstance(m, nn.Linear)]
    with torch.no_grad():
        first, last = linear[0].weight, linear[-1].weight
        columns = first.new_zeros(len(first), DIM)
        columns[:, 1 - transformed :: 2] = first
        rows, bias = last.new_zeros(DIM, last.shape[1]), last.new_zeros(DIM)
        rows[transformed::2], bias[transformed::2] = last, linear[-1].bias
    linear[0].weight = nn.Parameter(columns)
    linear[-1].weight, linear[-1].bias = nn.Parameter(rows), nn.Parameter(bias)
    return wide


class Bounded(nn.Module):
    """A log-scale network with its bound."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return bounded(self.network(x))


def jax_weights(taken: list[Step]) -> list[Any]:
    """Return the weights as JAX arrays: per step those of the scale and of the shift network."""
    import jax.numpy as jnp

    def layers(network: nn.Sequential) -> list[tuple[Any, Any]]:
        pairs = [m for m in network if isinstance(m, nn.Linear)]
        return [tuple(jnp.asarray(p.detach().numpy()) for p in (m.weight, m.bias)) for m in pairs]

    return [(layers(step.scale), layers(step.shift)) for step in taken]


def jax_maps(taken: list[Step]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return encode and decode as functions of (weights, batch)."""
    import jax.numpy as jnp

    places = [step.transformed for step in taken]

    def network(layers: Any, x: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = jnp.tanh(x @ weight.T + bias)
        return x @ layers[-1][0].T + layers[-1][1]

    def through(weights: Any, x: Any, order: list[int], change: Callable[..., Any]) -> Any:
        total = jnp.zeros(len(x), x.dtype)
        for k in order:
            halves = [x[:, 0::2], x[:, 1::2]]
            given = halves[1 - places[k]]
            s = S_MAX * jnp.tanh(network(weights[k][0], given) / S_MAX)
            halves[places[k]] = change(halves[places[k]], s, network(weights[k][1], given))
            x, total = jnp.stack(halves, -1).reshape(x.shape), total + s.sum(-1)
        return x, total

    order = list(range(len(taken)))

    def encode(weights: Any, x: Any) -> Any:
        return through(weights, x, order, lambda half, s, t: half * jnp.exp(s) + t)

    def decode(weights: Any, z: Any) -> Any:
        x, total = through(weights, z, order[::-1], lambda half, s, t: (half - t) * jnp.exp(-s))
        return x, -total

    return encode, decode
