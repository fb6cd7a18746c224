"""Time spline coupling against nflows, zuko and plain torch: ``python -m benchmarks.spline``.

Three questions, float32, 8 bins, one thread:

- kernel: nanoseconds per coordinate of the kernels alone.
- transform: the spline given its raw numbers, 38 coordinates; "forward+backward" has the gradients
  by coordinates and raw numbers.
- block: two coupling steps over 76 coordinates, networks with 3 hidden tanh layers of 200;
  "forward+backward" has the gradients of all weights. All have the same networks, nflows the very
  weights; zuko's spline limits its slopes in another way, so its weights are its own.

Values are checked before anything is timed. nflows and zuko are left out where they are missing.
Times are CPU time of the process, implementations taking turns, as median and quartiles.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from bgfast_kernels.coupling import spline as kernels
from bgfast_kernels.coupling.spline_parameters import MIN_BIN, MIN_SLOPE, SHIFT
from torch import Tensor, nn

from benchmarks.peers.same_weights import other_precisions
from benchmarks.timing import interleaved, run
from bgfast.flows.spline import SplineCoupling
from bgfast.ops import rational_quadratic_spline, use_backend

BINS, BOUND, DIM, HIDDEN = 8, 5.0, 76, (200, 200, 200)
HALF, N_RAW = DIM // 2, 3 * BINS - 1
PEERS = tuple(name for name in ("nflows", "zuko") if importlib.util.find_spec(name))

Pair = tuple[Tensor, Tensor]


def nflows_transform(x: Tensor, raw: Tensor) -> Pair:
    """``raw[n, m, 3 K - 1]``, the slopes shifted."""
    from nflows.transforms.splines import unconstrained_rational_quadratic_spline

    y, log = unconstrained_rational_quadratic_spline(
        x,
        *raw.split((BINS, BINS, BINS - 1), -1),
        tail_bound=BOUND,
        min_bin_width=MIN_BIN,
        min_bin_height=MIN_BIN,
        min_derivative=MIN_SLOPE,
    )
    return y, log.sum(-1)


def zuko_transform(x: Tensor, raw: Tensor) -> Pair:
    """``raw[n, m, 3 K - 1]``."""
    from zuko.transforms import MonotonicRQSTransform

    spline = MonotonicRQSTransform(*raw.split((BINS, BINS, BINS - 1), -1), bound=BOUND)
    y, log = spline.call_and_ladj(x)
    return y, log.sum(-1)


def reference_transform(x: Tensor, raw: Tensor) -> Pair:
    return rational_quadratic_spline(x, raw, BOUND, backend="torch")


def transforms(n: int) -> dict[str, tuple[Callable[..., Pair], Tensor, Tensor]]:
    """Return, by name, a function and its own layout of the same input; values are checked."""
    generator = torch.Generator().manual_seed(0)
    x = 1.5 * torch.randn(n, HALF, generator=generator)
    raw = 0.5 * torch.randn(n, N_RAW, HALF, generator=generator)
    theirs = raw.transpose(1, 2).contiguous()
    shifted = theirs.clone()
    shifted[..., 2 * BINS :] += SHIFT
    found = {
        "bgfast": (lambda x, raw: rational_quadratic_spline(x, raw, BOUND), x, raw),
        "torch reference": (reference_transform, x, raw),
        "nflows": (nflows_transform, x, shifted),
        "zuko": (zuko_transform, x, theirs),
    }
    found = {k: v for k, v in found.items() if k not in ("nflows", "zuko") or k in PEERS}
    expected = reference_transform(x.double(), raw.double())
    for name, (function, x, raw) in found.items():
        if name == "zuko":
            check_log_slope(function, x, raw)
            continue
        for value, wanted in zip(function(x, raw), expected, strict=True):
            torch.testing.assert_close(value.double(), wanted, rtol=1e-3, atol=1e-3)
    return found


def check_log_slope(function: Callable[..., Pair], x: Tensor, raw: Tensor) -> None:
    """Compare the log-determinant with autograd's, in float64."""
    x = x.double().requires_grad_()
    value, logdet = function(x, raw.double())
    (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(logdet, slope.log().sum(-1), rtol=1e-9, atol=1e-9)


class NflowsBlock(nn.Module):
    """``block`` made of nflows' couplings, with its weights."""

    def __init__(self, block: SplineCoupling) -> None:
        super().__init__()
        from nflows.transforms.coupling import PiecewiseRationalQuadraticCouplingTransform

        class Network(nn.Module):
            def __init__(self, n_in: int, n_out: int) -> None:
                super().__init__()
                layers: list[nn.Module] = []
                for a, b in zip((n_in, *HIDDEN), (*HIDDEN, n_out), strict=True):
                    layers += [nn.Linear(a, b), nn.Tanh()]
                self.layers = nn.Sequential(*layers[:-1])

            def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
                return self.layers(x)

        first = torch.arange(DIM) < HALF
        self.steps = nn.ModuleList(
            PiecewiseRationalQuadraticCouplingTransform(
                mask.int(),
                Network,
                num_bins=BINS,
                tails="linear",
                tail_bound=BOUND,
                min_bin_width=MIN_BIN,
                min_bin_height=MIN_BIN,
                min_derivative=MIN_SLOPE,
            )
            for mask in (first, ~first)
        )
        for step, ours in zip(self.steps, (block.knots_1, block.knots_2), strict=True):
            theirs = [m for m in step.transform_net.layers if isinstance(m, nn.Linear)]
            for a, b in zip(theirs, ours.layers, strict=True):
                a.load_state_dict(b.state_dict())
            with torch.no_grad():
                for parameter in theirs[-1].parameters():
                    parts = parameter.reshape(N_RAW, HALF, -1).transpose(0, 1)
                    parameter.copy_(parts.reshape(parameter.shape))
                theirs[-1].bias.view(HALF, N_RAW)[:, 2 * BINS :] += SHIFT

    def forward(self, z: Tensor) -> Pair:
        z, first = self.steps[0](z)
        z, second = self.steps[1](z)
        return z, first + second


class ZukoBlock(nn.Module):
    """Two of zuko's couplings with networks of the same size."""

    def __init__(self) -> None:
        super().__init__()
        from zuko.flows.coupling import GeneralCouplingTransform
        from zuko.transforms import MonotonicRQSTransform

        conditions = torch.arange(DIM) >= HALF
        self.steps = nn.ModuleList(
            GeneralCouplingTransform(
                DIM,
                mask=mask,
                univariate=lambda *raw: MonotonicRQSTransform(*raw, bound=BOUND),
                shapes=[(BINS,), (BINS,), (BINS - 1,)],
                hidden_features=HIDDEN,
                activation=nn.Tanh,
            )
            for mask in (conditions, ~conditions)
        )

    def forward(self, z: Tensor) -> Pair:
        z, first = self.steps[0]().call_and_ladj(z)
        z, second = self.steps[1]().call_and_ladj(z)
        return z, first + second


class TorchBlock(nn.Module):
    """``block`` with the torch reference of the spline."""

    def __init__(self, block: SplineCoupling) -> None:
        super().__init__()
        self.block = block

    def forward(self, z: Tensor) -> Pair:
        with use_backend("torch"):
            return self.block(z)


def blocks(z: Tensor) -> dict[str, nn.Module]:
    generator = torch.Generator().manual_seed(1)
    ours = SplineCoupling(DIM, HIDDEN, n_bins=BINS, bound=BOUND)
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    found: dict[str, nn.Module] = {"bgfast": ours, "torch reference": TorchBlock(ours)}
    for name, precision in other_precisions().items():
        found[name] = SplineCoupling(DIM, HIDDEN, n_bins=BINS, bound=BOUND, precision=precision)
        found[name].load_state_dict(ours.state_dict())
    if "nflows" in PEERS:
        found["nflows"] = NflowsBlock(ours)
    if "zuko" in PEERS:
        found["zuko"] = ZukoBlock()
    with torch.no_grad():
        expected = ours(z)
        for name in set(found) - {"zuko"}:
            for value, wanted in zip(found[name](z), expected, strict=True):
                if "bfloat16" in name:
                    assert (value - wanted).abs().mean() < 0.05, name
                else:
                    torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-3)
    if "zuko" in found:
        jacobian = torch.func.jacrev(lambda z: found["zuko"](z)[0])(z[0])
        logdet = found["zuko"](z[:1])[1][0]
        torch.testing.assert_close(jacobian.slogdet()[1], logdet, rtol=1e-3, atol=1e-3)
    return found


def without_gradient(function: Callable[..., Pair], *arguments: Tensor) -> None:
    with torch.no_grad():
        function(*arguments)


def with_gradient(function: Callable[..., Pair], *arguments: Tensor) -> None:
    leaves = [a.requires_grad_() for a in arguments]
    if isinstance(function, nn.Module):
        leaves = list(function.parameters())
    value, logdet = function(*arguments)
    torch.autograd.grad(value.square().sum() - logdet.sum(), leaves)


def title(name: str) -> str:
    """Return the name of a code, that of another package with its version."""
    return f"{name} {metadata.version(name)}" if name in PEERS else name


def row(
    subject: str,
    mode: str,
    n: int,
    name: str,
    n_coordinates: int,
    times: tuple[float, ...],
    bgfast_share: float,
) -> dict[str, Any]:
    q1, median, q3 = (seconds / n * 1e6 for seconds in times)
    return {
        "subject": subject,
        "mode": mode,
        "batch": n,
        "implementation": title(name),
        "us_per_sample": median,
        "q1": q1,
        "q3": q3,
        "ns_per_coordinate": median / n_coordinates * 1e3,
        "bgfast_share": bgfast_share,
    }


def measure_peers(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for n in (1024, 8192):
        z = torch.randn(n, DIM, generator=torch.Generator().manual_seed(2))
        subjects = {
            "transform": transforms(n),
            "block": {name: (block, z) for name, block in blocks(z).items()},
        }
        for subject, found in subjects.items():
            for mode, go in (("forward", without_gradient), ("forward+backward", with_gradient)):
                calls = [
                    lambda go=go, f=f, a=a: go(f, *(t.detach() for t in a))
                    for f, *a in found.values()
                ]
                times = interleaved(calls, repeats)
                for name, spread in zip(found, times, strict=True):
                    n_coordinates = HALF if subject == "transform" else DIM
                    share = times[0][1] / spread[1]
                    rows.append(row(subject, mode, n, name, n_coordinates, spread, share))
    return rows


def measure_kernels(repeats: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for m, n in ((HALF, 4096), (1, 131072)):
        for dtype in (np.float32, np.float64):
            x, raw = 1.5 * rng.normal(size=(n, m)), 0.5 * rng.normal(size=(n, N_RAW, m))
            g, g_logdet = rng.normal(size=(n, m)), rng.normal(size=n)
            x, raw, g, g_logdet = (a.astype(dtype) for a in (x, raw, g, g_logdet))
            calls = {
                "forward": lambda x=x, raw=raw: kernels.spline(x, raw, BOUND),
                "inverse": lambda x=x, raw=raw: kernels.spline(x, raw, BOUND, True),
                "gradients": lambda x=x, raw=raw, g=g, g_logdet=g_logdet: kernels.spline_gradient(
                    x, raw, g, g_logdet, BOUND
                ),
            }
            times = interleaved(list(calls.values()), repeats)
            for mode, spread in zip(calls, times, strict=True):
                subject = f"kernel {np.dtype(dtype)}, {m} per row"
                rows.append(row(subject, mode, n, "bgfast", m, spread, 1.0))
    return rows


def measure(repeats: int) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure_kernels(repeats) + measure_peers(repeats)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    run("Rational-quadratic spline coupling, 8 bins, float32, one thread", measure)
