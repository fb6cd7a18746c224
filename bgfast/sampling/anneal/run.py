"""The annealing run: a pilot that plans, islands that follow the plan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bgfast.energies import Energy
from bgfast.flows import Flow
from bgfast.sampling.anneal.device_island import run_device_island
from bgfast.sampling.anneal.device_local import DeviceLocalMoves
from bgfast.sampling.anneal.device_plan import device_plan
from bgfast.sampling.anneal.island import Island, Stage, plan, run_island
from bgfast.sampling.anneal.local import LocalMoves
from bgfast.sampling.anneal.population import Labelling, Target, joined
from bgfast.sampling.anneal.result import Annealed, judge, log_mean
from bgfast.sampling.anneal.settings import AnnealSettings

Progress = Callable[[int, int], None]


def anneal(
    flow: Flow,
    energy: Energy,
    settings: AnnealSettings | None = None,
    *,
    tau: float = 1.0,
    seed: int = 0,
    labelling: Labelling | None = None,
    local: Energy | None = None,
    interval: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Annealed:
    """Carry samples of a flow to exp(-u/tau) by annealed sequential Monte Carlo in latent space.

    Stage s has the density pi_beta(z) ~ N(z; 0, tau) w(z)^beta, with w the importance weight and
    beta from 0 to 1. Particles are reweighted from one stage to the next, resampled where their
    weights have become uneven, and moved by HMC in latent space (del Moral et al. 2006; Neal 2001).
    A pilot population chooses the betas, by conditional ESS, and the step sizes; the islands follow
    its schedule, so that the mean of exp(log Z) is exact for any number of particles.

    Parameters
    ----------
    flow
        Map from latent to configuration space; its parameters fix dtype and device.
    energy
        Target energy, evaluated in float64. For a bias along a coordinate see
        :class:`bgfast.energies.Biased`.
    settings
        How it is done.
    tau
        Relative temperature of the target; the latent variance is tau too.
    seed
        Seed of all random numbers; the result does not depend on ``settings.chunk`` but for
        rounding.
    labelling
        Restricts all densities to one copy of equivalent configurations.
    local
        Energy of the proposals by local moves, one that has Monte Carlo kernels; ``energy`` if not
        given.
    interval
        ``(low, high)`` that the coordinate of the local moves (d of the dimer, x1 of the double
        well) never leaves.
    progress
        Called as ``progress(stages_done, stages)``.

    Returns
    -------
    Annealed
        The samples with their weights, log Z with an error, and a verdict.

    Raises
    ------
    ValueError
        If an argument is out of range, or none of the flow's draws has a finite weight.
    TypeError
        If local moves are asked for and there is no Monte Carlo for the energy.
    """
    settings = settings or AnnealSettings()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
    target = Target(flow, energy, tau, labelling)
    moves = None
    if settings.sweeps or settings.final_sweeps:
        moves = LocalMoves(local or energy, tau, labelling, interval)
    seeds = np.random.SeedSequence(seed).generate_state(settings.islands + 1, np.uint64) >> 1
    on_device = target.device.type != "cpu"
    run = _run_on_device if on_device else _run
    stages, islands = run(target, settings, moves, [int(s) for s in seeds], progress)
    return _result(target, stages, islands)


def _run(
    target: Target,
    settings: AnnealSettings,
    local: LocalMoves | None,
    seeds: list[int],
    progress: Progress | None,
) -> tuple[list[Stage], list[Island]]:
    """Plan with the last of the seeds, and run an island with each of the others."""
    stages = plan(target, settings, local, seeds[-1])
    advance = _counter(settings, len(stages), progress)
    return stages, [
        run_island(target, settings, stages, local, seed, advance) for seed in seeds[:-1]
    ]


def _run_on_device(
    target: Target,
    settings: AnnealSettings,
    local: LocalMoves | None,
    seeds: list[int],
    progress: Progress | None,
) -> tuple[list[Stage], list[Island]]:
    """Do the same on a device: all islands are enqueued before anything waits for them."""
    there = None if local is None else DeviceLocalMoves(local, target.device)
    stages = device_plan(target, settings, there, seeds[-1])
    advance = _counter(settings, len(stages), progress)
    islands = [
        run_device_island(target, settings, stages, there, seed, advance) for seed in seeds[:-1]
    ]
    return stages, [island.finished() for island in islands]


def _counter(
    settings: AnnealSettings, n_stages: int, progress: Progress | None
) -> Callable[[], None]:
    """Return what is called after every stage of every island, and after final sweeps."""
    total, done = settings.islands * (n_stages + bool(settings.final_sweeps)), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return advance


def _result(target: Target, stages: list[Stage], islands: list[Island]) -> Annealed:
    particles = joined([island.particles for island in islands])
    log_w = np.concatenate([island.log_weights for island in islands])
    log_z = np.array([island.log_z for island in islands])
    ancestors = np.array([island.ancestors for island in islands])
    acceptance = np.mean([island.acceptance for island in islands], axis=0)
    swept = np.mean([island.sweep_acceptance for island in islands], axis=0)
    return Annealed(
        z=particles.z.cpu().numpy(),
        x=particles.x.cpu().numpy(),
        u=particles.u.cpu().numpy(),
        log_q=particles.log_q.cpu().numpy(),
        log_w=log_w,
        island=np.repeat(np.arange(len(islands)), [len(i.log_weights) for i in islands]),
        log_z=log_mean(log_z),
        island_log_z=log_z,
        ancestors=ancestors,
        betas=np.array([stage.beta for stage in stages]),
        steps=np.array([stage.step for stage in stages]),
        ess=np.min([island.ess for island in islands], axis=0),
        acceptance=acceptance,
        sweep_acceptance=swept,
        evaluations=target.evaluations,
        verdict=judge(log_z, ancestors, np.fmax(acceptance, swept)),
    )
