"""Annealed sequential Monte Carlo in the latent space of a flow, and AIS.

:mod:`~.run` puts it together; :mod:`~.population` holds the densities, :mod:`~.weights` the
schedule and resampling, :mod:`~.hmc` and :mod:`~.local` the moves, :mod:`~.result` the verdict.
``device_*`` do the same where the flow is on a device: the pilot waits once a stage (how many
stages there are depends on the numbers), the islands not before their results are fetched.
"""

from bgfast.sampling.anneal.population import Labelling
from bgfast.sampling.anneal.result import Annealed, jackknife
from bgfast.sampling.anneal.run import anneal
from bgfast.sampling.anneal.settings import AnnealSettings

__all__ = ["AnnealSettings", "Annealed", "Labelling", "anneal", "jackknife"]
