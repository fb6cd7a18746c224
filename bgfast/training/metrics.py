"""metrics.jsonl: one line of JSON per so many steps, kept in step with the checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from bgfast.training.checkpoint import CheckpointError


class MetricsFile:
    """Appends lines to a file, each flushed as it is written.

    Parameters
    ----------
    path
        The file, or None to write nothing.
    keep_bytes
        Cut the file to this length first, so that a resumed run repeats no line.

    Raises
    ------
    CheckpointError
        If the file is shorter than ``keep_bytes``.
    """

    def __init__(self, path: Path | None, keep_bytes: int = 0) -> None:
        self._file: IO[bytes] | None = None
        if path is None:
            return
        size = path.stat().st_size if path.exists() else 0
        if size < keep_bytes:
            raise CheckpointError(
                f"{path} has {size} bytes, the checkpoint beside it expects {keep_bytes}; "
                "put the file back, or start again in another folder"
            )
        self._file = path.open("ab")
        self._file.truncate(keep_bytes)

    def write(self, values: Mapping[str, float | int | None]) -> None:
        """Append one line; numbers that are not finite become null."""
        if self._file is not None:
            line = {k: v if v is None or math.isfinite(v) else None for k, v in values.items()}
            self._file.write((json.dumps(line, allow_nan=False) + "\n").encode())
            self._file.flush()

    @property
    def n_bytes(self) -> int:
        """Length of the file."""
        return 0 if self._file is None else self._file.seek(0, 2)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class Window:
    """What happened in the steps since the last line, kept on the device until it is read.

    Parameters
    ----------
    columns
        Names of the numbers recorded in each step.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._rows: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, values: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Return the numbers of one step; a column without a value is NaN."""
        nan = like.new_full((), math.nan)
        row = [values[c].detach().to(like.dtype) if c in values else nan for c in self._columns]
        return torch.stack(row)

    def add(self, row: Tensor) -> None:
        """Record the :meth:`row` of one step."""
        self._rows.append(row)

    def table(self) -> Tensor:
        """Return the recorded numbers, ``[n_steps, n_columns]``, where they are."""
        return torch.stack(self._rows)

    def columns(self, table: Tensor) -> dict[str, Tensor]:
        """Return a table that is on the host by column, in float64."""
        return dict(zip(self._columns, table.double().unbind(1), strict=True))

    def read(self) -> dict[str, Tensor]:
        """Return the recorded numbers by column on the host; waits for the device."""
        return self.columns(self.table().cpu())

    def clear(self) -> None:
        """Forget all steps."""
        self._rows.clear()

    def state(self) -> list[Tensor]:
        """Return the recorded rows, for the checkpoint."""
        return list(self._rows)

    def load_state(self, rows: list[Tensor]) -> None:
        """Go back to where :meth:`state` was taken."""
        self._rows = list(rows)
