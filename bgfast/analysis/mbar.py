"""The MBAR equations of a generator and of simulations under biases along one coordinate.

Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008). The generator drew n_g rows from its
normalised density q. Simulation k drew N_k rows from exp(f_k - b_k(r) - u), whose free energy f_k
is unknown. All rows together are draws from one mixture, so that row x weighs

    w(x) = 1 / (n_g exp(u + log q) + sum_k N_k exp(f_k - b_k(r))),   exp(-f_k) = sum of w exp(-b_k)

towards exp(-u). Because the biases depend on r alone, a row is known by its work u + log q and r.
The equations are the zero of the gradient of a convex function, found by Newton's method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MAX_STEPS = 200
_TOLERANCE = 1e-9  # of the equations, relative to N_k
_MAX_CHORDS = 40
_CHORD_TOLERANCE = 1e-5
_RIDGE = 1e-10  # of the largest diagonal element: states that no row connects keep their f
_LARGEST_STEP = 5.0  # in k_B T


@dataclass(frozen=True)
class Solution:
    """Free energies and weights.

    Attributes
    ----------
    f
        f_k of each simulation, ``[K]``; without generated rows f_0 = 0.
    log_w
        Log weight of each row towards exp(-u), ``[n]``, without its count.
    converged
        Whether the equations are fulfilled.
    hessian
        Derivative of the equations with respect to f, ``[K, K]``.
    """

    f: Array
    log_w: Array
    converged: bool
    hessian: Array


class Mixture:
    """Rows of generator and simulations, prepared for solving with several sets of counts.

    Parameters
    ----------
    work
        u + log q of each row, ``[n]``.
    bias
        b_k(r) of each row, ``[n, K]``; infinity where simulation k cannot be.
    generated
        Which rows the generator drew, ``[n]``.
    simulation
        Simulation of each other row, ``[n]``; what it is for generated rows does not matter.
    """

    def __init__(
        self,
        work: Array,
        bias: Array,
        generated: NDArray[np.bool_],
        simulation: NDArray[np.integer],
    ) -> None:
        self.work = work
        self.generated = generated
        self.simulation = simulation
        self.n_simulations = bias.shape[1]
        self._boltzmann = np.exp(-bias)

    def numbers(self, counts: Array) -> Array:
        """Return N_k for rows that count ``counts[n]``, ``[K]``."""
        simulated = ~self.generated
        return np.bincount(
            self.simulation[simulated], counts[simulated], minlength=self.n_simulations
        ).astype(np.float64)

    def solve(self, counts: Array, n_generated: float) -> Solution:
        """Solve for f.

        Parameters
        ----------
        counts
            What each row counts, ``[n]``: its multiplicity in a bootstrap replica, below 1 for a
            correlated frame.
        n_generated
            n_g; it also counts generated rows that are not among the rows here, because they
            weigh nothing.
        """
        numbers = self.numbers(counts)
        f = self._relaxed(counts, numbers, n_generated)
        for _ in range(_MAX_STEPS):
            log_w = self._log_w(f, numbers, n_generated)
            gap = self._gap(f, log_w, counts, numbers)
            hessian = self._hessian(f, log_w, counts, numbers)
            if np.abs(gap).max() <= _TOLERANCE * numbers.max():
                return Solution(self._with_gauge(f, n_generated), log_w, True, hessian)
            step = _newton(hessian, gap, numbers > 0, free=n_generated > 0)
            f = f - step * min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        return Solution(self._with_gauge(f, n_generated), log_w, False, hessian)

    def follow(self, known: Solution, counts: Array, n_generated: float) -> Solution:
        """Solve with other counts, from a known solution nearby and with its derivative."""
        numbers = self.numbers(counts)
        f = known.f
        for _ in range(_MAX_CHORDS):
            log_w = self._log_w(f, numbers, n_generated)
            gap = self._gap(f, log_w, counts, numbers)
            if np.abs(gap).max() <= _CHORD_TOLERANCE * numbers.max():
                return Solution(self._with_gauge(f, n_generated), log_w, True, known.hessian)
            f = f - _newton(known.hessian, gap, numbers > 0, free=n_generated > 0)
        return self.solve(counts, n_generated)

    def overlap_matrix(self, solution: Solution, counts: Array, n_generated: float) -> Array:
        """Return the MBAR overlap matrix, generator first: ``[1 + K, 1 + K]``, rows sum to 1.

        Entry (i, j) is the chance that a sample of i is taken for one of j.
        """
        numbers = self.numbers(counts)
        log_w = self._log_w(solution.f, numbers, n_generated)
        simulated = self._shares(solution.f, log_w, numbers)
        share = np.column_stack([1 - simulated.sum(axis=1), simulated])
        matrix = share.T @ (share * counts[:, None])
        # Generated rows that weigh nothing are taken for generated ones.
        matrix[0, 0] += n_generated - counts[self.generated].sum()
        totals = np.concatenate([[n_generated], numbers])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(totals[:, None] > 0, matrix / totals[:, None], 0.0)

    def _log_w(self, f: Array, numbers: Array, n_generated: float) -> Array:
        """Return log w, ``[n]``."""
        with np.errstate(divide="ignore"):
            log_numbers = np.log(numbers) + f
            highest = float(log_numbers.max())
            log_total = np.log(self._boltzmann @ np.exp(log_numbers - highest)) + highest
            if n_generated:
                log_total = np.logaddexp(log_total, np.log(n_generated) + self.work)
        log_w: Array = -log_total
        return log_w

    def _shares(self, f: Array, log_w: Array, numbers: Array) -> Array:
        """Return the chance that a row comes from each simulation, ``[n, K]``."""
        with np.errstate(divide="ignore"):
            log_numbers = np.log(numbers) + f
        highest = float(log_numbers.max())
        share: Array = self._boltzmann * np.exp(log_numbers - highest)
        share *= np.exp(log_w + highest)[:, None]
        return share

    def _gap(self, f: Array, log_w: Array, counts: Array, numbers: Array) -> Array:
        """Return the expected minus the actual number of rows of each simulation, ``[K]``."""
        highest = float(log_w.max())
        z = self._boltzmann.T @ (counts * np.exp(log_w - highest))
        gap: Array = numbers * (np.exp(f + highest) * z - 1)
        return gap

    def _hessian(self, f: Array, log_w: Array, counts: Array, numbers: Array) -> Array:
        share = self._shares(f, log_w, numbers)
        weighted = share * counts[:, None]
        hessian: Array = np.diag(weighted.sum(axis=0)) - share.T @ weighted
        return hessian

    def _relaxed(self, counts: Array, numbers: Array, n_generated: float) -> Array:
        """Return f after a few self-consistent iterations, which converge from anywhere."""
        f = np.zeros(self.n_simulations)
        for _ in range(20):
            log_w = self._log_w(f, numbers, n_generated)
            highest = float(log_w.max())
            z = self._boltzmann.T @ (counts * np.exp(log_w - highest))
            with np.errstate(divide="ignore"):
                f = np.where(z > 0, -(np.log(z) + highest), f)
            f = self._with_gauge(f, n_generated)
        return f

    @staticmethod
    def _with_gauge(f: Array, n_generated: float) -> Array:
        """Without a normalised density only differences of f are known: let f_0 = 0."""
        return f if n_generated else f - f[0]


def _newton(hessian: Array, gap: Array, used: NDArray[np.bool_], *, free: bool) -> Array:
    """Return Newton's step of the used simulations, 0 for others; ``free``: f_0 may move."""
    step = np.zeros(gap.size)
    chosen = np.flatnonzero(used)
    if not free:
        chosen = chosen[1:]
    if chosen.size:
        block = hessian[np.ix_(chosen, chosen)]
        block = block + _RIDGE * np.diag(block).max() * np.eye(chosen.size)
        step[chosen] = np.linalg.solve(block, gap[chosen])
    return step
