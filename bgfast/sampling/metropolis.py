"""Metropolis Monte Carlo of a system: many independent walkers, exact resume.

The kernels are in :mod:`bgfast_kernels.montecarlo`; a system is made known to the sampler by one
entry in :data:`SYSTEMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from bgfast_kernels import montecarlo, random
from numpy.typing import ArrayLike, NDArray

from bgfast.sampling import adaptation, arguments, metropolis_cuda

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

_MAX_CHUNKS = 64

SYSTEMS: dict[str, Callable[[Any], montecarlo.System]] = {
    "DoubleWell": lambda s: montecarlo.double_well(s.dim, s.a4, s.a2, s.a1, s.k),
    "MuellerBrown": lambda s: montecarlo.mueller_brown(
        s.scale, np.transpose([s.A, s.a, s.b, s.c, s.x0, s.y0])
    ),
    "ParticleDimer": lambda s: montecarlo.dimer(s.params),
}
"""Class name of an energy -> its Monte Carlo system; subclasses are found through their bases."""


@dataclass(frozen=True)
class Trajectory:
    """Stored frames of W walkers.

    Parameters
    ----------
    x
        Configurations, ``[W, F, D]``, float64.
    energy
        Reduced energies u(x) at tau = 1 and without the bias, ``[W, F]``.
    acceptance
        Accepted share of each walker's proposals in this run, ``[W]``.
    """

    x: Array
    energy: Array
    acceptance: Array


class MetropolisSampler:
    """Independent Metropolis walkers in the distribution exp(-(u(x) + bias) / tau).

    Parameters
    ----------
    system
        A module of :mod:`bgfast.energies` with an entry in :data:`SYSTEMS`.
    x0
        Start of each walker, ``[W, D]``.
    tau
        Relative temperature, a number or ``[W]``.
    step
        Step size, a number or ``[W]``: standard deviation of the proposal for all coordinates, half
        width of the square a single particle is moved in.
    moves
        ``"all"``: a step moves all coordinates at once, by normal numbers. ``"particle"``: a step
        is a sweep of single-particle moves. ``"particle-palindrome"``: every other sweep of a
        stored frame goes backwards, so that an even number of them is reversible. ``None``:
        ``"particle"`` if the system has it.
    seed
        Seed of all walkers; each has its own stream.
    interval
        ``(low, high)`` or ``[W, 2]``: the coordinate (x1 of the double well, y of Mueller-Brown, d
        of the dimer) never leaves it.
    bias
        ``(k, centre)`` or ``[W, 2]``: adds k/2 (coordinate - centre)^2 to the energy.
    first_walker
        Number of the first walker: walker i of a sampler has stream ``first_walker + i``, so
        walkers can be split among samplers without changing any of them.
    device
        A CUDA device for many walkers, which makes the CPU's moves to rounding; default: CPU.

    Raises
    ------
    TypeError
        If there is no Monte Carlo for ``system``.
    ValueError
        If an argument has the wrong shape or range, or a walker starts outside its interval or at
        an energy that is not finite.
    """

    def __init__(
        self,
        system: Any,
        x0: ArrayLike,
        tau: ArrayLike = 1.0,
        step: ArrayLike = 0.1,
        moves: str | None = None,
        seed: int = 0,
        interval: Sequence[float] | Array | None = None,
        bias: Sequence[float] | Array | None = None,
        first_walker: int = 0,
        device: Any = None,
    ) -> None:
        self.system = monte_carlo(system)
        self.moves = _moves(self.system, moves)
        self._on_device: metropolis_cuda.DeviceMoves | None = None
        if device is not None:
            device = metropolis_cuda.check(self.system, self.moves, device)
            self._on_device = metropolis_cuda.DeviceMoves(self.system, self.moves, device)
        x = arguments.configurations(x0, self.system.dim)
        u, q = montecarlo.evaluate(self.system, x)
        n = len(x)
        self.walkers = montecarlo.Walkers(
            x=x,
            u=u,
            states=random.streams(seed, n, first_walker),
            tau=arguments.positive("tau", tau, n),
            step=arguments.positive("step", step, n),
            bias=arguments.biases(bias, n),
            interval=arguments.intervals(interval, n),
            accepted=np.zeros(n, np.int64),
            drift=np.zeros(n),
        )
        self._check_start(u, q)

    def run(self, n_steps: int, stride: int = 1, progress: Progress | None = None) -> Trajectory:
        """Advance every walker and store every ``stride``-th configuration.

        Parameters
        ----------
        n_steps
            Steps (for single-particle moves: sweeps), a multiple of ``stride``.
        stride
            Steps from one stored configuration to the next.
        progress
            Called as ``progress(steps_done, n_steps)`` now and then.

        Returns
        -------
        Trajectory
            ``n_steps / stride`` frames per walker. Several runs one after the other give the same
            bits as one.

        Raises
        ------
        ValueError
            If ``stride`` is not positive or does not divide ``n_steps``.
        """
        n_frames = arguments.frames(n_steps, stride)
        n, dim = self.walkers.x.shape
        frames, energies = np.empty((n, n_frames, dim)), np.empty((n, n_frames))
        self.walkers.accepted[:] = 0
        chunk = -(-n_frames // _MAX_CHUNKS)
        for start in range(0, n_frames, max(chunk, 1)):
            stop = min(start + chunk, n_frames)
            frames[:, start:stop], energies[:, start:stop] = self._advance(stop - start, stride)
            if progress is not None:
                progress(stop * stride, n_steps)
        proposals = max(n_steps, 1) * self.system.moves_per_step[self.moves]
        return Trajectory(frames, energies, self.walkers.accepted / proposals)

    def _advance(self, n_frames: int, stride: int) -> tuple[Array, Array]:
        if self._on_device is not None:
            return self._on_device.advance_walkers(self.walkers, n_frames, stride)
        return montecarlo.advance(self.system, self.moves, self.walkers, n_frames, stride)

    def adapt(self, n_steps: int, target: float = 0.4) -> Array:
        """Run a burn-in in which each walker's step size goes to a wanted acceptance.

        Configurations of this run are not kept: a chain whose proposal changes has no exact
        distribution. The step sizes are fixed afterwards.

        Parameters
        ----------
        n_steps
            Steps of the burn-in, at least 25.
        target
            Wanted acceptance, between 0 and 1.

        Returns
        -------
        NDArray
            The new step sizes, ``[W]``.

        Raises
        ------
        ValueError
            If an argument is out of range.
        """
        if not 0 < target < 1:
            raise ValueError(f"target must lie between 0 and 1, got {target}")
        if n_steps < adaptation.ROUNDS:
            raise ValueError(f"n_steps must be at least {adaptation.ROUNDS}, got {n_steps}")
        for i, length in enumerate(adaptation.rounds(n_steps)):
            excess = self.run(length, length).acceptance - target
            self.walkers.step *= np.exp(adaptation.log_change(excess, i))
        return self.walkers.step.copy()

    @property
    def step(self) -> Array:
        """Step size of each walker, ``[W]``."""
        return self.walkers.step.copy()

    @property
    def drift(self) -> float:
        """Largest error the running energies had gathered when they were recomputed."""
        return float(self.walkers.drift.max())

    def state_dict(self) -> dict[str, Any]:
        """Return all a run needs to go on bit for bit: arrays, and what they belong to."""
        state: dict[str, Any] = {k: v.copy() for k, v in asdict(self.walkers).items()}
        return state | {"moves": self.moves, "parameters": self.system.parameters.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`.

        Raises
        ------
        ValueError
            If the state is of other walkers, another kind of moves or another system.
        """
        own = self.state_dict()
        if missing := sorted(set(own) - set(state)):
            raise ValueError(f"state lacks {', '.join(missing)}")
        if state["moves"] != self.moves:
            raise ValueError(f"state is of moves {state['moves']!r}, the sampler's: {self.moves!r}")
        if not np.array_equal(state["parameters"], self.system.parameters):
            raise ValueError("state is of a system with other parameters")
        arrays = {k: np.array(state[k], v.dtype) for k, v in asdict(self.walkers).items()}
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                raise ValueError(
                    f"{name} in state must have shape {own[name].shape}, got {array.shape}"
                )
        self.walkers = montecarlo.Walkers(**arrays)

    def _check_start(self, u: Array, q: Array) -> None:
        low, high = self.walkers.interval.T
        outside = np.flatnonzero(~((low <= q) & (q <= high)))
        if outside.size:
            w = outside[0]
            raise ValueError(
                f"x0 must start inside the interval: walker {w} has {self.system.coordinate} = "
                f"{q[w]:.6g}, allowed is [{low[w]:g}, {high[w]:g}]"
            )
        bad = np.flatnonzero(~np.isfinite(u))
        if bad.size:
            raise ValueError(f"x0 must have finite energies: walker {bad[0]} has {u[bad[0]]}")


def palindromic_moves(system: Any) -> str:
    """Return the kind of moves of ``system`` of which an even number is reversible as a whole.

    Raises
    ------
    TypeError
        If there is no Monte Carlo for ``system``.
    """
    return "particle-palindrome" if "particle" in monte_carlo(system).kernels else "all"


def evaluate(system: Any, x: Array) -> tuple[Array, Array]:
    """Return the energy and the coordinate of the moves' bias and interval, of ``x[n, dim]``.

    Raises
    ------
    TypeError
        If there is no Monte Carlo for ``system``.
    """
    return montecarlo.evaluate(monte_carlo(system), x)


def monte_carlo(system: Any) -> montecarlo.System:
    """Return the Monte Carlo system of an energy.

    Raises
    ------
    TypeError
        If there is none.
    """
    for kind in type(system).__mro__:
        if kind.__name__ in SYSTEMS:
            return SYSTEMS[kind.__name__](system)
    known = ", ".join(sorted(SYSTEMS))
    raise TypeError(f"no Monte Carlo for {type(system).__name__}; there is one for {known}")


def _moves(system: montecarlo.System, moves: str | None) -> str:
    if moves is None:
        return "particle" if "particle" in system.kernels else "all"
    if moves not in system.kernels:
        allowed = ", ".join(repr(name) for name in system.kernels)
        raise ValueError(f"moves must be one of {allowed} for this system, got {moves!r}")
    return moves
