"""How step sizes of local moves go to a wanted acceptance, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDS = 25
_GAIN = 3.0
_SETTLED_AFTER = 5.0


def rounds(n_steps: int) -> list[int]:
    """Return the lengths of the rounds after which the step sizes change."""
    return [int(n) for n in np.diff(np.linspace(0, n_steps, ROUNDS + 1).astype(int))]


def log_change(excess: Any, i: int) -> Any:
    """Return what the logarithm of a step size grows by after round ``i``.

    ``excess``, an array or a tensor, is by how much the acceptance is above the wanted one; later
    rounds change less.
    """
    return _GAIN * excess / (1.0 + i / _SETTLED_AFTER)
