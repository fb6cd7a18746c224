"""Timings; each module prints a table with ``python -m benchmarks.NAME``."""
