"""Metropolis Monte Carlo: many independent walkers in parallel, each at its own temperature."""

from bgfast_kernels.montecarlo.systems import (
    System,
    Walkers,
    advance,
    dimer,
    double_well,
    evaluate,
    mueller_brown,
)

__all__ = ["System", "Walkers", "advance", "dimer", "double_well", "evaluate", "mueller_brown"]
