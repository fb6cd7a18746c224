"""Figures of a run. Each function returns a matplotlib Figure; :func:`save` writes it as PNG."""

from bgfast.analysis.figures.annealing import annealing_schedule
from bgfast.analysis.figures.configurations import dimer_configurations
from bgfast.analysis.figures.densities import densities
from bgfast.analysis.figures.double_well import Generated, comparison, energy_surface
from bgfast.analysis.figures.energies import energy_histograms
from bgfast.analysis.figures.film_strip import FilmFrame, Surface, evenly_chosen, film_strip
from bgfast.analysis.figures.free_energy import free_energy
from bgfast.analysis.figures.latent import latent_picture
from bgfast.analysis.figures.style import save
from bgfast.analysis.figures.temperatures import temperature_profiles
from bgfast.analysis.figures.training import loss_curves, read_metrics
from bgfast.analysis.figures.weights import weight_diagnostics
from bgfast.analysis.figures.work import work_distributions

__all__ = [
    "FilmFrame",
    "Generated",
    "Surface",
    "annealing_schedule",
    "comparison",
    "densities",
    "dimer_configurations",
    "energy_histograms",
    "energy_surface",
    "evenly_chosen",
    "film_strip",
    "free_energy",
    "latent_picture",
    "loss_curves",
    "read_metrics",
    "save",
    "temperature_profiles",
    "weight_diagnostics",
    "work_distributions",
]
