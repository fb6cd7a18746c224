"""The dimer in its solvent: two simulated states, one generator, a free-energy profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from bgfast.energies import ParticleDimer
from bgfast.experiments.annealed_estimate import annealed_estimate
from bgfast.experiments.annealed_report import annealed_sentences
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_anneal import draw_annealed_dimer
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_data import (
    FlattenedData,
    frames_of,
    outside_labelling,
    simulate,
    simulate_flat,
)
from bgfast.experiments.dimer_reference import keep_references
from bgfast.experiments.dimer_report import analyse
from bgfast.experiments.dimer_windows import choose_starts, simulate_windows
from bgfast.experiments.estimates import plain_estimate, worth_sentences
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import build_flow, draw, load_flow, seed_for, train, usable_device
from bgfast.experiments.pooling import POOLED_ROWS, generated_rows
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow
from bgfast.sampling.store import read_columns

DRAWN, ANNEALED = 100_000, 4096
"""Samples of ``bgfast sample``, plain and annealed, where nothing else is said."""


def run(config: DimerConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Simulate, train, draw, reweight and report; finished stages are not repeated."""
    device = usable_device(config.device)
    energy = config.system.energy()
    with folder.timed("data"):
        data = _data(config, energy, folder, reporter)
        simulated = _estimation_data(config, energy, data, folder, reporter)
    with folder.timed("training"):
        training, training_tau = frames_of(data, held_out=False)
        validation, validation_tau = frames_of(data, held_out=True)
        flow = build_flow(config.flow, energy.dim, seed_for(config.seed, "flow"), training)
        seed = seed_for(config.seed, f"train {config.training.seed}")
        train(
            flow.to(device),
            energy,
            config.training.model_copy(update={"seed": seed}),
            folder.path,
            "train",
            reporter,
            data=training,
            data_tau=training_tau,
            validation=validation if len(validation) else None,
            validation_tau=validation_tau if len(validation) else None,
            reaction_coordinate=energy.dimer_distance,
        )
    labelled = data[config.data.main_tau]
    draw_and_simulate(config, energy, labelled, simulated.get(1.0), flow, folder, reporter)
    analyse_run(config, folder, reporter)


def draw_and_simulate(
    config: DimerConfig,
    energy: ParticleDimer,
    labelled: StateData,
    flat: StateData | None,
    flow: Flow,
    folder: RunFolder,
    reporter: Reporter,
) -> None:
    """Do all that follows the training: samples, windows that start from them, references.

    ``labelled`` are data whose labelling the flow has learned; ``flat``, simulations without the
    double well at tau = 1, serve the annealing.
    """
    with folder.timed("sampling"):
        for tau in config.sampling.tau:
            path, seed = folder.samples_at(tau), seed_for(config.seed, f"latent {tau!r}")
            _draw(config, energy, labelled, flow, path, config.sampling.n, tau, seed, reporter)
    if config.anneal.n_samples:
        with folder.timed("annealing"):
            path, seed = folder.annealed, seed_for(config.seed, "anneal")
            draw_annealed_dimer(flow, config, energy, labelled, flat, path, 1.0, seed, reporter)
    with folder.timed("windows"):
        for tau in config.sampling.tau:
            _windows(config, energy, labelled, folder, tau, reporter)
    with folder.timed("reference"):
        keep_references(config, energy, folder, reporter)


def analyse_run(config: DimerConfig, folder: RunFolder, reporter: Reporter) -> None:
    """Estimate and report from the files of a run whose samples are drawn."""
    energy = config.system.energy()
    data = {tau: StateData.load(folder.data_at(tau), energy.dim) for tau in config.data.tau}
    simulated = _estimation_data(config, energy, data, folder, reporter)
    flow = load_flow(folder.path, config.training.total_steps, usable_device(config.device))
    with folder.timed("analysis"):
        labelled = data[config.data.main_tau]
        analyse(config, energy, labelled, simulated, flow, folder, reporter)


def sample_run(
    config: DimerConfig,
    folder: RunFolder,
    out: Path,
    *,
    n_samples: int | None,
    tau: float,
    seed: int,
    anneal: bool,
    reporter: Reporter,
) -> list[str]:
    """Draw and weigh more samples from the flow of a run; return what the weights are worth."""
    energy = config.system.energy()
    data = StateData.load(folder.data_at(config.data.main_tau), energy.dim)
    flow = load_flow(folder.path, config.training.total_steps, usable_device(config.device))
    if not anneal:
        _draw(config, energy, data, flow, out, n_samples or DRAWN, tau, seed, reporter)
        return worth_sentences(plain_estimate(out, config.analysis))
    simulated = None
    if folder.estimation_at(tau).exists():
        simulated = FlattenedData.load(folder.estimation_at(tau), energy.dim)
    n_samples = n_samples or config.anneal.n_samples or ANNEALED
    settings = config.anneal.model_copy(update={"n_samples": n_samples})
    config = config.model_copy(update={"anneal": settings})
    draw_annealed_dimer(flow, config, energy, data, simulated, out, tau, seed, reporter)
    return annealed_sentences(annealed_estimate(out, config.analysis))


def _draw(
    config: DimerConfig,
    energy: ParticleDimer,
    data: StateData,
    flow: Flow,
    path: Path,
    n_samples: int,
    tau: float,
    seed: int,
    reporter: Reporter,
) -> None:
    draw(
        flow,
        energy,
        path,
        config.sampling.model_copy(update={"n": n_samples}),
        tau,
        seed,
        f"draw and weigh, tau = {tau:g}",
        reporter,
        columns=lambda x: sample_columns(x, energy, data),
        attributes={"system": "dimer"},
    )


def _windows(
    config: DimerConfig,
    energy: ParticleDimer,
    data: StateData,
    folder: RunFolder,
    tau: float,
    reporter: Reporter,
) -> None:
    """Simulate the windows at ``tau``, unless they are there or there is nothing to start from."""
    path, section = folder.windows_at(tau), config.analysis
    if config.windows.n_windows == 0 or path.exists():
        return
    rows = generated_rows(folder.samples_at(tau), section.split, tau, section.bounds)
    usable = np.flatnonzero((rows.state >= 0) & rows.finite)
    if usable.size == 0:
        reporter.note(
            f"No sample at tau = {tau:g} is usable as a start for windows; they are left out."
        )
        return
    seed = seed_for(config.seed, f"starts {tau!r}")
    chosen = usable[
        choose_starts(config.windows, section.bounds, rows.r[usable], -rows.work[usable], seed)
    ]
    (x,) = next(read_columns(folder.samples_at(tau), "x", chunk=POOLED_ROWS))
    starts = x[chosen].astype(np.float64)
    windows = simulate_windows(
        energy, config.windows, section.bounds, tau, starts, data.reference, config.seed, reporter
    )
    windows.save(path)


def sample_columns(x: Tensor, energy: ParticleDimer, data: StateData) -> Mapping[str, np.ndarray]:
    """Return what a sample file of the dimer holds beside x, energy and log_w.

    ``r``: dimer distance; ``discard``: outside the labelling that the data cover.
    """
    return {
        "r": energy.dimer_distance(x).cpu().numpy(),
        "discard": outside_labelling(x, data).numpy(),
    }


def _data(
    config: DimerConfig, energy: ParticleDimer, folder: RunFolder, reporter: Reporter
) -> dict[float, StateData]:
    """Return the simulations to train on, by temperature; all follow the labelling of the first."""
    data: dict[float, StateData] = {}
    for tau in sorted(config.data.tau, key=lambda tau: tau != config.data.main_tau):
        path = folder.data_at(tau)
        if not path.exists():
            like = data.get(config.data.main_tau)
            split = config.analysis.split
            made = simulate(energy, config.data, split, config.seed, reporter, tau=tau, like=like)
            made.save(path)
        data[tau] = StateData.load(path, energy.dim)  # as a resumed run would see it
    return data


def _estimation_data(
    config: DimerConfig,
    energy: ParticleDimer,
    data: Mapping[float, StateData],
    folder: RunFolder,
    reporter: Reporter,
) -> Mapping[float, StateData]:
    """Return the simulations that serve the estimate at each temperature that has any.

    They are made if they are not there yet.
    """
    if not config.data.flat_walkers:
        return data
    bounds, split = config.analysis.bounds, config.analysis.split
    like, flat = data[config.data.main_tau], {}
    for tau in config.sampling.tau:
        path = folder.estimation_at(tau)
        if not path.exists():
            made = simulate_flat(
                energy, config.data, bounds, split, like, config.seed, reporter, tau
            )
            made.save(path)
        flat[tau] = FlattenedData.load(path, energy.dim)
    return flat
