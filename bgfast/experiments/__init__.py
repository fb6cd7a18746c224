"""Presets and the runner that chains simulation, training, sampling and analysis."""
