"""Figures of the dimer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from bgfast.analysis.figures import (
    dimer_configurations,
    energy_histograms,
    free_energy,
    latent_picture,
    loss_curves,
    read_metrics,
    save,
    weight_diagnostics,
    work_distributions,
)
from bgfast.energies import ParticleDimer
from bgfast.experiments.data import StateData
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_estimates import DimerEstimates
from bgfast.experiments.dimer_pool import STATES
from bgfast.experiments.dimer_temperatures import draw_temperatures
from bgfast.experiments.folder import RunFolder
from bgfast.flows import Sequential
from bgfast.sampling.store import read_columns
from bgfast.training.trainer import METRICS

_SHOWN = 100_000
"""Rows that go into a figure."""
_LATENT_ROWS = 2000


def write_figures(
    config: DimerConfig,
    energy: ParticleDimer,
    data: StateData,
    flow: Sequential,
    folder: RunFolder,
    found: DimerEstimates,
) -> dict[str, str]:
    """Write every figure as PNG and return name -> path."""
    main = found.main
    samples = folder.samples_at(main)
    columns = ("r", "energy", "log_w", "discard")
    r, u, log_w, discard = next(read_columns(samples, *columns, chunk=_SHOWN))
    log_w = np.where(discard, -np.inf, log_w)
    pictures = {
        "profile": _profile(found),
        "energies": energy_histograms(u, log_w, data.energy.ravel()),
        "configurations": _configurations(config, energy, samples, r, u),
        "latent": latent_picture(_latent(data, flow)),
        "training": loss_curves(
            read_metrics(folder.path / METRICS),
            {
                "ml": "by example: -log q",
                "validation_nll": "held out: -log q",
                "kl": "by energy: KL",
                "rc": "along d: E[log p]",
            },
        ),
        "weights": weight_diagnostics(log_w, found.plain[main].weights),
    }
    pooled = found.pooled.get(main)
    if pooled is not None and pooled.states is not None:
        states = pooled.states
        pictures["work"] = work_distributions({s: states.work(k) for k, s in enumerate(STATES)})
    if len(found.plain) > 1:
        pictures["temperatures"] = draw_temperatures(found)
    folder.figures.mkdir(exist_ok=True)
    paths = {name: str(folder.figures / f"{name}.png") for name in pictures}
    for name, figure in pictures.items():
        save(figure, paths[name])
    return paths


def _profile(found: DimerEstimates) -> Figure:
    others = {}
    if found.recommended != "plain":
        others["plain weights"] = found.plain[found.main].profile
    if (reference := found.references.get(found.main)) is not None:
        others = {"umbrella sampling": reference.profile} | others
    return free_energy(
        found.profile, others, coordinate="dimer distance d", label=_label(found, found.main)
    )


def _label(found: DimerEstimates, tau: float) -> str:
    return "generator and simulations pooled" if tau in found.pooled else "plain weights"


def _configurations(
    config: DimerConfig, energy: ParticleDimer, samples: Path, r: np.ndarray, u: np.ndarray
) -> Figure:
    """Draw the generated configuration of median energy near each of three distances."""
    (x,) = next(read_columns(samples, "x", chunk=_SHOWN))
    closed, opened = config.data.start
    places = {"closed": closed, "transition": config.analysis.split, "open": opened}
    shown, energies = {}, {}
    for name, distance in places.items():
        near = np.flatnonzero((np.abs(r - distance) < 0.1) & np.isfinite(u))
        chosen = near[np.argsort(u[near])[len(near) // 2]] if len(near) else None
        shown[name] = np.empty(0) if chosen is None else x[chosen]
        if chosen is not None:
            energies[name] = float(u[chosen])
    params = energy.params
    return dimer_configurations(shown, box=params.l, sigma=params.sigma, energies=energies)


@torch.no_grad()
def _latent(data: StateData, flow: Sequential) -> dict[str, np.ndarray]:
    walkers = data.held_out if data.held_out.any() else np.ones_like(data.held_out)
    latent = {}
    for state, name in enumerate(STATES):
        x = data.x[walkers & (data.state == state)].reshape(-1, data.x.shape[-1])
        rows = torch.from_numpy(x[:: max(1, len(x) // _LATENT_ROWS)])
        parameter = next(flow.parameters())
        z, _ = flow.inverse(rows.to(parameter))
        latent[f"{name}, held out" if data.held_out.any() else name] = z.cpu().numpy()
    return latent
