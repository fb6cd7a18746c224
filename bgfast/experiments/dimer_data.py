"""Simulated data of the dimer: two disconnected states, one labelling of the solvent.

Training data are simulated as the system is. For the estimate, each state is simulated again with a
constant force in place of the dimer's own double well V(d), which depends on d alone: F(d) is then
nearly flat, and the walkers cover their side of the barrier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bgfast import ops
from bgfast.energies import ParticleDimer
from bgfast.experiments.data import StateData, hold_out, joined
from bgfast.experiments.dimer_config import DimerData
from bgfast.experiments.pipeline import seed_for
from bgfast.experiments.progress import Reporter
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.umbrella_estimate import without_double_well

N_FIXED = 2
"""The dimer's own particles are not relabelled with the solvent."""
_ROUNDS = 10
_PIECES = 20
_SLOPE_ROUNDS = 12
_SLOPE_FRAMES = 20
_Data = TypeVar("_Data", bound=StateData)


def simulate(
    energy: ParticleDimer,
    config: DimerData,
    split: float,
    seed: int,
    reporter: Reporter,
    *,
    tau: float = 1.0,
    like: StateData | None = None,
) -> StateData:
    """Simulate both states with walkers that cannot leave them, and relabel the solvent.

    Parameters
    ----------
    energy
        The system.
    config
        Walkers, lengths and starts.
    split
        Dimer distance between the states; closed walkers stay below it, open ones above.
    seed
        Seed of all walkers.
    reporter
        Shows progress.
    tau
        Relative temperature.
    like
        Data whose labelling these follow; if not given, they find their own.
    """
    intervals = {"closed": (0.0, split), "open": (split, np.inf)}
    held_out = hold_out(config.n_walkers, config.held_out)
    parts = [
        _simulate_state(energy, config, state, name, interval, held_out, tau, seed, reporter)
        for state, (name, interval) in enumerate(intervals.items())
    ]
    data = joined(parts)
    if not config.relabel:
        return data
    return relabelled(data, _labelling(data) if like is None else like.reference)


@dataclass(frozen=True)
class FlattenedData(StateData):
    """Walkers simulated with ``slope`` (d - d0) in place of V(d); ``energy`` is that of the system.

    Parameters
    ----------
    slope
        One per state, ``[2]``.
    """

    slope: np.ndarray

    def removed(self, energy: ParticleDimer, d: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return V(d) - slope (d - d0) of each row, ``[n]``: what walkers of its state lack."""
        v: np.ndarray = energy.double_well(torch.from_numpy(d)).numpy()
        lacking: np.ndarray = v - self.slope[state] * (d - energy.params.d0)
        return lacking


def simulate_flat(
    energy: ParticleDimer,
    config: DimerData,
    bounds: tuple[float, float],
    split: float,
    training: StateData,
    seed: int,
    reporter: Reporter,
    tau: float = 1.0,
) -> FlattenedData:
    """Simulate both states without the dimer's double well, each within its part of ``bounds``.

    Parameters
    ----------
    energy, config, split, seed, reporter, tau
        As for :func:`simulate`; there are ``config.flat_walkers`` walkers in each state.
    bounds
        Dimer distances that no walker leaves.
    training
        Data of the generator; all frames are relabelled as they are.
    """
    intervals = {"flat closed": (bounds[0], split), "flat open": (split, bounds[1])}
    held_out = np.ones(config.flat_walkers, dtype=bool)
    slopes, parts = [], []
    for state, (name, interval) in enumerate(intervals.items()):
        slopes.append(_balancing_slope(energy, config, state, name, interval, tau, seed))
        flat = without_double_well(energy, slopes[state])
        part = _simulate_state(flat, config, state, name, interval, held_out, tau, seed, reporter)
        parts.append(part)
    data = FlattenedData(**vars(joined(parts)), slope=np.array(slopes))
    d = energy.dimer_distance(torch.from_numpy(data.x)).numpy()
    data = replace(data, energy=data.energy + data.removed(energy, d, data.state[:, None]))
    return relabelled(data, training.reference) if training.reference.size else data


def frames_of(data: Mapping[float, StateData], *, held_out: bool) -> tuple[Tensor, Tensor]:
    """Return training (or held-out) frames of all temperatures, ``[n, dim]``, and tau ``[n]``."""
    frames = {tau: part.frames(held_out=held_out) for tau, part in data.items()}
    taus = [torch.full((len(x),), tau, dtype=x.dtype) for tau, x in frames.items()]
    return torch.cat(list(frames.values())), torch.cat(taus)


def outside_labelling(x: Tensor, data: StateData) -> Tensor:
    """Return which configurations ``x[n, dim]`` are outside the labelling of the data, ``[n]``.

    The data cover one labelling of the particles; the other copies of each configuration are
    physically the same and must not be counted again.
    """
    if not data.reference.size:
        return torch.zeros(len(x), dtype=torch.bool)
    return outside_reference(x.cpu(), torch.from_numpy(data.reference.reshape(-1)))


def outside_reference(x: Tensor, reference: Tensor) -> Tensor:
    """Return which ``x[n, dim]`` are outside the labelling of ``reference[dim]``, ``[n]``."""
    return ~ops.is_canonical(x.double(), reference, n_fixed=N_FIXED) | _turned(x)


def left_to_right(x: Tensor) -> Tensor:
    """Return ``x[..., dim]`` with the dimer's particles exchanged where the first is on the right.

    The energy is the same for both orders, and a closed dimer turns around now and then.
    """
    exchanged = torch.cat([x[..., 2:4], x[..., 0:2], x[..., 4:]], dim=-1)
    return torch.where(_turned(x)[..., None], exchanged, x)


def _turned(x: Tensor) -> Tensor:
    return x[..., 0] > x[..., 2]


def _simulate_state(
    energy: ParticleDimer,
    config: DimerData,
    state: int,
    name: str,
    interval: tuple[float, float],
    held_out: np.ndarray,
    tau: float,
    seed: int,
    reporter: Reporter,
) -> StateData:
    start = energy.lattice_configuration(config.start[state]).numpy()
    sampler = MetropolisSampler(
        energy,
        np.tile(start, (len(held_out), 1)),
        tau=tau,
        moves="particle",
        seed=seed_for(seed, f"walkers {name}{_at(tau)}"),
        interval=interval,
    )
    n_sweeps = config.n_frames * config.stride
    title = f"simulate {name} state{_at(tau)}"
    with reporter.stage(title, config.burn_in + n_sweeps, "sweeps") as advance:
        rest = config.burn_in - config.burn_in // 2
        sampler.adapt(config.burn_in // 2)
        sampler.run(rest, stride=rest)
        frames, energies, done = [], [], 0
        for piece in np.array_split(np.arange(config.n_frames), _PIECES):
            if len(piece):
                trajectory = sampler.run(len(piece) * config.stride, stride=config.stride)
                frames.append(trajectory.x)
                energies.append(trajectory.energy)
                done += len(piece) * config.stride
                advance(config.burn_in + done)
    return StateData(
        x=np.concatenate(frames, axis=1),
        energy=np.concatenate(energies, axis=1),
        state=np.full(len(held_out), state),
        held_out=held_out,
        reference=np.empty((0, 2)),
    )


def _at(tau: float) -> str:
    return "" if tau == 1 else f", tau = {tau!r}"


def _balancing_slope(
    energy: ParticleDimer,
    config: DimerData,
    state: int,
    name: str,
    interval: tuple[float, float],
    tau: float,
    seed: int,
) -> float:
    """Return the slope in place of V(d) at which the mean of d is the middle of the interval.

    The solvent alone pushes the dimer together; the slope balances it. It need not be exact, as
    the estimate takes it into account, and is the mean over the later half of the search.
    """
    low, high = interval
    # tau / variance if d is evenly spread: then it is Newton's step.
    gain = 12 * tau / (high - low) ** 2
    start = energy.lattice_configuration(config.start[state]).numpy()
    x, step, slope = np.tile(start, (config.flat_walkers, 1)), np.array(0.1), 0.0
    stride = -(-config.burn_in // (4 * _SLOPE_FRAMES))
    slopes = []
    for i in range(_SLOPE_ROUNDS):
        sampler = MetropolisSampler(
            without_double_well(energy, slope),
            x,
            tau=tau,
            step=step,
            moves="particle",
            seed=seed_for(seed, f"slope {name} {i}{_at(tau)}"),
            interval=interval,
        )
        step = sampler.adapt(config.burn_in // 2) if i == 0 else step
        frames = sampler.run(_SLOPE_FRAMES * stride, stride=stride).x
        x = frames[:, -1]
        d = energy.dimer_distance(torch.from_numpy(frames))
        slope += gain * (float(d.mean()) - 0.5 * (low + high))
        slopes.append(slope)
    return float(np.mean(slopes[_SLOPE_ROUNDS // 2 :]))


def _labelling(data: StateData) -> np.ndarray:
    """Return the configuration ``[n_particles, 2]`` that the frames are closest to on average.

    Starting from one frame, it is replaced by the mean of the relabelled training frames until it
    no longer changes: the labelling of the solvent that leaves the least variance.
    """
    training = left_to_right(data.frames(held_out=False))
    few = training[:: max(1, len(training) // 4000)]
    reference = few[0]
    for _ in range(_ROUNDS):
        mean = ops.relabel(few, reference, n_fixed=N_FIXED)[0].mean(0)
        if torch.allclose(mean, reference, atol=1e-6):
            break
        reference = mean
    return reference.reshape(-1, 2).numpy()


def relabelled(data: _Data, reference: np.ndarray) -> _Data:
    """Relabel the solvent of all frames to ``reference``, the dimer's two from left to right."""
    frames = left_to_right(torch.from_numpy(data.x))
    x = ops.relabel(frames, torch.from_numpy(reference.reshape(-1)), n_fixed=N_FIXED)[0]
    return replace(data, x=x.numpy(), reference=reference)
