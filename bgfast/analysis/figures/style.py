"""One look for all figures: sizes, colours, saving. Matplotlib's global settings stay as they are.

Colours are those of Okabe and Ito, told apart with any colour vision; a colour means the same thing
in every figure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bgfast._files import atomic_write

DPI = 150
WIDTH = 6.4  # inches, a figure over the full width of the text

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#1f2933", "#7b8794", "#e4e7eb"

ESTIMATE = BLUE  # reweighted
GENERATED = ORANGE  # as generated, before reweighting
DATA = GREY  # simulated data
REFERENCES = (INK, VERMILION, GREEN, PURPLE, SKY)
TERMS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
}


@contextmanager
def style() -> Iterator[None]:
    """Use the house style inside the block; settings are restored afterwards."""
    with mpl.rc_context(_RC):
        yield


def new_figure(
    n_rows: int = 1, n_columns: int = 1, *, width: float = WIDTH, height: float = 3.4, **grid: Any
) -> tuple[Figure, Any]:
    """Return a figure of its own, without pyplot's state, and its grid of axes.

    Parameters
    ----------
    n_rows, n_columns
        Shape of the returned array of axes, always two-dimensional.
    width, height
        Size in inches.
    **grid
        Passed to ``Figure.subplots``.
    """
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, **grid)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write ``figure`` as PNG, under a temporary name that is then renamed."""
    with style(), atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def say_nothing_to_show(axes: Axes, reason: str) -> None:
    """Write ``reason`` in the middle of otherwise empty axes."""
    axes.text(
        0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color=GREY, wrap=True
    )
    axes.set_xticks([])
    axes.set_yticks([])


def finite(values: Any) -> Any:
    """Return the finite values as float64, shape ``[n]``."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]
