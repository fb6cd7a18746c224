"""The film strip of an exploration, from its frames."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from bgfast.analysis.figures import FilmFrame, Surface, evenly_chosen, film_strip
from bgfast.analysis.profiles import Profile
from bgfast.experiments.explore_config import ExploreConfig
from bgfast.experiments.explore_landscape import Landscape
from bgfast.experiments.explore_loop import Exploration, Frame

_PICTURES = 6


def draw_film(
    config: ExploreConfig,
    landscape: Landscape,
    exploration: Exploration,
    reference: Profile | None,
) -> Figure:
    """Draw some of the iterations, the first and the last among them."""
    frames = exploration.frames
    chosen = [
        _film_frame(landscape, frames[i], _title(i)) for i in evenly_chosen(len(frames), _PICTURES)
    ]
    return film_strip(
        chosen,
        config.analysis.bounds,
        reference=reference,
        surface=_surface(landscape),
        coordinate=landscape.label,
        n_bins=config.analysis.n_bins,
    )


def _title(number: int) -> str:
    return f"iteration {number}" if number else "jittered copies"


def _film_frame(landscape: Landscape, frame: Frame, title: str) -> FilmFrame:
    plane = landscape.window is not None
    return FilmFrame(
        title=title,
        visited=landscape.coordinate(frame.x).double().numpy(),
        generated=frame.generated.numpy(),
        log_w=frame.log_w.numpy() if plane else None,  # else a handful of weights decides
        points=frame.x[:, :2].double().numpy() if plane else None,
    )


def _surface(landscape: Landscape) -> Surface | None:
    if landscape.window is None:
        return None
    dim = landscape.energy.dim

    def energy(x: np.ndarray) -> np.ndarray:
        rows = torch.zeros(len(x), dim, dtype=torch.float64)
        rows[:, :2] = torch.from_numpy(np.ascontiguousarray(x))
        u: np.ndarray = landscape.energy.energy(rows).numpy()
        return u

    return Surface(energy, landscape.window, labels=landscape.plane)
