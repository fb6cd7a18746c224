"""Samples of a generator and of simulations, as the bidirectional estimator takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bgfast.analysis.side import Side

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Samples from one source; every array has shape ``[n]``.

    Attributes
    ----------
    u
        Reduced energy, divided by tau.
    log_q
        Log density of the generator, normalised over all x.
    state
        Index of the state that the row lies in; -1 outside of all states or of C.
    r
        Reaction coordinate.
    block
        Batch (generated) or walker (simulated). Rows of different blocks are independent, frames of
        one walker are in order of time, and a walker stays in its state; the same number in two
        states means two walkers. ``None``: every row is independent.
    """

    u: Array
    log_q: Array
    state: NDArray[np.integer]
    r: Array
    block: NDArray[np.integer] | None = None
    log_target: Array | None = None

    def __post_init__(self) -> None:
        for name in ("u", "log_q", "r"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.log_target is not None:
            object.__setattr__(self, "log_target", np.asarray(self.log_target, dtype=np.float64))
        for name in ("state", "block"):
            value = getattr(self, name)
            if value is None:
                continue
            object.__setattr__(self, name, np.asarray(value))
            if getattr(self, name).dtype.kind not in "iu":
                raise TypeError(f"{name} must hold integers, got {getattr(self, name).dtype}")
        if self.u.ndim != 1:
            raise ValueError(f"u must have shape [n], got {list(self.u.shape)}")
        for name in ("log_q", "state", "r", "block", "log_target"):
            value = getattr(self, name)
            if value is not None and value.shape != self.u.shape:
                raise ValueError(
                    f"{name} must have the shape of u, {list(self.u.shape)}, "
                    f"got {list(value.shape)}"
                )

    @property
    def work(self) -> Array:
        """U + log q, shape ``[n]``."""
        with np.errstate(invalid="ignore", over="ignore"):
            work: Array = self.u + self.log_q
        return work

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Rows in which u, log q, their sum, r and log_target are finite, shape ``[n]``."""
        finite: NDArray[np.bool_] = np.isfinite(self.work) & np.isfinite(self.r)
        return finite if self.log_target is None else finite & np.isfinite(self.log_target)

    def side(self, chosen: NDArray[np.intp], block: NDArray[np.int64], n_blocks: int) -> Side:
        """Return the rows ``chosen[n]``, whose blocks are ``block[n]``, 0 ... n_blocks - 1."""
        log_target = np.zeros(chosen.size) if self.log_target is None else self.log_target[chosen]
        return Side(self.work[chosen], self.r[chosen], block, n_blocks, log_target)


@dataclass(frozen=True)
class Pool:
    """Generated and simulated rows of one system at one temperature."""

    generated: Rows
    simulated: Rows
