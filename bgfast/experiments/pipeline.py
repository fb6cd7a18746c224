"""Stages that every experiment shares: seeds, building a flow, training it, drawing from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgfast.energies import Energy
from bgfast.errors import UserError
from bgfast.experiments.config import FlowConfig, SamplingConfig
from bgfast.experiments.progress import Reporter
from bgfast.flows import Flow, Sequential, Whitening, architecture, from_config
from bgfast.flows.conditioner import Conditioner
from bgfast.sampling.generate import generate
from bgfast.sampling.store import SampleWriter
from bgfast.training.checkpoint import load_checkpoint
from bgfast.training.lines import Metrics
from bgfast.training.schedule import TrainingConfig
from bgfast.training.trainer import CHECKPOINT, Trainer

Columns = Callable[[Tensor], Mapping[str, np.ndarray]]
"""Further columns of a sample file, computed from configurations ``[n, dim]`` in float64."""


_VALIDATION_ROWS = 4096


def seed_for(seed: int, purpose: str) -> int:
    """Return the seed of one purpose of a run; purposes are independent of each other."""
    key = [seed, *purpose.encode()]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])


def usable_device(name: str) -> torch.device:
    """Return the device called ``name``.

    Raises
    ------
    UserError
        If torch sees no such device.
    """
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name} is not there: torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def build_flow(config: FlowConfig, dim: int, seed: int, data: Tensor, n_dim: int = 2) -> Sequential:
    """Return an untrained float32 flow, with the whitening fitted to ``data[n, dim]``."""
    try:
        whitening = None
        if config.whitening != "none":
            whitening = Whitening.fit(data.double(), config.whitening)
        return architecture(
            config.architecture,
            dim,
            config.hidden,
            config.activation,
            split=config.split,
            n_dim=n_dim,
            whitening=whitening,
            spline_bins=config.spline_bins,
            spline_bound=config.spline_bound,
            precision=config.precision,
            seed=seed,
        )
    except ValueError as error:
        raise UserError(f"flow: {error}") from error


def train(
    flow: Flow,
    energy: Energy,
    config: TrainingConfig,
    folder: Path,
    title: str,
    reporter: Reporter,
    *,
    data: Tensor,
    validation: Tensor | None,
    reaction_coordinate: Callable[[Tensor], Tensor],
    data_tau: Tensor | None = None,
    validation_tau: Tensor | None = None,
) -> None:
    """Train ``flow`` in place, or continue from (or load) the checkpoint in ``folder``."""
    with reporter.stage(title, config.total_steps) as advance:

        def show(step: int, total: int, metrics: Metrics) -> None:
            parts = [(name, metrics.get(name)) for name in ("ml", "kl", "rc")]
            advance(step, "  ".join(f"{name} {v:.2f}" for name, v in parts if v is not None))

        dtype = torch.float32
        trainer = Trainer(
            flow,
            energy,
            config,
            data=data.to(dtype),
            data_tau=data_tau,
            validation=None if validation is None else _some(validation).to(dtype),
            validation_tau=None if validation_tau is None else _some(validation_tau),
            reaction_coordinate=reaction_coordinate,
            out=folder,
            progress=show,
        )
        trainer.run(resume=(folder / CHECKPOINT).exists())


def _some(validation: Tensor) -> Tensor:
    """Return evenly spread rows, so that looking at them costs little beside the training."""
    return validation[:: max(1, len(validation) // _VALIDATION_ROWS)]


def load_flow(folder: Path, total_steps: int, device: torch.device | str = "cpu") -> Sequential:
    """Return the flow whose training left its checkpoint in ``folder``.

    Raises
    ------
    UserError
        If there is no checkpoint, it is damaged, or the training is not finished.
    """
    state = load_checkpoint(folder / CHECKPOINT, device)
    if state["step"] != total_steps:
        raise UserError(
            f"training in {folder} stands at step {state['step']} of {total_steps}; "
            "finish it with bgfast run ... --resume"
        )
    flow = from_config(state["flow_config"]).to(device)
    flow.load_state_dict(state["flow"])
    return flow


def flow_digest(flow: Flow) -> str:
    """Return a hash of the flow's numbers, to tell its samples from those of another flow."""
    digest = hashlib.sha256()
    for module in flow.modules():  # the same numbers make another flow in another precision
        if isinstance(module, Conditioner) and module.precision != "full":
            digest.update(module.precision.encode())
    for name, tensor in sorted(flow.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def draw(
    flow: Flow,
    energy: Energy,
    path: Path,
    config: SamplingConfig,
    tau: float,
    seed: int,
    title: str,
    reporter: Reporter,
    *,
    columns: Columns,
    attributes: Mapping[str, Any],
) -> None:
    """Draw and weigh ``config.n`` samples into the HDF5 file ``path``, unless it is there already.

    Columns: ``x`` (float32), ``energy`` and ``log_w`` (float64), and those that ``columns`` adds.
    A killed draw goes on after its last whole chunk.
    """
    with reporter.stage(title, config.n, "samples") as advance:
        if path.exists():
            return
        extra = columns(torch.zeros(0, energy.dim, dtype=torch.float64))
        layout = {"x": ((energy.dim,), "f4"), "energy": ((), "f8"), "log_w": ((), "f8")}
        layout |= {name: (rows.shape[1:], rows.dtype.str) for name, rows in extra.items()}
        facts = {"tau": tau, "seed": seed, "n": config.n, "latent": config.latent, **attributes}
        facts |= {"energy": repr(energy), "flow": flow_digest(flow)}
        with SampleWriter(path, layout, facts) as writer:
            batches = generate(
                flow,
                energy,
                config.n,
                tau=tau,
                seed=seed,
                chunk=config.chunk,
                start=writer.n_rows,
                latent=config.latent,
            )
            for batch in batches:
                writer.append(
                    x=batch.x.cpu().numpy(),
                    energy=batch.energy.cpu().numpy(),
                    log_w=batch.log_w.cpu().numpy(),
                    **columns(batch.x.double()),
                )
                advance(writer.n_rows)
