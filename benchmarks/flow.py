"""Time drawing and training with R8 against torch eager: ``python -m benchmarks.flow``.

The network of the particle dimer: R8, S and T nets with 3 hidden tanh layers of 200, float32, 76
coordinates, and two tasks from end to end:

- ``draw + reweight``: 1e5 latents to configurations, float64 energies and log-weights, by
  :func:`bgfast.sampling.generate.generate` in its usual chunks;
- ``KL step``: energy and loss of a batch, gradients, clipping, Adam.

The baseline "torch eager" is the same architecture with the same weights as one would first write
it, and the energy in plain torch; beside it the same flow with the numba energy. Agreement is
checked before anything is timed. Times are CPU time of the process (not wall time) per sample, the
contenders interleaved, as median and quartiles.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bgfast_kernels import cpu
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.peers import same_weights
from benchmarks.timing import interleaved
from bgfast.energies import ParticleDimer
from bgfast.flows import RealNVP, Sequential, architecture
from bgfast.ops import use_backend
from bgfast.ops.coupling_reference import bounded
from bgfast.sampling.generate import generate
from bgfast.training.cap import LinLogCap
from bgfast.training.losses import kl_loss

DIM, HIDDEN = 76, (200, 200, 200)
BASELINE = "torch eager"


class TextbookCoupling(nn.Module):
    """A RealNVP block as one would first write it: slices, four nn.Sequential nets, stack."""

    def __init__(self, block: RealNVP) -> None:
        super().__init__()
        networks = (block.scale_1, block.shift_1, block.scale_2, block.shift_2)
        self.nets = nn.ModuleList(self._network(n.layers) for n in networks)

    @staticmethod
    def _network(layers: nn.ModuleList) -> nn.Sequential:
        modules: list[nn.Module] = []
        for layer in layers:
            modules += [layer, nn.Tanh()]
        return nn.Sequential(*modules[:-1])

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = z[..., 0::2], z[..., 1::2]
        s1 = bounded(self.nets[0](odd))
        even = (even - self.nets[1](odd)) * torch.exp(-s1)
        s2 = bounded(self.nets[2](even))
        odd = (odd - self.nets[3](even)) * torch.exp(-s2)
        return torch.stack((even, odd), -1).flatten(-2), -s1.sum(-1) - s2.sum(-1)


class TextbookFlow(nn.Module):
    """The blocks of ``flow`` (sharing its weights), one after another."""

    def __init__(self, flow: Sequential) -> None:
        super().__init__()
        self.dim = flow.dim
        self.blocks = nn.ModuleList(TextbookCoupling(b) for b in flow.flows if type(b) is RealNVP)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        logdet = z.new_zeros(z.shape[0])
        for block in self.blocks:
            z, step = block(z)
            logdet = logdet + step
        return z, logdet


class Contender(NamedTuple):
    """A flow with a backend of the energy."""

    name: str
    flow: Any
    energy_backend: str


def contenders() -> list[Contender]:
    """Return the contenders, all with the weights of one flow, moved away from the identity."""
    generator = torch.Generator().manual_seed(0)
    flow = architecture("R8", DIM, HIDDEN)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.01 * torch.randn(p.shape, generator=generator))
    textbook = TextbookFlow(flow)
    found = [
        Contender(BASELINE, textbook, "torch"),
        Contender("torch eager, numba energy", textbook, "numba"),
        Contender("bgfast", flow, "numba"),
    ]
    for name, precision in same_weights.other_precisions().items():
        found.append(Contender(name, same_weights.in_precision(flow, precision), "numba"))
    return found


def energy_backend(contender: Contender) -> Any:
    """Return the context in which the contender's energy runs."""
    plain = contender.energy_backend == "torch"  # the textbook flow has no ops to redirect
    return use_backend("torch") if plain else nullcontext()


def draw(contender: Contender, n: int) -> Tensor:
    """Return the log-weights of ``n`` samples."""
    with energy_backend(contender):
        batches = generate(contender.flow, ParticleDimer(), n, seed=1)
        return torch.cat([batch.log_w for batch in batches])


def train(contender: Contender, z: Tensor, optimizer: torch.optim.Optimizer) -> float:
    """Take one step of KL training and return its loss."""
    with energy_backend(contender):
        loss = kl_loss(contender.flow, ParticleDimer(), z, 1.0, LinLogCap(1e4, 1e10)).value
        optimizer.zero_grad()
        loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 100.0)
    optimizer.step()
    return float(loss.detach())


def check(found: Sequence[Contender]) -> None:
    """Raise if the contenders do not compute the same."""
    z = torch.randn(300, DIM, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = found[0].flow(z)
        for contender in found[1:]:
            # Rounding to 8 bits makes another flow, nearby; that its weights are exact is tested.
            tolerance = 0.03 if "bfloat16" in contender.name else 1e-3
            torch.testing.assert_close(contender.flow(z), expected, rtol=tolerance, atol=tolerance)
    gradients = []
    for contender in found:
        optimizer = torch.optim.Adam(contender.flow.parameters(), lr=0.0, fused=True)
        train(contender, z, optimizer)
        gradients.append(torch.cat([p.grad.flatten() for p in contender.flow.parameters()]))
    for contender, gradient in zip(found[1:], gradients[1:], strict=True):
        rtol = 0.1 if "bfloat16" in contender.name else 1e-3
        torch.testing.assert_close(gradient.norm(), gradients[0].norm(), rtol=rtol, atol=0)


def rows(
    task: str, n: int, names: Sequence[str], calls: Sequence[Callable[[], Any]], repeats: int
) -> list[dict[str, Any]]:
    """Time ``calls`` in turns and return a row for each."""
    times = interleaved(calls, repeats)
    return [
        {
            "task": task,
            "batch": n,
            "contender": name,
            "us_per_sample": median / n * 1e6,
            "q1": q1 / n * 1e6,
            "q3": q3 / n * 1e6,
            "ratio": median / times[0][1],
        }
        for name, (q1, median, q3) in zip(names, times, strict=True)
    ]


def measure(n_draw: int, batches: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Return the rows of both tasks."""
    found = contenders()
    check(found)
    table: list[dict[str, Any]] = []
    generator = torch.Generator().manual_seed(2)
    for n in batches:
        z = torch.randn(n, DIM, generator=generator)
        calls = []
        for contender in found:
            # A learning rate of 0: every step does the same work on the same weights.
            adam = torch.optim.Adam(contender.flow.parameters(), lr=0.0, fused=True)
            calls.append(lambda c=contender, z=z, adam=adam: train(c, z, adam))
        table += rows("KL step", n, [c.name for c in found], calls, repeats)
    if n_draw:
        calls = [lambda c=contender: draw(c, n_draw) for contender in found]
        table += rows("draw + reweight", n_draw, [c.name for c in found], calls, repeats)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", type=int, default=100_000, help="samples to draw; 0: none")
    parser.add_argument("--batch", type=int, nargs="*", default=[1024, 8192])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cpu.set_threads(arguments.threads)

    device = {
        **machine.describe(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    print("R8, 76 coordinates, hidden 200x200x200 tanh, float32")
    print(", ".join(f"{k} {v}" for k, v in device.items()))
    table = measure(arguments.draw, arguments.batch, arguments.repeats)
    print(
        f"{'task':16} {'batch':>7} {'contender':26} {'us/sample':>9} {'quartiles':>15} {'ratio':>6}"
    )
    for r in table:
        quartiles = f"{r['q1']:.1f}..{r['q3']:.1f}"
        print(
            f"{r['task']:16} {r['batch']:7d} {r['contender']:26} {r['us_per_sample']:9.1f} "
            f"{quartiles:>15} {r['ratio']:6.3f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": device, "rows": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
