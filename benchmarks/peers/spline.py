"""The rational-quadratic spline of a coupling layer: value and log-determinant, with gradients.

38 coordinates of B rows, 8 bins, the same knots in all codes: nflows and normflows make them from
the numbers bgfast gets; zuko bounds its own differently, so it is given what leads to these knots.
"Forward + backward" is the gradient of sum(value * weights) + sum(logdet) in the coordinates and in
the raw numbers; compared are the values, log-determinants and the gradient in the coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peers.question import Answer, Case, Contender, Question
from bgfast.flows import LAYERS

M, BINS, BOUND = 38, 8, 4.0
Spline = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Coordinates [n, m] and raw numbers in a code's own layout -> values [n, m], logdet [n]."""


def cases(quick: bool) -> Iterator[Case]:
    if "Q" not in LAYERS:
        return  # a version of bgfast without splines
    from bgfast.ops.spline_reference import reference_spline

    generator = torch.Generator().manual_seed(0)
    for n in (64,) if quick else (1024, 8192):
        x = 1.5 * torch.randn(n, M, generator=generator)
        raw = torch.randn(n, 3 * BINS - 1, M, generator=generator)
        x64 = x.double().requires_grad_()
        value, logdet = reference_spline(x64, raw.double(), BOUND)
        slope = torch.autograd.grad((value * weights(x64)).sum() + logdet.sum(), x64)[0]
        found = (value.detach(), logdet.detach(), slope)
        yield Case(f"forward, B = {n:,}", n, found[:2], 1e-3, contenders(x, raw, False))
        yield Case(f"forward + backward, B = {n:,}", n, found, 1e-2, contenders(x, raw, True))


def weights(x: Tensor) -> Tensor:
    return torch.linspace(-1, 1, M, dtype=x.dtype)


def contenders(x: Tensor, raw: Tensor, backward: bool) -> list[Contender]:
    def answer(spline: Spline, raw: Tensor) -> Answer:
        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return spline(x, raw)

        def with_gradient() -> tuple[Tensor, ...]:
            at, by = x.detach().requires_grad_(), raw.detach().requires_grad_()
            value, logdet = spline(at, by)
            loss = (value * weights(x)).sum() + logdet.sum()
            gradient = torch.autograd.grad(loss, (at, by))[0]
            return value.detach(), logdet.detach(), gradient

        return Answer(with_gradient if backward else forward)

    def ours() -> Answer:
        from bgfast.ops import rational_quadratic_spline

        return answer(lambda x, raw: rational_quadratic_spline(x, raw, BOUND), raw)

    def eager(compile_it: bool) -> Answer:
        from bgfast.ops.spline_reference import reference_spline

        spline = partial(reference_spline, bound=BOUND)
        return answer(torch.compile(spline, dynamic=False) if compile_it else spline, raw)

    def like_nflows(spline: Callable[..., tuple[Tensor, Tensor]]) -> Answer:
        def call(x: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
            w, h, d = parts.split((BINS, BINS, BINS - 1), -1)
            value, logdet = spline(x, w, h, d, tails="linear", tail_bound=BOUND, **minima())
            return value, logdet.sum(-1)

        parts = raw.movedim(-2, -1).contiguous()
        parts = torch.cat((parts[..., : 2 * BINS], parts[..., 2 * BINS :] + shift()), -1)
        return answer(call, parts)

    def nflows() -> Answer:
        from nflows.transforms.splines import unconstrained_rational_quadratic_spline

        return like_nflows(unconstrained_rational_quadratic_spline)

    def normflows() -> Answer:
        from normflows.utils.splines import unconstrained_rational_quadratic_spline

        return like_nflows(unconstrained_rational_quadratic_spline)

    def zuko() -> Answer:
        from zuko.transforms import MonotonicRQSTransform

        def call(x: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
            transform = MonotonicRQSTransform(
                *parts.split((BINS, BINS, BINS - 1), -1), bound=BOUND, slope=1e-4
            )
            value, logdet = transform.call_and_ladj(x)
            return value, logdet.sum(-1)

        return answer(call, for_zuko(raw, slope=1e-4))

    return [
        Contender("bgfast", ours),
        Contender("torch.compile", lambda: eager(True)),
        Contender("torch eager", lambda: eager(False)),
        Contender("nflows", nflows),
        Contender("normflows", normflows),
        Contender("zuko", zuko),
    ]


def minima() -> dict[str, float]:
    from bgfast_kernels.coupling.spline_parameters import MIN_BIN, MIN_SLOPE

    return {"min_bin_width": MIN_BIN, "min_bin_height": MIN_BIN, "min_derivative": MIN_SLOPE}


def shift() -> float:
    from bgfast_kernels.coupling.spline_parameters import SHIFT

    return SHIFT


def for_zuko(raw: Tensor, slope: float) -> Tensor:
    """Return what zuko's soft clip and softmax turn into the shares and slopes of ``raw``."""
    least = minima()

    def before_clip(value: Tensor, bound: Tensor) -> Tensor:
        return value / (1 - value.abs() / bound)

    w, h, d = raw.double().movedim(-2, -1).split((BINS, BINS, BINS - 1), -1)
    bound = -torch.tensor(slope, dtype=torch.float64).log()
    parts: list[Any] = []
    for part in (w, h):
        shares = least["min_bin_width"] + (1 - least["min_bin_width"] * BINS) * part.softmax(-1)
        log = shares.log()
        centred = log - (log.amax(-1, True) + log.amin(-1, True)) / 2
        parts.append(before_clip(centred, bound / 2))
    slopes = least["min_derivative"] + functional.softplus(d + shift())
    parts.append(before_clip(slopes.log(), bound))
    return torch.cat(parts, -1).to(raw.dtype).contiguous()


QUESTION = Question(
    f"Rational-quadratic spline, {M} coordinates, {BINS} bins, float32",
    "us",
    cases,
    notes=("an item is one row of coordinates", "without a table, this version has no splines"),
    peers=("nflows", "normflows", "zuko"),
)
