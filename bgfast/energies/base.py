"""The base class of every energy and the rule that keeps energies finite."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

X_FAR = 1000.0
"""Beyond this magnitude a coordinate enters the energy logarithmically; see :func:`far_map`."""


def far_map(x: Tensor) -> Tensor:
    """Return x where |x| <= X_FAR and sign(x) X_FAR (1 + log(|x| / X_FAR)) beyond.

    The map is C1 and the identity in any physical region. Evaluated through it, polynomial energies
    and their gradients are finite for every finite x, in float32 too.
    """
    magnitude = x.abs()
    far = X_FAR * (1 + (magnitude.clamp(min=X_FAR) / X_FAR).log())
    return torch.where(magnitude <= X_FAR, x, torch.copysign(far, x))


class Energy(nn.Module, ABC):
    """A reduced energy u(x) = U(x) / k_B T0 over R^dim.

    Subclasses set :attr:`dim` and implement :meth:`_energy`; those with a fused kernel for energy
    and force also override :meth:`_energy_and_force`.
    """

    dim: int

    @abstractmethod
    def _energy(self, x: Tensor) -> Tensor:
        """Energy of checked coordinates, ``[..., dim] -> [...]``."""

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        differentiable = x.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            at = x if differentiable else x.detach().requires_grad_()
            energy = self._energy(at)
            (gradient,) = torch.autograd.grad(energy.sum(), at, create_graph=differentiable)
        return (energy if differentiable else energy.detach()), -gradient

    def energy(self, x: Tensor) -> Tensor:
        """Return the reduced energy.

        Parameters
        ----------
        x
            Coordinates, shape ``[..., dim]``, float32 or float64.

        Returns
        -------
        Tensor
            u(x), shape ``[...]``, in the dtype of ``x``. Finite for every finite x; NaN for a row
            that holds a NaN.

        Raises
        ------
        TypeError
            If ``x`` is not a float32 or float64 tensor.
        ValueError
            If the last dimension of ``x`` is not :attr:`dim`.
        """
        return self._energy(self._checked(x))

    def force(self, x: Tensor) -> Tensor:
        """Return -du/dx, shape ``[..., dim]``; see :meth:`energy` for arguments and errors."""
        return self._energy_and_force(self._checked(x))[1]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(energy(x), force(x))`` from one evaluation."""
        return self._energy_and_force(self._checked(x))

    def log_prob(self, x: Tensor, tau: float | Tensor = 1.0) -> Tensor:
        """Return the unnormalised log density -u(x) / tau.

        Parameters
        ----------
        x
            Coordinates, shape ``[..., dim]``.
        tau
            Relative temperature T / T0 > 0: a number, or a tensor that broadcasts over the rows.

        Raises
        ------
        ValueError
            If any tau is not a positive number.
        """
        smallest = float(torch.as_tensor(tau).min()) if torch.as_tensor(tau).numel() else 1.0
        if not 0 < smallest < float("inf"):
            raise ValueError(f"tau must be positive and finite, got {smallest:g}")
        return -self.energy(x) / tau

    def forward(self, x: Tensor) -> Tensor:
        """Return :meth:`energy` of x."""
        return self.energy(x)

    def _checked(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
            got = f"{x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a float32 or float64 tensor, got {got}")
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(f"x must have shape [..., {self.dim}], got {list(x.shape)}")
        return x
