"""Time and memory against batch size and particle number: ``python -m benchmarks.scaling``.

Wall-clock time of one call on all cores, the least of a few (it scatters upwards only), and the
rise of the peak resident memory during the call. Exponents are least-squares slopes in log-log
over the largest sizes, where the fixed cost of a call has died away. ``--ten-million`` instead
draws and reweights up to 1e7 samples, each number in a process of its own, and prints peak memory.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bgfast_kernels.dimer import DimerParameters, lattice
from torch import Tensor

from benchmarks import machine
from benchmarks.end_to_end import draw_and_reweight, training_step
from benchmarks.peak import peak_growth, peak_resident
from benchmarks.peers import same_weights
from bgfast.energies import ParticleDimer
from bgfast.ops import assign, dimer_energy_grad, kde_log_density
from bgfast.sampling import MetropolisSampler

N_FITTED = 3
LARGE_FLOW = ("R2", (32, 32))
"""A flow small enough to draw ten million samples in minutes."""


@dataclass(frozen=True)
class Curve:
    """One quantity against one size."""

    what: str
    against: str
    sizes: Sequence[int]
    prepare: Callable[[int], Callable[[], Any]]


@dataclass
class Point:
    """What was found for one size: seconds of a call, rise of the peak memory in bytes."""

    what: str
    against: str
    size: int
    seconds: float
    bytes: int


def configurations(n: int, n_particles: int = 38) -> tuple[Tensor, DimerParameters]:
    """Return ``n`` float32 configurations at a density that does not depend on their number."""
    half = 3.0 * math.sqrt(n_particles / 38)
    parameters = DimerParameters(n_solvent=n_particles - 2, l=half)
    few = lattice(np.random.default_rng(0), min(n, 1000), np.float32, parameters)
    return torch.from_numpy(few).repeat(-(-n // len(few)), 1)[:n].contiguous(), parameters


def energy(n: int, n_particles: int = 38) -> Callable[[], Any]:
    x, parameters = configurations(n, n_particles)
    return lambda: dimer_energy_grad(x, parameters)


def flow(n: int) -> Callable[[], Any]:
    model = same_weights.make_flow()
    z = torch.randn(n, model.dim)

    def run() -> None:
        with torch.no_grad():
            model(z)

    return run


def step(n: int) -> Callable[[], Any]:
    return training_step(same_weights.make_flow(), n)


def drawing(n: int) -> Callable[[], Any]:
    model = same_weights.make_flow()
    return lambda: draw_and_reweight(model, n)


def density(n: int) -> Callable[[], Any]:
    points = torch.randn(n, dtype=torch.float64)

    def run() -> None:
        x = points.detach().requires_grad_()
        kde_log_density(x, 0.1).mean().backward()

    return run


def relabelling(n: int, n_particles: int = 36) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    side = math.ceil(math.sqrt(n_particles))
    reference = np.array([(k % side, k // side) for k in range(n_particles)], dtype=np.float64)
    x = torch.from_numpy(reference + 0.3 * rng.standard_normal((n, n_particles, 2)))
    return lambda: assign(x, torch.from_numpy(reference))


def sweep(n_particles: int) -> Callable[[], Any]:
    x, parameters = configurations(16, n_particles)
    dimer = ParticleDimer(n_solvent=parameters.n_solvent, l=parameters.l)
    sampler = MetropolisSampler(dimer, x.double().numpy(), step=0.2, moves="particle")
    return lambda: sampler.run(50, 50)


def curves(quick: bool) -> list[Curve]:
    def sizes(largest: int) -> list[int]:
        return [10**k for k in range(7) if 10**k <= (100 if quick else largest)]

    particles = [8, 16, 32] if quick else [8, 16, 32, 64, 128, 256, 512]
    rows = 16 if quick else 1000
    return [
        Curve("energy + gradient", "B", sizes(1_000_000), energy),
        Curve("relabelling", "B", sizes(1_000_000), relabelling),
        Curve("kernel density + gradient", "B", sizes(1_000_000)[1:], density),
        Curve("flow R8, forward", "B", sizes(100_000), flow),
        Curve("KL step, R8", "B", sizes(10_000), step),
        Curve("draw + reweight, R8", "B", sizes(100_000), drawing),
        Curve(f"energy + gradient, B = {rows:,}", "N", particles, lambda n: energy(rows, n)),
        Curve(f"relabelling, B = {rows:,}", "N", particles, lambda n: relabelling(rows, n)),
        Curve("Metropolis, 50 sweeps of 16 walkers", "N", particles, sweep),
    ]


def measure(curve: Curve, seconds: float) -> Iterator[Point]:
    """Yield the points of ``curve``, each timed for about ``seconds`` or once."""
    for size in curve.sizes:
        call = curve.prepare(size)
        call()
        memory = peak_growth(call)
        best, spent = math.inf, 0.0
        while spent < seconds:
            start = time.perf_counter()
            call()
            elapsed = time.perf_counter() - start
            best, spent = min(best, elapsed), spent + elapsed
        yield Point(curve.what, curve.against, size, best, memory)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return p of values ~ sizes^p by least squares in log-log over the last points."""
    x, y = np.log(sizes[-N_FITTED:]), np.log(np.maximum(values[-N_FITTED:], 1e-30))
    return float(np.polyfit(x, y, 1)[0])


def fitted(points: Sequence[Point]) -> dict[str, Any]:
    sizes = [p.size for p in points]
    last = [p.bytes for p in points[-N_FITTED:]]
    grows = last[-1] > 2**20 and min(last) > 0  # below a MiB pages are all one sees
    return {
        "what": points[0].what,
        "against": points[0].against,
        "range": sizes[-N_FITTED:],
        "time": exponent(sizes, [p.seconds for p in points]),
        "memory": exponent(sizes, [p.bytes for p in points]) if grows else None,
    }


def figure(points: Sequence[Point], fits: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    panels = (("B", "seconds", "time"), ("N", "seconds", "time"), ("B", "bytes", "memory"))
    for axis, (against, quantity, key) in zip(axes, panels, strict=True):
        for fit in (f for f in fits if f["against"] == against):
            mine = [p for p in points if p.what == fit["what"]]
            values = [getattr(p, quantity) for p in mine]
            power = "flat" if fit[key] is None else f"{against}$^{{{fit[key]:.2f}}}$"
            axis.loglog([p.size for p in mine], values, "o-", ms=3, label=f"{fit['what']}: {power}")
        axis.set_xlabel({"B": "batch size B", "N": "particles N"}[against])
        axis.set_ylabel(
            {"seconds": "time of a call / s", "bytes": "rise of peak memory / B"}[quantity]
        )
        axis.set_ylim(top=30 * axis.get_ylim()[1])  # room for the legend
        axis.legend(fontsize=7, frameon=False, loc="upper left")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw(n: int) -> dict[str, Any]:
    """Draw and reweight ``n`` samples and return time and peak resident memory of this process."""
    spec, hidden = LARGE_FLOW
    small = same_weights.make_flow(hidden, spec)
    draw_and_reweight(small, 1000)
    before, start = peak_resident(), time.perf_counter()
    ess = draw_and_reweight(small, n)
    seconds = time.perf_counter() - start
    mib = 2.0**20
    peak = peak_resident()
    return {
        "n": n,
        "seconds": seconds,
        "peak_mib": peak / mib,
        "rise_mib": (peak - before) / mib,
        "ess": ess,
    }


def ten_million(sizes: Sequence[int], path: Path | None) -> None:
    spec, hidden = LARGE_FLOW
    print(f"draw + reweight with {spec}, networks {'x'.join(map(str, hidden))}, 76 coordinates")
    rows = []
    for n in sizes:
        command = [sys.executable, "-m", "benchmarks.scaling", "--draw", str(n)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        print("  n = {n:>10,}: {seconds:8.2f} s, peak {peak_mib:6.0f} MiB".format(**rows[-1]))
    write(path, {"flow": [spec, list(hidden)], "rows": rows})


def write(path: Path | None, content: dict[str, Any]) -> None:
    if path:
        found = machine.describe(clock="wall-clock time")
        path.write_text(json.dumps({"machine": found, **content}, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw them to this PNG")
    parser.add_argument("--ten-million", action="store_true", help="flat memory up to 1e7 samples")
    parser.add_argument("--draw", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.draw:
        print(json.dumps(draw(options.draw)))
        return
    if options.ten_million:
        sizes = [1_000, 10_000] if options.quick else [100_000, 1_000_000, 10_000_000]
        ten_million(sizes, options.json)
        return
    points: list[Point] = []
    fits = []
    for curve in curves(options.quick):
        mine = list(measure(curve, 0.01 if options.quick else 0.5))
        points += mine
        fits.append(fitted(mine))
        print(f"{curve.what}, against {curve.against}")
        for p in mine:
            print(f"  {p.size:>9,} {p.seconds * 1e3:12.4g} ms {p.bytes / 2**20:10.1f} MiB")
        memory = fits[-1]["memory"]
        power = "flat" if memory is None else f"{curve.against}^{memory:.2f}"
        print(f"  time ~ {curve.against}^{fits[-1]['time']:.2f}, memory {power}", flush=True)
    write(options.json, {"fits": fits, "points": [asdict(p) for p in points]})
    if options.figure:
        figure(points, fits, options.figure)


if __name__ == "__main__":
    main()
