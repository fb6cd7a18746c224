"""Each coordinate by itself through an increasing function: the flow of a one-dimensional system.

In one dimension there is exactly one increasing map that takes a density q to the Gaussian prior,

    z(x) = Phi^-1(integral of q up to x),    q(x) = N(z(x); 0, 1) dz/dx,

so all that a flow has to be is a flexible increasing function. Here it is a line and K smooth
steps, in other words a network of one hidden layer whose weights are positive:

    z(x) = a x + b + sum_k w_k tanh((x - c_k) / s_k),    a, w_k, s_k > 0.

A density with several peaks is a z that rises in each peak and is flat (slope a) in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bgfast.flows.base import Flow
from bgfast.flows.registry import LayerSettings, register

REACH = 3.0
"""The steps of a new layer are spread evenly from -REACH to REACH."""
_HALVINGS = {torch.float32: 44, torch.float64: 76}
"""Of the bracket, from its width at a slope of 1e-6 down to rounding."""


class Monotone(Flow):
    """Take every coordinate through its own increasing function; coordinates do not mix.

    x to z is the closed form above. z to x solves it: bisection within the bracket that the bounded
    steps leave, then two Newton steps. These are part of the graph: as each one doubles the order
    up to which the solution's derivatives are right, value and first two derivatives are exact.

    Parameters
    ----------
    dim
        Number of coordinates.
    hidden
        The number of steps K is the sum of these.
    dtype
        Dtype of the parameters.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int] = (32,), *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(dim)
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden must be positive, got {list(hidden)}")
        n_steps = sum(hidden)
        spacing = 2 * REACH / max(n_steps - 1, 1)
        centre = torch.linspace(-REACH, REACH, n_steps, dtype=dtype).expand(dim, -1)
        # A new layer is nearly the identity: half of the slope is the line's, half the steps'.
        self.log_slope = nn.Parameter(torch.full((dim,), 0.5, dtype=dtype).log())
        self.shift = nn.Parameter(torch.zeros(dim, dtype=dtype))
        self.log_height = nn.Parameter(torch.full_like(centre, 0.25 * spacing).log())
        self.centre = nn.Parameter(centre.clone())
        self.log_width = nn.Parameter(torch.full_like(centre, spacing).log())

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, slope = self._curve(x)
        return z, slope.log().sum(-1)

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = self._bisected(z.detach())
        for _ in range(2):
            value, slope = self._curve(x)
            x = x - (value - z) / slope
        return x, -self._curve(x)[1].log().sum(-1)

    def _curve(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z(x) and dz/dx, both ``[n, dim]``."""
        slope, height = self.log_slope.exp(), self.log_height.exp()
        inverse_width = torch.exp(-self.log_width)
        step = torch.tanh((x[:, :, None] - self.centre) * inverse_width)
        z = slope * x + self.shift + (height * step).sum(-1)
        return z, slope + (height * inverse_width * (1 - step * step)).sum(-1)

    @torch.no_grad()
    def _bisected(self, z: Tensor) -> Tensor:
        """Return x up to rounding; the steps together lie between -sum w_k and sum w_k."""
        slope, most = self.log_slope.exp(), self.log_height.exp().sum(-1)
        middle, half = (z - self.shift) / slope, most / slope
        for _ in range(_HALVINGS[z.dtype]):
            below = self._curve(middle)[0] < z
            half = 0.5 * half
            middle = torch.where(below, middle + half, middle - half)
        return middle


@register("M", "Monotone")
def _monotone(settings: LayerSettings) -> Flow:
    return Monotone(settings.dim, settings.hidden, dtype=settings.dtype)
