"""Simulated data of the dimer: two disconnected states, one labelling of the solvent."""

from __future__ import annotations

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

N_FIXED = 2
"""The dimer's own particles are not relabelled with the solvent."""
_ROUNDS = 10
_PIECES = 20


def simulate(
    energy: ParticleDimer, config: DimerData, split: float, seed: int, reporter: Reporter
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
    """
    intervals = {"closed": (0.0, split), "open": (split, np.inf)}
    parts = [
        _simulate_state(energy, config, state, name, interval, seed, reporter)
        for state, (name, interval) in enumerate(intervals.items())
    ]
    data = joined(parts)
    return _relabelled(data, energy) if config.relabel else data


def outside_labelling(x: Tensor, data: StateData) -> Tensor:
    """Return which configurations ``x[n, dim]`` are outside the labelling of the data, ``[n]``.

    The data cover one labelling of the particles; the other copies of each configuration are
    physically the same and must not be counted again.
    """
    if not data.reference.size:
        return torch.zeros(len(x), dtype=torch.bool)
    reference = torch.from_numpy(data.reference.reshape(-1))
    canonical = ops.is_canonical(x.double().cpu(), reference, n_fixed=N_FIXED)
    return ~canonical | _turned(x).cpu()


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
    seed: int,
    reporter: Reporter,
) -> StateData:
    start = energy.lattice_configuration(config.start[state]).numpy()
    sampler = MetropolisSampler(
        energy,
        np.tile(start, (config.n_walkers, 1)),
        moves="particle",
        seed=seed_for(seed, f"walkers {name}"),
        interval=interval,
    )
    n_sweeps = config.n_frames * config.stride
    title = f"simulate {name} state"
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
        state=np.full(config.n_walkers, state),
        held_out=hold_out(config.n_walkers, config.held_out),
        reference=np.empty((0, 2)),
    )


def _relabelled(data: StateData, energy: ParticleDimer) -> StateData:
    """Relabel all frames to the configuration that is closest to them on average.

    The dimer's particles are ordered from left to right. For the solvent, starting from one frame,
    the reference is replaced by the mean of the relabelled training frames until it no longer
    changes: the labelling that leaves the least variance.
    """
    frames = left_to_right(torch.from_numpy(data.x))
    training = frames[torch.from_numpy(~data.held_out)].reshape(-1, energy.dim)
    few = training[:: max(1, len(training) // 4000)]
    reference = few[0]
    for _ in range(_ROUNDS):
        mean = ops.relabel(few, reference, n_fixed=N_FIXED)[0].mean(0)
        if torch.allclose(mean, reference, atol=1e-6):
            break
        reference = mean
    x = ops.relabel(frames, reference, n_fixed=N_FIXED)[0]
    return StateData(
        x=x.numpy(),
        energy=data.energy,
        state=data.state,
        held_out=data.held_out,
        reference=reference.reshape(-1, 2).numpy(),
    )
