"""Energies a user names; each a torch module with energy, force and log_prob."""

from bgfast.energies.base import Energy
from bgfast.energies.biased import Bias, Biased
from bgfast.energies.double_well import DoubleWell
from bgfast.energies.lennard_jones import LennardJones
from bgfast.energies.mueller_brown import MuellerBrown
from bgfast.energies.particle_dimer import ParticleDimer

ENERGIES: dict[str, type[Energy]] = {
    "double-well": DoubleWell,
    "lennard-jones": LennardJones,
    "mueller-brown": MuellerBrown,
    "particle-dimer": ParticleDimer,
}
"""Systems by the name used in configuration files."""

__all__ = [
    "ENERGIES",
    "Bias",
    "Biased",
    "DoubleWell",
    "Energy",
    "LennardJones",
    "MuellerBrown",
    "ParticleDimer",
]
