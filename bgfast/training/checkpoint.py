"""Checkpoints: plain tensors and dicts, loadable with ``weights_only=True``, written atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import bgfast
from bgfast.errors import UserError

FORMAT = "bgfast-training-1"

_KEYS = {"format", "versions", "config", "flow_config", "flow", "optimizer", "step", "data"}
_KEYS |= {"generators", "metrics"}


class CheckpointError(UserError):
    """A checkpoint cannot be read or does not belong to this training."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path`` so that a reader sees the old file or the new one, whole.

    Parameters
    ----------
    path
        File to write; its folder must exist.
    state
        Tensors, numbers, strings, lists and dicts. Format and versions are added.
    """
    versions = {"bgfast": bgfast.__version__, "torch": str(torch.__version__)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({**state, "format": FORMAT, "versions": versions}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Parameters
    ----------
    path
        File written by a :class:`bgfast.training.trainer.Trainer`.
    device
        Where the tensors are put.

    Returns
    -------
    dict
        ``flow_config`` (what the flow was built from, or None), ``flow`` (its state),
        ``optimizer``, ``step``, ``config`` (of the training), ``data`` (its shape),
        ``generators``, ``metrics``, ``versions``, ``format``.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is not a whole checkpoint of this format.
    """
    advice = "start again in another folder, or put a good copy of the file back"
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; start without resuming") from None
    except (PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from None
    except Exception as error:  # pickle, zip, the OS and torch raise many kinds for a damaged file
        first_line = str(error).partition("\n")[0][:120]
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({type(error).__name__}: {first_line}); "
            f"{advice}"
        ) from None
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of bgfast; {advice}")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']!r}, this version reads {FORMAT!r}; "
            "use the version of bgfast that wrote it"
        )
    if missing := _KEYS - state.keys():
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}; {advice}")
    return state


def require_same(path: Path, what: str, saved: Any, current: Any) -> None:
    """Raise unless two configurations agree, naming every key that differs.

    Raises
    ------
    CheckpointError
        If ``saved`` and ``current`` differ.
    """
    differing = _differences("", saved, current)
    if differing:
        raise CheckpointError(
            f"{path} belongs to another {what}: {'; '.join(differing)}; "
            "resume with the settings it was made with, or start in another folder"
        )


def _differences(key: str, saved: Any, current: Any) -> list[str]:
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        children: list[Any] = sorted(saved.keys() | current.keys())
        pairs = [(f"{key}.{k}" if key else k, saved.get(k), current.get(k)) for k in children]
    elif isinstance(saved, list) and isinstance(current, list) and len(saved) == len(current):
        pairs = [(f"{key}[{i}]", *both) for i, both in enumerate(zip(saved, current, strict=True))]
    else:
        return [] if saved == current else [f"{key} was {saved!r}, now {current!r}"]
    return [difference for pair in pairs for difference in _differences(*pair)]
