"""Time the R8 flow against a textbook implementation: ``python -m benchmarks.flow``.

The network of the particle dimer: R8, S and T nets with 3 hidden tanh layers of 200, float32, 76
coordinates. Both run the same weights; agreement is checked before anything is timed. Times are
CPU time of the process (not wall time) per sample, the two interleaved, as median and quartiles.
"forward" is drawing without autograd, "forward+backward" the gradient of every weight.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bgfast
from benchmarks.timing import interleaved
from bgfast.flows import RealNVP, Sequential, architecture
from bgfast.ops.coupling import bounded

DIM, HIDDEN = 76, (200, 200, 200)


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
        self.blocks = nn.ModuleList(TextbookCoupling(b) for b in flow.flows if type(b) is RealNVP)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        logdet = z.new_zeros(z.shape[0])
        for block in self.blocks:
            z, step = block(z)
            logdet = logdet + step
        return z, logdet


def draw(flow: nn.Module, z: Tensor) -> None:
    with torch.no_grad():
        flow(z)


def train(flow: nn.Module, z: Tensor) -> None:
    x, logdet = flow(z)
    (x.square().sum() - logdet.sum()).backward()
    for p in flow.parameters():
        p.grad = None


def measure(batch_sizes: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    flow = architecture("R8", DIM, HIDDEN)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.03 * torch.randn(p.shape, generator=generator))
    flows = {"textbook": TextbookFlow(flow), "bgfast": flow}
    rows = []
    for n in batch_sizes:
        z = torch.randn(n, DIM, generator=generator)
        with torch.no_grad():
            for ours, textbook in zip(flow(z), flows["textbook"](z), strict=True):
                torch.testing.assert_close(ours, textbook, rtol=1e-3, atol=1e-3)
        modes = {"forward": draw, "forward+backward": train}
        if n > 20_000:  # the activations of a training step this size need several GB
            del modes["forward+backward"]
        for mode, run in modes.items():
            calls = [lambda f=f, run=run, z=z: run(f, z) for f in flows.values()]
            times = interleaved(calls, repeats)
            textbook_median = times[0][1]
            for name, (q1, median, q3) in zip(flows, times, strict=True):
                rows.append(
                    {
                        "mode": mode,
                        "batch": n,
                        "flow": name,
                        "us_per_sample": median / n * 1e6,
                        "q1": q1 / n * 1e6,
                        "q3": q3 / n * 1e6,
                        "speedup": textbook_median / median,
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1024, 8192, 65536])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    versions = {
        "bgfast": bgfast.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    print("R8, 76 coordinates, hidden 200x200x200 tanh, float32")
    print(", ".join(f"{k} {v}" for k, v in versions.items()))
    rows = measure(arguments.batch, arguments.repeats)
    print(f"{'mode':17} {'batch':>6} {'flow':9} {'us/sample':>9} {'quartiles':>15} {'speedup':>7}")
    for r in rows:
        quartiles = f"{r['q1']:.1f}..{r['q3']:.1f}"
        print(
            f"{r['mode']:17} {r['batch']:6d} {r['flow']:9} {r['us_per_sample']:9.1f} "
            f"{quartiles:>15} {r['speedup']:7.2f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
