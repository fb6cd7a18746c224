"""Draw configurations from a flow together with their importance weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bgfast.energies import Energy
from bgfast.flows import Flow, bfloat16_conditioners
from bgfast.flows.density import log_weight

BLOCK = 1024
"""Rows of one random stream; part of what a seed means."""

_CHUNK = {"cpu": 8192, "cuda": 65536}
"""Rows evaluated at once unless told otherwise, by type of device: a flow has hundreds of launches,
and a GPU wants many rows for each."""

_LEAST_ROWS = 256
"""Matrix products of very few rows round differently: fewer are never evaluated."""

Latent = Literal["normal", "sobol"]
"""How latent vectors are drawn; see :func:`latent_rows`."""


@dataclass(frozen=True)
class Batch:
    """Generated configurations and what their weights need.

    Parameters
    ----------
    start
        Index of the first row in the whole sequence.
    x
        Configurations, ``[n, dim]``, in the dtype of the flow.
    z
        Latent vectors they came from, ``[n, dim]``.
    energy
        Reduced energies u(x), ``[n]``, float64.
    log_w
        log importance weights, ``[n]``, float64: log of exp(-u / tau) / q(x), so that the mean of
        exp(log_w) estimates the partition function at tau.
    """

    start: int
    x: Tensor
    z: Tensor
    energy: Tensor
    log_w: Tensor


def latent_rows(
    start: int,
    stop: int,
    dim: int,
    seed: int,
    tau: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    latent: Latent = "normal",
) -> Tensor:
    """Return rows ``start <= i < stop`` of the latent sequence that belongs to ``seed``.

    Row i is the same whatever range it is asked for in.

    Parameters
    ----------
    start, stop
        Range of rows.
    dim
        Number of coordinates.
    seed
        Seed of the sequence.
    tau
        Variance of every coordinate.
    dtype, device
        Of the result.
    latent
        ``"normal"``: independent rows; the sequence is cut into blocks of :data:`BLOCK` rows and
        block b has a generator of its own, seeded by (seed, b). ``"sobol"``: a scrambled Sobol
        sequence through the inverse normal distribution function; it covers a few dimensions more
        evenly than independent rows, so that averages have smaller errors. Rows are not
        independent then, and errors estimated as if they were are upper bounds.

    Returns
    -------
    Tensor
        Normal variates with variance ``tau``, shape ``[stop - start, dim]``.
    """
    if latent == "sobol":
        return _sobol(start, stop, dim, seed).to(device, dtype) * math.sqrt(tau)
    blocks = range(start // BLOCK, -(-stop // BLOCK))
    if not blocks:
        return torch.empty(0, dim, dtype=dtype, device=device)
    rows = torch.cat([_block(b, dim, seed, dtype, str(device)) for b in blocks])
    first = blocks.start * BLOCK
    return rows[start - first : stop - first] * math.sqrt(tau)


@lru_cache(maxsize=2)
def _block(index: int, dim: int, seed: int, dtype: torch.dtype, device: str) -> Tensor:
    state = int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
    generator = torch.Generator(device=device).manual_seed(state >> 1)
    return torch.randn(BLOCK, dim, generator=generator, dtype=dtype, device=device)


def _sobol(start: int, stop: int, dim: int, seed: int) -> Tensor:
    engine: Any = torch.quasirandom.SobolEngine  # its methods have no types
    sequence = engine(dim, scramble=True, seed=seed)
    sequence.fast_forward(start)
    uniform = sequence.draw(stop - start, dtype=torch.float64)
    smallest = 2.0**-31  # a coordinate may be 0, which has no normal quantile
    rows: Tensor = torch.special.ndtri(uniform.clamp(smallest, 1 - smallest))
    return rows


@torch.no_grad()
def generate(
    flow: Flow,
    energy: Energy,
    n_samples: int,
    *,
    tau: float = 1.0,
    seed: int = 0,
    chunk: int | None = None,
    start: int = 0,
    latent: Latent = "normal",
    bfloat16: bool = False,
) -> Iterator[Batch]:
    """Draw ``n_samples`` configurations in chunks, in memory that does not grow with them.

    Parameters
    ----------
    flow
        Map from latent to configuration space; its parameters fix dtype and device.
    energy
        Target energy, evaluated in float64.
    n_samples
        Number of rows of the sequence; rows ``start <= i < n_samples`` are drawn.
    tau
        Relative temperature of the target; the latent variance is tau too.
    seed
        Latent vectors depend on the seed and the row alone, not on ``chunk`` or ``start``.
    chunk
        Rows evaluated at once; by default 8192, and 65536 on a CUDA device.
    start
        First row, for continuing an earlier run.
    latent
        ``"normal"`` or ``"sobol"``; see :func:`latent_rows`.
    bfloat16
        Draw from the flow with its conditioners in bfloat16: a nearby flow, whose weights are as
        exact; see :func:`bgfast.flows.bfloat16_conditioners`. Faster where the processor has
        bfloat16 products (AMX, AVX-512), and on a CUDA device.

    Yields
    ------
    Batch
        Rows in order.

    Raises
    ------
    ValueError
        If tau or chunk is not positive, or n_samples or seed is negative.
    """
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be positive and finite, got {tau}")
    parameter = next((p for p in flow.parameters()), torch.empty(0))
    if chunk is None:
        chunk = _CHUNK.get(parameter.device.type, _CHUNK["cpu"])
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if n_samples < 0 or seed < 0:
        raise ValueError(f"n_samples and seed must not be negative, got {n_samples} and {seed}")
    for first in range(start, n_samples, chunk):
        last = min(first + chunk, n_samples)
        like = (parameter.dtype, parameter.device)
        padded = max(last, first + _LEAST_ROWS)
        z = latent_rows(first, padded, flow.dim, seed, tau, *like, latent)
        with bfloat16_conditioners() if bfloat16 else nullcontext():
            x, logdet = (part[: last - first] for part in flow(z))
        z = z[: last - first]
        u = energy.energy(x.double())
        yield Batch(first, x, z, u, log_weight(u, z, logdet, tau))
