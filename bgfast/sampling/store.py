"""Samples in HDF5: appended chunk by chunk, readable while being written, whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from bgfast._files import flush_to_disk
from bgfast.errors import UserError

_ROWS_PER_CHUNK = 1024
_ADVICE = "delete it and run again"


class StoreError(UserError):
    """A sample file is missing, damaged or not what was expected."""


class SampleWriter:
    """Append rows to ``<path>.part``; :meth:`finish` gives the file its name.

    While it is written, ``<path>.part`` can be read by other processes (HDF5 single writer,
    multiple readers). A writer opened on the part file of a killed run continues after its last
    whole chunk.

    Parameters
    ----------
    path
        Final name.
    columns
        Column name -> (shape of a row, dtype).
    attributes
        Facts about the samples (seed, tau, system ...), stored on the file. A part file whose
        attributes differ belongs to another run and is replaced.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, tuple[tuple[int, ...], str]],
        attributes: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        left = self.part.with_name(self.part.name + ".left")
        if self.part.exists():
            os.replace(self.part, left)
        self._file = self._create(columns, attributes)
        if left.exists():
            self._take_over(left, attributes)
            left.unlink()
        self._file.swmr_mode = True

    @property
    def n_rows(self) -> int:
        """Number of rows that every column holds."""
        return min(len(column) for column in self._file.values())

    def append(self, **rows: np.ndarray) -> None:
        """Append rows; every column must be given, with the same number of rows."""
        lengths = {name: len(values) for name, values in rows.items()}
        if set(rows) != set(self._file) or len(set(lengths.values())) != 1:
            raise ValueError(f"columns {sorted(self._file)} need equally many rows, got {lengths}")
        start = self.n_rows
        for name, values in rows.items():
            column = self._file[name]
            column.resize(start + len(values), axis=0)
            column[start:] = values
        for column in self._file.values():
            column.flush()

    def finish(self) -> None:
        """Close the file and give it its final name."""
        self._file.close()
        flush_to_disk(self.part)
        os.replace(self.part, self.path)

    def close(self) -> None:
        """Close the part file and leave it for a later run to continue."""
        self._file.close()

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()

    def _create(self, columns: Mapping[str, Any], attributes: Mapping[str, Any]) -> h5py.File:
        file = h5py.File(self.part, "w", libver="latest")
        for name, (shape, dtype) in columns.items():
            file.create_dataset(
                name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(_ROWS_PER_CHUNK, *shape)
            )
        file.attrs.update(attributes)
        return file

    def _take_over(self, left: Path, attributes: Mapping[str, Any]) -> None:
        # A killed writer leaves its file marked as open for writing: it can be read, not continued.
        try:
            with h5py.File(left, "r", swmr=True) as old:
                same = set(old) == set(self._file) and all(
                    name in old.attrs and np.array_equal(old.attrs[name], value)
                    for name, value in attributes.items()
                )
                if same:
                    for rows in _rows(old, sorted(old), 65536):
                        self.append(**dict(zip(sorted(old), rows, strict=True)))
        except OSError:  # killed before the first flush: nothing to continue
            return


def read_columns(path: Path, *names: str, chunk: int = 65536) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the columns ``names`` of a sample file in chunks of rows.

    Raises
    ------
    StoreError
        If the file is missing, damaged, lacks a column, or a finished file holds another number of
        rows than it says.
    """
    with open_samples(path) as file:
        missing = [name for name in names if name not in file]
        if missing:
            raise StoreError(f"{path} has no column {', '.join(missing)}; it holds {sorted(file)}")
        n_rows, n = min(len(file[name]) for name in names), file.attrs.get("n")
        if n is not None and n_rows != n and not _is_part(path):
            raise StoreError(f"{path} holds {n_rows} rows instead of {n}; {_ADVICE}")
        try:
            yield from _rows(file, names, chunk)
        except (OSError, RuntimeError) as error:
            raise StoreError(f"{path} is damaged ({error}); {_ADVICE}") from error


def open_samples(path: Path) -> h5py.File:
    """Open a sample file for reading; see :func:`read_columns` for errors."""
    if not Path(path).exists():
        raise StoreError(f"{path} does not exist")
    try:
        # While a file is written its end is not where its header says. Afterwards that is the sign
        # of a truncated file, which would be read as zeros.
        return h5py.File(path, "r", swmr=_is_part(path))
    except (OSError, RuntimeError) as error:
        raise StoreError(f"{path} is not a readable HDF5 file ({error}); {_ADVICE}") from error


def _is_part(path: Path) -> bool:
    return Path(path).suffix == ".part"


def _rows(file: h5py.File, names: Sequence[str], chunk: int) -> Iterator[tuple[np.ndarray, ...]]:
    n = min(len(file[name]) for name in names)
    for first in range(0, n, chunk):
        yield tuple(file[name][first : min(first + chunk, n)] for name in names)
