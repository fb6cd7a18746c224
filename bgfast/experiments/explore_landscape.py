"""What exploration needs to know of a system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from bgfast.energies import Energy
from bgfast.experiments.quadrature_systems import Window
from bgfast.sampling.exploration import Allowed


class Labelling(Protocol):
    """Puts identical particles in order.

    Energies do not depend on labels, so a population that is relabelled as a whole and confined to
    its new labelling is in the Boltzmann distribution if it was before.
    """

    def relabelled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the population ``x[n, dim]`` relabelled, and the reference ``[dim]`` it follows.

        The reference comes from the population itself.
        """

    def region(self, reference: Tensor) -> Allowed:
        """Return the configurations that are labelled like ``reference[dim]``."""


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
        Of identical particles; ``None`` if there are none.
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
