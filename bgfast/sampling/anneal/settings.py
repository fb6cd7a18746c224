"""How an annealing run is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["smc", "ais"]


@dataclass(frozen=True)
class AnnealSettings:
    """Settings of :func:`bgfast.sampling.anneal.anneal`.

    Parameters
    ----------
    n_samples
        Particles of all islands together, rounded up to a multiple of ``islands``.
    islands
        Independent populations; the errors come from their scatter.
    draws
        Independent draws from the flow per particle. The first stage goes as far as so many draws
        carry and keeps one of every ``draws`` by resampling: draws cost a fraction of a move, and
        every one is an independent ancestor.
    steps
        Rounds of moves in each stage; a round is an HMC move, and local moves if there are any.
    leapfrog
        Leapfrog steps of an HMC move.
    target_acceptance
        Wanted acceptance of HMC, which the pilot's step size goes to.
    cess
        Conditional effective sample size, as a share of the population, that a stage keeps.
    resample_below
        ESS, as a share of the population, below which it is resampled (systematically).
    kind
        ``"smc"``, or ``"ais"``: no resampling at all.
    pilot
        Particles of the population that the schedule and the step sizes are found with.
    sweeps
        Sweeps of local Metropolis moves in configuration space in a round, an even number; 0: none.
        See :mod:`bgfast.sampling.anneal.local`.
    sweeps_from
        Least beta at which they are made.
    hmc_until
        Largest beta at which HMC moves are made where local moves are.
    final_sweeps, final_frames
        So many frames of so many sweeps (an even number) follow at beta = 1; the samples are those
        of the later half of the frames. Where they are long enough for the particles to forget
        where they came from, averages no longer rest on the annealing; log Z always does.
    chunk
        Particles whose flow is evaluated at once.
    """

    n_samples: int = 4096
    islands: int = 8
    draws: int = 16
    steps: int = 1
    leapfrog: int = 5
    target_acceptance: float = 0.8
    cess: float = 0.99
    resample_below: float = 0.5
    kind: Kind = "smc"
    pilot: int = 256
    sweeps: int = 0
    sweeps_from: float = 0.5
    hmc_until: float = 1.0
    final_sweeps: int = 0
    final_frames: int = 1
    chunk: int = 1024

    def __post_init__(self) -> None:
        for name, least in (("n_samples", 2), ("islands", 1), ("draws", 1), ("steps", 1)):
            self._at_least(name, least)
        for name, least in (("leapfrog", 1), ("pilot", 16), ("chunk", 1), ("final_frames", 1)):
            self._at_least(name, least)
        for name in ("sweeps", "final_sweeps"):
            self._at_least(name, 0)
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even, got {getattr(self, name)}")
        for name in ("target_acceptance", "cess"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        for name in ("resample_below", "sweeps_from", "hmc_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 ... 1, got {getattr(self, name)}")
        if self.kind not in ("smc", "ais"):
            raise ValueError(f"kind must be 'smc' or 'ais', got {self.kind!r}")

    @property
    def per_island(self) -> int:
        """Particles of one island."""
        return max(2, math.ceil(self.n_samples / self.islands))

    @property
    def n_draws(self) -> int:
        """Draws per particle; AIS, which does not resample, has one."""
        return self.draws if self.kind == "smc" else 1

    @property
    def kept_frames(self) -> int:
        """Frames of each particle that are samples."""
        return max(1, self.final_frames // 2) if self.final_sweeps else 1

    @property
    def threshold(self) -> float:
        """ESS as a share of the population below which it is resampled; 0 for AIS."""
        return self.resample_below if self.kind == "smc" else 0.0

    def sweeps_at(self, beta: float) -> int:
        """Return the sweeps of local moves in a round at ``beta``."""
        return self.sweeps if beta >= self.sweeps_from else 0

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
