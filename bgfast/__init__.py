"""bgfast: a fast, trustworthy engine for Boltzmann generators."""

__version__ = "0.1.0"
