"""A number with its statistical error."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error, in the same unit.

    ``stderr`` is NaN where the data cannot tell it (a single sample, an empty state).
    """

    value: float
    stderr: float

    def __str__(self) -> str:
        """Print the error with two significant digits and the value to the same decimal."""
        if not math.isfinite(self.value):
            return "not determined"
        if not math.isfinite(self.stderr):
            return f"{self.value:.2f} ± unknown"
        decimals = 3 if self.stderr <= 0 else 1 - math.floor(math.log10(self.stderr))
        decimals = min(max(decimals, 0), 6)
        return f"{self.value:.{decimals}f} ± {self.stderr:.{decimals}f}"
