"""Iterative exploration from one configuration: train, move in latent space, train again.

Jittered copies of the configuration are the first examples. Each iteration trains the flow by
energy and by example and then moves the examples by Metropolis steps in its latent space; what is
accepted are the examples of the next iteration (arXiv:1812.01729). The state is saved after every
iteration, so that a killed exploration goes on as if it had not been.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgfast._files import atomic_write
from bgfast.errors import UserError
from bgfast.experiments.explore_config import ExploreConfig
from bgfast.experiments.explore_landscape import Landscape
from bgfast.experiments.pipeline import build_flow, seed_for
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow, Sequential
from bgfast.sampling.exploration import latent_metropolis
from bgfast.sampling.generate import generate
from bgfast.training.lines import Metrics
from bgfast.training.trainer import Trainer

FILE = "exploration.pt"
_DRAWN = 5000
"""Rows generated in each iteration to show what the flow has learnt."""


@dataclass(frozen=True)
class Frame:
    """One iteration; the first one is the training on jittered copies.

    Parameters
    ----------
    x
        The population, ``[n, dim]``, float32.
    energy
        Its reduced energies, ``[n]``, float64.
    reference
        Configuration whose labelling it follows, ``[dim]``; empty without identical particles.
    generated, log_w
        Coordinate and log weights of configurations drawn from the flow, ``[m]``, float64; weight 0
        outside the labelling of the population.
    acceptance, fresh_acceptance
        Accepted shares of the proposals; see :class:`bgfast.sampling.exploration.Population`.
    below, above
        Share of the population on either side of the split.
    losses
        Terms of the loss at the end of the training.
    evaluations
        Energies of the population and of what was drawn that the iteration computed.
    """

    x: Tensor
    energy: Tensor
    reference: Tensor
    generated: Tensor
    log_w: Tensor
    acceptance: float
    fresh_acceptance: float
    below: float
    above: float
    losses: dict[str, float | None]
    evaluations: int


@dataclass(frozen=True)
class Exploration:
    """All iterations of an exploration."""

    frames: list[Frame]

    def found(self, share: float) -> int | None:
        """Return the first iteration with ``share`` of the population on either side, if any."""
        there = (i for i, f in enumerate(self.frames) if min(f.below, f.above) >= share)
        return next(there, None)


def explore(
    config: ExploreConfig, landscape: Landscape, folder: Path, reporter: Reporter
) -> tuple[Sequential, Exploration]:
    """Explore until both sides of the split hold their share, or ``max_iterations`` are done.

    Returns
    -------
    tuple
        The flow as the last iteration left it, and all iterations.
    """
    section = config.exploration
    flow = _new_flow(config, landscape)
    frames: list[Frame] = []
    if (folder / FILE).exists():
        frames = load_exploration(folder).frames
        flow.load_state_dict(_read(folder)["flow"])
    flow.to(config.device)
    with reporter.stage("explore", section.max_iterations, "iterations at most") as advance:
        while not _ended(config, frames):
            frames.append(_iteration(config, landscape, flow, frames))
            _save(folder, flow, frames)
            last = frames[-1]
            note = f"below {last.below:.1%}, above {last.above:.1%} of the population"
            advance(len(frames) - 1, note)
    return flow, Exploration(frames)


def load_exploration(folder: Path) -> Exploration:
    """Return the exploration that is in the folder.

    Raises
    ------
    UserError
        If there is none or its file is damaged.
    """
    names = {field.name for field in fields(Frame)}
    state = _read(folder)
    if any(set(frame) != names for frame in state["frames"]):
        raise UserError(f"{folder / FILE} was written by another version; start in another --out")
    return Exploration([Frame(**frame) for frame in state["frames"]])


def _ended(config: ExploreConfig, frames: list[Frame]) -> bool:
    section = config.exploration
    done, found = len(frames) - 1, Exploration(frames).found(section.found)
    return done >= section.max_iterations or (found is not None and done >= found + section.after)


def _new_flow(config: ExploreConfig, landscape: Landscape) -> Sequential:
    spread = _jittered(config, landscape, config.exploration.spread, "whitening")
    return build_flow(config.flow, landscape.energy.dim, seed_for(config.seed, "flow"), spread)


def _jittered(config: ExploreConfig, landscape: Landscape, width: float, purpose: str) -> Tensor:
    n, start = config.exploration.n_population, landscape.start.float()
    generator = torch.Generator().manual_seed(seed_for(config.seed, purpose))
    return start + width * torch.randn(n, len(start), generator=generator)


def _iteration(
    config: ExploreConfig, landscape: Landscape, flow: Flow, frames: list[Frame]
) -> Frame:
    section, number = config.exploration, len(frames)
    x = frames[-1].x if frames else _jittered(config, landscape, section.jitter, "jitter")
    x = x.to(config.device)
    reference, allowed = torch.empty(0), None
    if landscape.labelling is not None:
        x, reference = landscape.labelling.relabelled(x)
        allowed = landscape.labelling.region(reference)
    trained = _train(config, landscape, flow, x, number)
    energy = landscape.energy.energy(x.double())
    acceptance = fresh_acceptance = float("nan")
    evaluations = len(x) + _DRAWN
    if frames:
        seed = seed_for(config.seed, f"moves {number}")
        n_steps, moves = section.n_steps, section.moves()
        moved = latent_metropolis(
            flow, landscape.energy, x, n_steps, moves, seed=seed, allowed=allowed
        )
        x, energy = moved.x, moved.energy
        acceptance, fresh_acceptance = moved.acceptance, moved.fresh_acceptance
        evaluations += len(x) * n_steps
    seed = seed_for(config.seed, f"shown {number}")
    drawn = list(generate(flow, landscape.energy, _DRAWN, seed=seed))
    shown = torch.cat([batch.x for batch in drawn])
    log_w = torch.cat([batch.log_w for batch in drawn])
    if allowed is not None:
        log_w = torch.where(allowed(shown).to(log_w.device), log_w, -torch.inf)
    above = float((landscape.coordinate(x) >= config.analysis.split).double().mean())
    return Frame(
        x=x.cpu(),
        energy=energy.cpu(),
        reference=reference.cpu(),
        generated=landscape.coordinate(shown).double().cpu(),
        log_w=log_w.cpu(),
        acceptance=acceptance,
        fresh_acceptance=fresh_acceptance,
        below=1 - above,
        above=above,
        losses={name: trained.get(name) for name in ("ml", "kl", "rc", "energy")},
        evaluations=evaluations,
    )


def _train(
    config: ExploreConfig, landscape: Landscape, flow: Flow, x: Tensor, number: int
) -> Metrics:
    stages = config.training.iteration if number else config.training.first
    schedule = config.training.schedule(stages, seed_for(config.seed, f"train {number}"))
    trainer = Trainer(
        flow, landscape.energy, schedule, data=x, reaction_coordinate=landscape.coordinate
    )
    return trainer.run()


def _save(folder: Path, flow: Flow, frames: list[Frame]) -> None:
    state = {"flow": flow.state_dict(), "frames": [asdict(frame) for frame in frames]}
    with atomic_write(folder / FILE) as file:
        torch.save(state, file)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {"flow": state["flow"], "frames": list(state["frames"])}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run the exploration first") from None
    except Exception as error:  # pickle, zip and torch raise many kinds for a damaged file
        line = str(error).partition("\n")[0][:120]
        raise UserError(f"{path} is damaged ({line}); start in another --out") from None
