"""Letters of architecture strings: a new layer is one file and one ``@register``.

The parser, the configuration and the tests iterate over :data:`LAYERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bgfast.flows.base import Flow
from bgfast.flows.execution import Precision


@dataclass(frozen=True)
class LayerSettings:
    """What a layer may need to build itself.

    Parameters
    ----------
    dim
        Number of coordinates.
    hidden
        Hidden widths of conditioner networks.
    activation, activation_scale
        Activations of shift and of log-scale networks; ``None`` for the latter: the same.
    n_first
        Size of the first half, for coupling layers.
    generator
        Source of initial weights.
    dtype
        Dtype of the parameters.
    spline_bins, spline_bound
        Bins and half width of the splines, for spline layers.
    precision
        Of conditioner networks.
    """

    dim: int
    hidden: tuple[int, ...]
    activation: str
    activation_scale: str | None
    n_first: int
    generator: torch.Generator
    dtype: torch.dtype
    spline_bins: int = 8
    spline_bound: float = 5.0
    precision: Precision = "full"


@dataclass(frozen=True)
class Layer:
    """A registered layer.

    Parameters
    ----------
    name
        Name for people.
    build
        Makes the flow.
    coupling
        Whether it acts on two halves: its input then has the coordinates of the first half first.
    """

    name: str
    build: Callable[[LayerSettings], Flow]
    coupling: bool


LAYERS: dict[str, Layer] = {}


def register(
    letter: str, name: str, *, coupling: bool = False
) -> Callable[[Callable[[LayerSettings], Flow]], Callable[[LayerSettings], Flow]]:
    """Register the decorated constructor under ``letter``.

    Raises
    ------
    ValueError
        If ``letter`` is not a single ASCII letter or is taken.
    """
    if len(letter) != 1 or not (letter.isascii() and letter.isalpha()):
        raise ValueError(f"letter must be one ASCII letter, got {letter!r}")
    if letter in LAYERS:
        raise ValueError(f"letter {letter!r} is taken by {LAYERS[letter].name}")

    def add(build: Callable[[LayerSettings], Flow]) -> Callable[[LayerSettings], Flow]:
        LAYERS[letter] = Layer(name, build, coupling)
        return build

    return add
