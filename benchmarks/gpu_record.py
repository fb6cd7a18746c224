"""Tables that are printed row by row and kept in a JSON file that is whole after every row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.timing import cell
from bgfast._files import atomic_write

_LEAST_WIDTH = 8
_WIDTHS = {"kernel": 38, "mapping": 16, "what": 34, "variant": 16, "found": 52}
"""Of columns whose later words may be longer than the first one."""

Row = dict[str, Any]


class Record:
    """What a report found so far.

    Parameters
    ----------
    path
        JSON file, replaced as a whole whenever something is added; ``None`` for none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.found: dict[str, Any] = {}
        self._path = path
        self._widths: dict[str, list[int]] = {}

    def note(self, key: str, value: Any) -> None:
        """Keep a value under ``key``."""
        self.found[key] = value
        self._write()

    def row(self, table: str, row: Row) -> None:
        """Print a row and add it to the table, whose rows all have the same keys."""
        rows = self.found.setdefault(table, [])
        cells = [cell(value) for value in row.values()]
        if not rows:
            pairs = zip(row, cells, strict=True)
            self._widths[table] = [
                max(len(k), len(c), _WIDTHS.get(k, _LEAST_WIDTH)) for k, c in pairs
            ]
            print(f"\n{table}:\n{self._line(table, list(row))}", flush=True)
        rows.append(row)
        print(self._line(table, cells), flush=True)
        self._write()

    def _line(self, table: str, cells: list[str]) -> str:
        widths = self._widths[table]
        return "  ".join(c.rjust(width) for c, width in zip(cells, widths, strict=True))

    def _write(self) -> None:
        if self._path is None:
            return
        with atomic_write(self._path) as temporary:
            temporary.write_text(json.dumps(self.found, indent=2) + "\n")
