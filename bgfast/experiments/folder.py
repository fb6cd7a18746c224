"""The folder of one run: what is in it, and how a killed run is continued."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bgfast._files import atomic_write
from bgfast.errors import UserError
from bgfast.experiments.config import parse_toml, to_toml


class RunFolder:
    """Files of one run, and the seconds spent on each of its stages.

    A stage is finished when its file has its final name; a resumed run skips finished stages.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.data = self.path / "data.h5"
        self.estimation = self.path / "estimation.h5"
        self.annealed = self.path / "annealed.h5"
        self.figures = self.path / "figures"
        self.summary = self.path / "summary.json"
        self.report = self.path / "report.html"
        self._timings = self.path / "timings.json"

    @classmethod
    def open(cls, path: Path, config: BaseModel, *, resume: bool) -> RunFolder:
        """Start a run in ``path``, or continue the one that is there.

        Raises
        ------
        UserError
            If the folder holds something and ``resume`` is not set, if there is nothing to resume,
            or if the run there had another configuration.
        """
        folder = cls(path)
        if folder.path.exists() and not folder.path.is_dir():
            raise UserError(f"{path} is a file, not a folder; choose another --out")
        if resume:
            folder._check_same(config)
            return folder
        if folder.path.exists() and any(folder.path.iterdir()):
            held = "already holds a run" if folder.config.exists() else "is not empty"
            raise UserError(
                f"{path} {held}; choose another --out"
                + (", or continue it with --resume" if folder.config.exists() else "")
            )
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder.config) as file:
                file.write_text(to_toml(config), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}") from None
        return folder

    def samples_at(self, tau: float) -> Path:
        """Return the file of the samples drawn at relative temperature ``tau``."""
        return self._at(self.path / "samples.h5", tau)

    def data_at(self, tau: float) -> Path:
        """Return the file of the simulations at relative temperature ``tau`` that train."""
        return self._at(self.data, tau)

    def estimation_at(self, tau: float) -> Path:
        """Return the file of the simulations at ``tau`` that serve the estimate alone."""
        return self._at(self.estimation, tau)

    def reference_at(self, tau: float) -> Path:
        """Return the file of the reference at relative temperature ``tau``."""
        return self._at(self.path / "reference.json", tau)

    def windows_at(self, tau: float) -> Path:
        """Return the file of the windows simulated at relative temperature ``tau``."""
        return self._at(self.path / "windows.h5", tau)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to ``stage``, also when it is interrupted."""
        start, seconds = time.perf_counter(), self.seconds()
        try:
            yield
        finally:
            seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
            with atomic_write(self._timings) as file:
                file.write_text(json.dumps(seconds, indent=1), encoding="utf-8")

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent per stage so far, resumed parts included."""
        if not self._timings.exists():
            return {}
        try:
            timings = json.loads(self._timings.read_text(encoding="utf-8"))
            return {str(stage): float(seconds) for stage, seconds in timings.items()}
        except (ValueError, TypeError, AttributeError):
            raise UserError(f"{self._timings} is damaged; delete it and run again") from None

    def table(self) -> dict[str, Any]:
        """Return the configuration of the run that is in this folder.

        Raises
        ------
        UserError
            If the folder holds no run.
        """
        if not self.config.exists():
            raise UserError(f"{self.path} holds no run (no config.toml)")
        return parse_toml(self.config)

    @staticmethod
    def _at(path: Path, tau: float) -> Path:
        return path if tau == 1 else path.with_stem(f"{path.stem}-tau-{tau!r}")

    def _check_same(self, config: BaseModel) -> None:
        before, now = flattened(self.table()), flattened(tomllib.loads(to_toml(config)))
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        if changed:
            raise UserError(
                f"{self.path} was run with another configuration, it differs in "
                f"{', '.join(changed)}; give the same settings, or another --out"
            )


def flattened(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a table of tables as one, with keys like ``section.key``."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
