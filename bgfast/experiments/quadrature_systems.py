"""Systems whose partition function and free energy are known by quadrature."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from bgfast.energies import DoubleWell, Energy, MuellerBrown
from bgfast.experiments.config import Section
from bgfast.experiments.exact import Exact, double_well_exact, mueller_brown_exact

Window = tuple[tuple[float, float], tuple[float, float]]


class KnownSystem(Section):
    """What the experiment needs to know of a system; parameters are fields of the subclass.

    Attributes
    ----------
    title
        Heading of the report.
    axes
        Names of the first coordinates, for figures.
    along
        Number of the coordinate that the free energy is shown along.
    coordinate
        What it is called in sentences.
    window
        Part of the plane shown in pictures of the surface.
    barrier
        Half width of the range around the split that is looked at as the barrier.
    f_max
        Profiles are judged where the exact one is below this, in k_B T.
    """

    title: ClassVar[str]
    axes: ClassVar[tuple[str, str]] = ("$x_1$", "$x_2$")
    along: ClassVar[int] = 0
    coordinate: ClassVar[str] = "x"
    window: ClassVar[Window] = ((-3.0, 3.0), (-4.0, 4.0))
    barrier: ClassVar[float] = 0.5
    f_max: ClassVar[float] = 12.0

    @abstractmethod
    def energy(self) -> Energy:
        """Return the system as an energy."""

    @abstractmethod
    def exact(self, tau: float, bounds: tuple[float, float], n_bins: int, split: float) -> Exact:
        """Return what quadrature says; see :mod:`bgfast.experiments.exact`."""

    def reaction_coordinate(self, x: Tensor) -> Tensor:
        """Return the coordinate of ``x[..., dim]``, shape ``[...]``."""
        return x[..., self.along]


class _DoubleWell(KnownSystem):
    a4: float = Field(1.0, gt=0)
    a2: float = 6.0
    a1: float = 1.0

    @abstractmethod
    def energy(self) -> DoubleWell:
        """Return the system as an energy."""

    def exact(self, tau: float, bounds: tuple[float, float], n_bins: int, split: float) -> Exact:
        """Integrate along x1."""
        return double_well_exact(self.energy(), tau, bounds, n_bins, split)


class DoubleWellSystem(_DoubleWell):
    """Coefficients of the double well, see :class:`bgfast.energies.DoubleWell`."""

    title: ClassVar[str] = "Double well"

    dim: int = Field(2, ge=2)
    k: float = Field(1.0, gt=0)

    def energy(self) -> DoubleWell:
        """Return the system as an energy."""
        return DoubleWell(self.dim, self.a4, self.a2, self.a1, self.k)


class DoubleWell1DSystem(_DoubleWell):
    """Coefficients of the one-dimensional double well a4 x^4 - a2 x^2 + a1 x."""

    title: ClassVar[str] = "Double well in one dimension"
    axes: ClassVar[tuple[str, str]] = ("$x$", "")

    def energy(self) -> DoubleWell:
        """Return the system as an energy."""
        return DoubleWell(1, self.a4, self.a2, self.a1)


class MuellerBrownSystem(KnownSystem):
    """Scale of the Mueller-Brown surface, see :class:`bgfast.energies.MuellerBrown`."""

    title: ClassVar[str] = "Mueller-Brown surface"
    axes: ClassVar[tuple[str, str]] = ("$x$", "$y$")
    along: ClassVar[int] = 1
    coordinate: ClassVar[str] = "y"
    window: ClassVar[Window] = ((-1.6, 1.3), (-0.5, 2.1))
    barrier: ClassVar[float] = 0.15

    scale: float = Field(0.1, gt=0, le=1)

    def energy(self) -> MuellerBrown:
        """Return the system as an energy."""
        return MuellerBrown(self.scale)

    def exact(self, tau: float, bounds: tuple[float, float], n_bins: int, split: float) -> Exact:
        """Integrate over the plane."""
        return mueller_brown_exact(self.energy(), tau, bounds, n_bins, split)
