"""Where configurations come from: Monte Carlo and generation from a flow."""

from bgfast.sampling.metropolis import MetropolisSampler, Trajectory

__all__ = ["MetropolisSampler", "Trajectory"]
