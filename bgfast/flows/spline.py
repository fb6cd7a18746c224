"""Rational-quadratic spline coupling: every coordinate by its own monotonic spline.

A block is two coupling steps, like those of :mod:`bgfast.flows.coupling`: half 1 given half 2, then
half 2 given the new half 1. A step maps z to x by the spline whose knots a network computes from
the other half (Durkan et al., Neural Spline Flows, arXiv:1906.04032). A spline bends where an
affine map can only stretch, so a block does more; most of its time is the network's output layer,
3 K - 1 numbers per coordinate.

Splines act on [-bound, bound] and are the identity outside, so coordinates should be of order one:
use a whitening. The default bound of 5 leaves out one in two million numbers of a standard normal
latent space, and gives the other side room: a coordinate of a whitened data set rarely is that far.
Rows farther out are mapped and weighted exactly too, they only are not bent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from bgfast_kernels.coupling.spline_parameters import check
from torch import Tensor

from bgfast.flows.base import Flow
from bgfast.flows.conditioner import Conditioner
from bgfast.flows.coupling import _CouplingBlock
from bgfast.flows.execution import Precision
from bgfast.flows.registry import LayerSettings, register
from bgfast.ops.spline import rational_quadratic_spline


class SplineCoupling(_CouplingBlock):
    """Spline coupling block; the identity at first.

    Parameters
    ----------
    dim
        Number of coordinates.
    hidden, activation
        Hidden widths and activation of the two networks.
    n_bins
        Bins of each spline.
    bound
        Splines act on [-bound, bound].
    n_first
        Size of the first half; half of ``dim``, rounded up, if not given.
    precision
        Of the networks; see :class:`bgfast.flows.conditioner.Conditioner`.
    generator
        Source of the initial weights; seed 0 if not given.
    dtype
        Dtype of the parameters.

    Raises
    ------
    ValueError
        If there are not 2 to 256 bins, ``bound`` is not positive, or an argument is wrong for any
        coupling block.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (200, 200, 200),
        activation: str = "tanh",
        *,
        n_bins: int = 8,
        bound: float = 5.0,
        n_first: int | None = None,
        precision: Precision = "full",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(dim, n_first)
        check(3 * n_bins - 1, bound)
        self.n_bins, self.bound = n_bins, float(bound)
        generator = generator or torch.Generator().manual_seed(0)
        n1, n2 = self.n_first, dim - self.n_first
        self.knots_1, self.knots_2 = (
            Conditioner(
                n_in,
                n_out * (3 * n_bins - 1),
                hidden,
                activation,
                output_gain=0.0,
                precision=precision,
                generator=generator,
                dtype=dtype,
            )
            for n_in, n_out in ((n2, n1), (n1, n2))
        )

    def extra_repr(self) -> str:
        """Show dimension, bins and bound in ``repr``."""
        return f"dim={self.dim}, n_bins={self.n_bins}, bound={self.bound:g}"

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z1, z2 = self._halves(z)
        x1, logdet_1 = self._step(z1, self.knots_1(z2), inverse=False)
        x2, logdet_2 = self._step(z2, self.knots_2(x1), inverse=False)
        return torch.cat((x1, x2), -1), logdet_1 + logdet_2

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x1, x2 = self._halves(x)
        z2, logdet_2 = self._step(x2, self.knots_2(x1), inverse=True)
        z1, logdet_1 = self._step(x1, self.knots_1(z2), inverse=True)
        return torch.cat((z1, z2), -1), logdet_1 + logdet_2

    def _step(self, half: Tensor, raw: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        raw = raw.reshape(half.shape[0], 3 * self.n_bins - 1, half.shape[1])
        return rational_quadratic_spline(half, raw, self.bound, inverse)


@register("Q", "rational-quadratic spline coupling", coupling=True)
def _spline_coupling(settings: LayerSettings) -> Flow:
    return SplineCoupling(
        settings.dim,
        settings.hidden,
        settings.activation,
        n_bins=settings.spline_bins,
        bound=settings.spline_bound,
        n_first=settings.n_first,
        precision=settings.precision,
        generator=settings.generator,
        dtype=settings.dtype,
    )
