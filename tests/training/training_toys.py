"""A flow and energies small enough for closed forms."""

import torch
from torch import Tensor, nn

from bgfast.flows import Flow


class AffineFlow(Flow):
    """x = z exp(log_scale) + shift; counts the calls of its forward direction."""

    def __init__(self, dim=2, dtype=torch.float64):
        super().__init__(dim)
        self.log_scale = nn.Parameter(torch.linspace(-0.3, 0.4, dim, dtype=dtype))
        self.shift = nn.Parameter(torch.linspace(0.5, -0.2, dim, dtype=dtype))
        self.forward_calls = 0

    def _forward(self, z):
        self.forward_calls += 1
        logdet = self.log_scale.sum().expand(len(z))
        return z * self.log_scale.exp() + self.shift, logdet

    def _inverse(self, x):
        logdet = -self.log_scale.sum().expand(len(x))
        return (x - self.shift) * torch.exp(-self.log_scale), logdet


class SquareRootFlow(AffineFlow):
    """Not finite, with a NaN gradient, where z_0 < -1.5."""

    def _forward(self, z):
        x, logdet = super()._forward(z)
        return x + 0.01 * (1.5 + z[:, :1] * self.log_scale.exp()[:1]).sqrt(), logdet


class Harmonic(nn.Module):
    """u = k |x|^2 / 2; ``bad`` rows (x_0 > edge) get a NaN energy with a NaN gradient."""

    def __init__(self, dim=2, k=2.0, edge=float("inf"), bad=float("nan")):
        super().__init__()
        self.dim, self.k, self.edge, self.bad = dim, k, edge, bad

    def energy(self, x: Tensor) -> Tensor:
        u = 0.5 * self.k * x.square().sum(-1)
        return u * torch.where(x[:, 0] > self.edge, self.bad, 1.0)


def gradients(flow, loss):
    """Gradient of ``loss`` in every parameter, as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(flow.parameters()))])
