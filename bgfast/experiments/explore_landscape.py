"""What exploration needs to know of a system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bgfast.energies import Energy
from bgfast.experiments.quadrature_systems import Window
from bgfast.sampling.exploration import Allowed

Labelling = Callable[[Tensor], tuple[Tensor, Allowed]]
"""Population ``x[n, dim]`` -> the same relabelled, and the labelling that it now has as a region.

Energies do not depend on labels, so relabelling the whole population and confining it to the new
labelling leaves it in the Boltzmann distribution.
"""


@dataclass(frozen=True)
class Landscape:
    """A system and the one configuration that is known of it.

    Parameters
    ----------
    energy
        The system.
    start
        The configuration, ``[dim]``.
    coordinate
        Reaction coordinate, ``x[n, dim] -> R[n]``, differentiable.
    name, label
        Its name in text, and on an axis.
    where
        Where the configuration lies, in words.
    labelling
        Puts identical particles in order; ``None`` if there are none.
    window, plane
        Range and names of the first two coordinates in pictures of the energy surface; without a
        range there is no such picture.
    """

    energy: Energy
    start: Tensor
    coordinate: Callable[[Tensor], Tensor]
    name: str
    label: str
    where: str
    labelling: Labelling | None = None
    window: Window | None = None
    plane: tuple[str, str] = ("$x_1$", "$x_2$")
