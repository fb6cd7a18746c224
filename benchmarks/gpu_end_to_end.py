"""Training and drawing as a whole on a device, the second table of the GPU report.

The flow is R8 with networks of 3 x 200 and weights as after training, the energy the dimer's (38
particles). ``full`` is float32, ``tf32`` the same with TF32 products allowed, ``bfloat16`` with the
networks' hidden layers in bfloat16. Times are wall-clock times until the device is done, as median
and quartiles, after a warm-up.

- *draw + reweight*: latent vectors, flow, float64 energies and weights, effective sample size.
- *KL step*: a step of the trainer. ``share of products`` is the time of the step's matrix products
  alone, measured in the same run on the same shapes in the same precision, in the time of the step:
  what the step reaches of the rate of the products.
- *KL step, replayed*: small steps without and with a CUDA graph.
- *draw + anneal + reweight*: annealed sequential Monte Carlo, once.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_record import Record, Row
from benchmarks.peers import same_weights
from bgfast.energies import ParticleDimer
from bgfast.flows import Sequential
from bgfast.sampling.anneal import Annealed, AnnealSettings, anneal
from bgfast.sampling.generate import generate
from bgfast.training import Stage, Trainer, TrainingConfig

TABLE = "end-to-end"
PRECISIONS = ("full", "tf32", "bfloat16")
PASSES = 3
"""Products of a layer in a step: its value, and the gradients by its input and by its weights."""

DRAW_GOAL, SHARE_GOAL, ANNEAL_GOAL = 8e-3, 0.5, 60.0
STAGES = 30
"""Stages of the annealing that its goal is about; ``Scale.cess`` gives some more."""


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Parameters
    ----------
    draws, chunk
        Samples drawn and reweighted, rows at once (``None``: the default of the device).
    batch, small
        Rows of a large training step, and of the small ones.
    steps, windows
        Steps that are timed together, and how many times.
    annealed, islands, rows, cess, leapfrog, pilot
        Of the annealing: particles, populations, rows at once, and how it goes on.
    flow, hidden
        Architecture, and widths of its networks.
    """

    draws: int = 100_000
    chunk: int | None = None
    batch: int = 65_536
    small: tuple[int, ...] = (512, 8192)
    steps: int = 20
    windows: int = 7
    annealed: int = 1_000_000
    islands: int = 8
    rows: int = 131_072
    cess: float = 0.6
    leapfrog: int = 5
    pilot: int = 256
    flow: str = "R8"
    hidden: tuple[int, ...] = (200, 200, 200)


FULL = Scale()
QUICK = Scale(windows=3, annealed=100_000)


def measure(device: torch.device, scale: Scale, record: Record) -> int:
    """Put the rows of the table into ``record``; return how many could not be measured."""
    failed = 0
    for what, precision, timed in _rows(device, scale):
        try:
            with _products(precision):
                record.row(TABLE, timed())
        except Exception as error:  # named; the others have their turn
            failed += 1
            why = str(error).partition("\n")[0]
            print(f"{what}, {precision}: {type(error).__name__}: {why}", file=sys.stderr)
    return failed


def _rows(device: torch.device, scale: Scale) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    for precision in PRECISIONS:
        yield "draw + reweight", precision, lambda p=precision: _draw_row(device, scale, p)
    for precision in PRECISIONS:
        yield "KL step", precision, lambda p=precision: _step_row(device, scale, p)
    for n in scale.small:
        for graph in (False, True) if device.type == "cuda" else (False,):
            yield "small KL step", "full", lambda n=n, g=graph: _small_row(device, scale, n, g)
    for precision in ("tf32", "full"):
        yield "annealing", precision, lambda p=precision: _anneal_row(device, scale, p)


def _flow(device: torch.device, scale: Scale, precision: str) -> Sequential:
    flow = same_weights.make_flow(scale.hidden, scale.flow)
    return (same_weights.in_precision(flow, "bfloat16") if precision == "bfloat16" else flow).to(
        device
    )


@contextmanager
def _products(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Return wall-clock seconds of each call until the device is done, after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - start)
    return times[2:]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _row(
    what: str, variant: str, n: int, seconds: Sequence[float], found: str, goal: str, reached: bool
) -> Row:
    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [*seconds] * 3
    low, middle, high = (1e3 * s for s in quartiles)
    times = {"ms": middle, "1st quartile": low, "3rd quartile": high}
    verdict = ("yes" if reached else "no") if goal else ""
    return {"what": what, "variant": variant, "n": n, **times} | {
        "found": found,
        "goal": goal,
        "reached": verdict,
    }


def draw_and_reweight(
    flow: Sequential, n: int, chunk: int | None = None, *, bfloat16: bool = False
) -> Tensor:
    """Return the effective sample size of ``n`` draws, on the device."""
    drawn = generate(flow, ParticleDimer(), n, chunk=chunk, bfloat16=bfloat16)
    log_w = torch.cat([batch.log_w for batch in drawn])
    log_w = torch.where(log_w.isfinite(), log_w, -torch.inf)
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


def _draw_row(device: torch.device, scale: Scale, precision: str) -> Row:
    flow, rounded = _flow(device, scale, "full"), precision == "bfloat16"

    def call() -> Tensor:
        return draw_and_reweight(flow, scale.draws, scale.chunk, bfloat16=rounded)

    seconds = _seconds(call, device, scale.windows)
    rate = scale.draws * forward_flops(flow) / statistics.median(seconds)
    found = f"{1e-12 * rate:.3g} TFLOP/s, ESS {call().item():.3g}"
    allowed = DRAW_GOAL * scale.draws / FULL.draws
    reached, goal = statistics.median(seconds) <= allowed, f"<= {1e3 * allowed:.3g} ms"
    return _row("draw + reweight", precision, scale.draws, seconds, found, goal, reached)


def layers(flow: nn.Module) -> Counter[tuple[int, int, bool]]:
    """Return how often the networks have a layer of so many inputs and outputs, the last or not."""
    found: Counter[tuple[int, int, bool]] = Counter()
    for network in flow.modules():
        linear = [m for m in network.children() if isinstance(m, nn.ModuleList)]
        for stack in linear:
            widths = [(m.in_features, m.out_features) for m in stack if isinstance(m, nn.Linear)]
            found.update((*shape, i == len(widths) - 1) for i, shape in enumerate(widths))
    return found


def forward_flops(flow: nn.Module) -> int:
    """Return the arithmetic of the networks' products for one sample, in one pass."""
    return sum(2 * n_in * n_out * count for (n_in, n_out, _), count in layers(flow).items())


def product_seconds(flow: nn.Module, n: int, precision: str, repeats: int) -> float:
    """Return the median seconds of the matrix products of a training step of ``n`` rows alone."""
    device = next(flow.parameters()).device
    total = 0.0
    for (n_in, n_out, last), count in layers(flow).items():
        rounded = precision == "bfloat16" and not last
        like: dict[str, Any] = {"device": device}
        like["dtype"] = torch.bfloat16 if rounded else torch.float32
        x, y = torch.randn(n, n_in, **like), torch.randn(n, n_out, **like)
        weight = torch.randn(n_out, n_in, **like)

        def products(
            x: Tensor = x, y: Tensor = y, weight: Tensor = weight, count: int = count
        ) -> None:
            for _ in range(count):
                torch.mm(x, weight.t())
                torch.mm(y, weight)
                torch.mm(y.t(), x)

        total += statistics.median(_seconds(products, device, repeats))
    return total


def step_seconds(
    flow: Sequential, n: int, steps: int, windows: int, *, graph: bool = False
) -> list[float]:
    """Return the seconds of a step of KL training: one number for each window of steps.

    The trainer's own: steps are enqueued without waiting, their metrics read after the last.
    """
    dimer = ParticleDimer().to(next(flow.parameters()).device)
    warm_up = 2
    stage = Stage(steps=steps * (windows + warm_up), lr=1e-7, w_kl=1.0, batch_kl=n)
    config = TrainingConfig(
        stages=(stage,), log_every=steps, checkpoint_every=stage.steps, cuda_graph=graph
    )
    rates: list[float] = []

    def progress(step: int, total: int, metrics: Any) -> None:
        rates.append(metrics["samples_per_s"])

    Trainer(flow, dimer, config, progress=progress).run()
    return [n / rate for rate in rates[warm_up:]]


def _step_row(device: torch.device, scale: Scale, precision: str) -> Row:
    flow, n = _flow(device, scale, precision), scale.batch
    seconds = step_seconds(flow, n, scale.steps, scale.windows)
    alone = product_seconds(flow, n, precision, scale.windows)
    flops = PASSES * forward_flops(flow) * n
    share = alone / statistics.median(seconds)
    found = f"share of products {share:.2f}, these at {1e-12 * flops / alone:.3g} TFLOP/s"
    return _row("KL step", precision, n, seconds, found, ">= 0.5", share >= SHARE_GOAL)


def _small_row(device: torch.device, scale: Scale, n: int, graph: bool) -> Row:
    seconds = step_seconds(_flow(device, scale, "full"), n, scale.steps, scale.windows, graph=graph)
    name = "CUDA graph" if graph else "no graph"
    found = f"{n / statistics.median(seconds):.3g} samples/s"
    return _row("KL step, replayed", name, n, seconds, found, "", reached=False)


def annealed(flow: Sequential, scale: Scale, n: int) -> Annealed:
    """Draw and anneal ``n`` particles."""
    settings = AnnealSettings(
        n_samples=n,
        islands=scale.islands,
        draws=1,
        leapfrog=scale.leapfrog,
        cess=scale.cess,
        pilot=scale.pilot,
        chunk=scale.rows,
    )
    return anneal(flow, ParticleDimer(), settings)


def _anneal_row(device: torch.device, scale: Scale, precision: str) -> Row:
    flow = _flow(device, scale, precision)
    annealed(flow, scale, 2 * scale.islands)
    start = time.perf_counter()
    done = annealed(flow, scale, scale.annealed)
    seconds = time.perf_counter() - start
    stages = len(done.betas)
    found = f"{stages} stages, log Z {done.log_z.value:.2f} +- {done.log_z.stderr:.2f}"
    allowed = ANNEAL_GOAL * scale.annealed / FULL.annealed
    reached = seconds < allowed and stages >= STAGES
    goal = f"< {allowed:.3g} s, {STAGES} stages"
    return _row(
        "draw + anneal + reweight", precision, scale.annealed, [seconds], found, goal, reached
    )
