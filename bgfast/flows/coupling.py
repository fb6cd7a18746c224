"""NICE and RealNVP: coupling blocks, each of which transforms both halves of the coordinates.

One block is two coupling steps, as one letter of the published architecture strings: half 1 given
half 2, then half 2 given the new half 1. A step is, with s = S(c), t = T(c) and c the other half,

    x -> z:  z = x exp(s) + t        z -> x:  x = (z - t) exp(-s)

as in the code published with Noé et al., arXiv:1812.01729 (deep_boltzmann, invertible.py), after
Dinh et al., arXiv:1410.8516 and arXiv:1605.08803; NICE has s = 0. There S ends in a linear layer,
unbounded, initially zero. Here s = S_MAX tanh(S / S_MAX): the same near zero, but bounded like the
S of the RealNVP paper: a block stretches a coordinate by at most exp(S_MAX), ten blocks by 2e17, so
that tanh networks take finite input to finite output in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bgfast.flows.base import Flow
from bgfast.flows.conditioner import Conditioner
from bgfast.flows.coupling_block import Block, tiled_block
from bgfast.flows.coupling_chain import run
from bgfast.flows.execution import Precision
from bgfast.flows.registry import LayerSettings, register
from bgfast.ops import affine_coupling
from bgfast.ops.backend import kernels_serve
from bgfast.ops.coupling import affine_coupling_

# Initial weights of T's output layer, relative to Glorot's: a new flow is close to the identity.
SHIFT_GAIN = 0.01


def affine_forward(z: Tensor, raw_s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """One affine coupling step from z to x, all arguments ``[n, m]``.

    Returns
    -------
    x[n, m]
        ``(z - t) exp(-s)`` with ``s = S_MAX tanh(raw_s / S_MAX)``.
    logdet[n]
        ``log|det dx/dz| = -sum s``.
    """
    return affine_coupling(z, raw_s, t, inverse=False)


def affine_inverse(x: Tensor, raw_s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """One affine coupling step from x to z: ``x exp(s) + t`` and ``log|det dz/dx| = sum s``."""
    return affine_coupling(x, raw_s, t, inverse=True)


class _CouplingBlock(Flow):
    """Two coupling steps on the halves ``[:, :n_first]`` and ``[:, n_first:]``."""

    def __init__(self, dim: int, n_first: int | None) -> None:
        super().__init__(dim)
        if dim < 2:
            raise ValueError(f"a coupling block needs dim >= 2 to have two halves, got {dim}")
        n_first = (dim + 1) // 2 if n_first is None else n_first
        if not 0 < n_first < dim:
            raise ValueError(f"n_first must be in 1..{dim - 1}, got {n_first!r}")
        self.n_first = n_first

    def _halves(self, value: Tensor) -> tuple[Tensor, Tensor]:
        # Not two slices: the gradient of a split is one concatenation.
        first, second = torch.split(value, [self.n_first, self.dim - self.n_first], -1)
        return first, second


class NICE(_CouplingBlock):
    """Additive coupling block; preserves volume.

    Parameters
    ----------
    dim
        Number of coordinates.
    hidden, activation
        Hidden widths and activation of the two shift networks.
    n_first
        Size of the first half; half of ``dim``, rounded up, if not given.
    precision
        Of the networks; see :class:`bgfast.flows.conditioner.Conditioner`.
    generator
        Source of the initial weights; seed 0 if not given.
    dtype
        Dtype of the parameters.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (100, 100),
        activation: str = "tanh",
        *,
        n_first: int | None = None,
        precision: Precision = "full",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(dim, n_first)
        generator = generator or torch.Generator().manual_seed(0)
        n1, n2 = self.n_first, dim - self.n_first
        shared = {
            "output_gain": SHIFT_GAIN,
            "precision": precision,
            "generator": generator,
            "dtype": dtype,
        }
        self.shift_1 = Conditioner(n2, n1, hidden, activation, **shared)  # type: ignore[arg-type]
        self.shift_2 = Conditioner(n1, n2, hidden, activation, **shared)  # type: ignore[arg-type]

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z1, z2 = self._halves(z)
        x1 = z1 - self.shift_1(z2)
        x2 = z2 - self.shift_2(x1)
        return torch.cat((x1, x2), -1), z.new_zeros(z.shape[0])

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = self._halves(x)
        z2 = x2 + self.shift_2(x1)
        z1 = x1 + self.shift_1(z2)
        return torch.cat((z1, z2), -1), x.new_zeros(x.shape[0])


class RealNVP(_CouplingBlock):
    """Affine coupling block with separate networks for log-scale S and shift T.

    Parameters
    ----------
    dim
        Number of coordinates.
    hidden
        Hidden widths of every network.
    activation
        Activation of the T networks.
    activation_scale
        Activation of the S networks; that of T if not given. (The later version of the published
        code uses relu for T and tanh for S.)
    n_first
        Size of the first half; half of ``dim``, rounded up, if not given.
    precision
        Of the networks; see :class:`bgfast.flows.conditioner.Conditioner`.
    generator
        Source of the initial weights; seed 0 if not given.
    dtype
        Dtype of the parameters.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (200, 200, 200),
        activation: str = "tanh",
        *,
        activation_scale: str | None = None,
        n_first: int | None = None,
        precision: Precision = "full",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(dim, n_first)
        generator = generator or torch.Generator().manual_seed(0)

        def network(n_in: int, n_out: int, activation: str, output_gain: float) -> Conditioner:
            return Conditioner(
                n_in,
                n_out,
                hidden,
                activation,
                output_gain=output_gain,
                precision=precision,
                generator=generator,
                dtype=dtype,
            )

        n1, n2 = self.n_first, dim - self.n_first
        self.scale_1 = network(n2, n1, activation_scale or activation, 0.0)
        self.shift_1 = network(n2, n1, activation, SHIFT_GAIN)
        self.scale_2 = network(n1, n2, activation_scale or activation, 0.0)
        self.shift_2 = network(n1, n2, activation, SHIFT_GAIN)

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if (found := self._fast(z, inverse=False)) is not None:
            return found
        z1, z2 = self._halves(z)
        x1, logdet_1 = affine_forward(z1, self.scale_1(z2), self.shift_1(z2))
        x2, logdet_2 = affine_forward(z2, self.scale_2(x1), self.shift_2(x1))
        return torch.cat((x1, x2), -1), logdet_1 + logdet_2

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if (found := self._fast(x, inverse=True)) is not None:
            return found
        x1, x2 = self._halves(x)
        z2, logdet_2 = affine_inverse(x2, self.scale_2(x1), self.shift_2(x1))
        z1, logdet_1 = affine_inverse(x1, self.scale_1(z2), self.shift_1(z2))
        return torch.cat((z1, z2), -1), logdet_1 + logdet_2

    def _link(self, value: Tensor) -> Block | None:
        return self._block(value) if self._is_just(RealNVP) else None

    def _block(self, value: Tensor) -> Block | None:
        networks = self.scale_1, self.shift_1, self.scale_2, self.shift_2
        return tiled_block(value, self.n_first, networks)

    def _fast(self, value: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor] | None:
        """Both steps at once, if there is a way."""
        if not kernels_serve(value):
            return None
        if (block := self._block(value)) is not None:
            return run(value, [block], inverse=inverse)
        return None if torch.is_grad_enabled() else self._in_place(value, inverse=inverse)

    def _in_place(self, value: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Both steps on one copy of ``value``."""
        value = value.clone(memory_format=torch.contiguous_format)  # rows, whatever it was
        logdet = value.new_zeros(len(value))
        half_1, half_2 = self._halves(value)
        steps = (
            (half_1, half_2, self.scale_1, self.shift_1),
            (half_2, half_1, self.scale_2, self.shift_2),
        )
        for half, other, scale, shift in reversed(steps) if inverse else steps:
            affine_coupling_(half, scale(other), shift(other), logdet, inverse=inverse)
        return value, logdet


@register("N", "NICE", coupling=True)
def _nice(settings: LayerSettings) -> Flow:
    return NICE(
        settings.dim,
        settings.hidden,
        settings.activation,
        n_first=settings.n_first,
        precision=settings.precision,
        generator=settings.generator,
        dtype=settings.dtype,
    )


@register("R", "RealNVP", coupling=True)
def _real_nvp(settings: LayerSettings) -> Flow:
    return RealNVP(
        settings.dim,
        settings.hidden,
        settings.activation,
        activation_scale=settings.activation_scale,
        n_first=settings.n_first,
        precision=settings.precision,
        generator=settings.generator,
        dtype=settings.dtype,
    )
