"""``report.html``: one self-contained page with numbers, verdict and figures."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from bgfast._files import atomic_write
from bgfast.analysis.diagnostics import Verdict
from bgfast.analysis.estimate import Estimate

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FIGURE_DPI = 150
_PAGE_DPI = 120  # CSS pixels for an inch of figure: its lettering comes out like the text's
_MARKS = {"good": "✓", "caution": "!", "poor": "✗"}
_WORDS = {"good": "Good", "caution": "Caution", "poor": "Poor"}


@dataclass(frozen=True)
class Table:
    """A table: column titles, and rows of numbers, estimates or text.

    Floats print with four significant digits; format them yourself where another number is wanted.
    Columns whose cells are all numbers or estimates are aligned to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of the table has {len(row)} cells, the table {len(self.columns)} "
                    f"columns: {list(row)}"
                )


@dataclass(frozen=True)
class _Card:
    label: str
    value: str
    note: str


@dataclass(frozen=True)
class _Figure:
    source: str  # data URI
    caption: str
    width: int  # CSS pixels


@dataclass(frozen=True)
class _Table:
    columns: list[str]
    numeric: list[bool]
    rows: list[list[str]]
    caption: str


@dataclass(frozen=True)
class _Section:
    title: str
    paragraphs: list[str]
    table: _Table | None
    figures: list[_Figure]
    verdict: Verdict | None


class Report:
    """Collects headline numbers and sections, and writes them as one HTML file.

    All text is escaped; nothing is loaded from elsewhere and there is no script. "k_B T" in a text
    is set with a subscript.

    Parameters
    ----------
    title
        Title of the page.
    subtitle
        One line beneath it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._cards: list[_Card] = []
        self._sections: list[_Section] = []
        self._details: list[tuple[str, str]] = []

    def add_headline(self, label: str, value: object, note: str = "") -> None:
        """Add a number to the cards at the top; floats print with four significant digits."""
        self._cards.append(_Card(label, _text(value), note))

    def add_section(
        self,
        title: str,
        text: str = "",
        table: Table | None = None,
        figures: Sequence[tuple[str | os.PathLike[str], str]] = (),
        verdict: Verdict | None = None,
    ) -> None:
        """Add a section.

        Parameters
        ----------
        title
            Its title.
        text
            Plain text; blank lines separate paragraphs.
        table
            A table.
        figures
            Pairs (path of a PNG, caption); read now.
        verdict
            From :func:`bgfast.analysis.diagnostics.trust`, shown in words and colour.

        Raises
        ------
        ValueError
            If a figure is missing or not a PNG.
        """
        self._sections.append(
            _Section(
                title,
                [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()],
                _prepared(table) if table is not None else None,
                [_embedded(Path(path), caption) for path, caption in figures],
                verdict,
            )
        )

    def add_details(self, title: str, content: str | Mapping[str, object]) -> None:
        """Add a collapsed block at the end: text as it is, or names and values."""
        if isinstance(content, Mapping):
            width = max((len(str(name)) for name in content), default=0)
            content = "\n".join(f"{name!s:<{width}}  {_text(v)}" for name, v in content.items())
        self._details.append((title, content.rstrip()))

    def html(self) -> str:
        """Return the page."""
        from jinja2 import Environment, PackageLoader

        environment = Environment(
            loader=PackageLoader("bgfast.analysis"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["typeset"] = _typeset
        return environment.get_template("report.html.j2").render(
            title=self.title,
            subtitle=self.subtitle,
            cards=self._cards,
            sections=self._sections,
            details=self._details,
            marks=_MARKS,
            words=_WORDS,
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, under a temporary name that is then renamed."""
        page = self.html()
        with atomic_write(path) as temporary:
            temporary.write_text(page, encoding="utf-8")


def _prepared(table: Table) -> _Table:
    numeric = [
        bool(table.rows) and all(isinstance(row[j], _NUMBERS) for row in table.rows)
        for j in range(len(table.columns))
    ]
    rows = [[_text(cell) for cell in row] for row in table.rows]
    return _Table(list(table.columns), numeric, rows, table.caption)


_NUMBERS = (int, float, np.integer, np.floating, Estimate)


def _text(value: object) -> str:
    """Return a cell or headline as text: integers with separators, floats with four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float | np.floating):
        return f"{value:.4g}".replace("-", "−") if np.isfinite(value) else "–"
    if isinstance(value, Estimate):
        return str(value).replace("-", "−")
    return str(value)


def _typeset(text: str) -> Markup:
    """Escape the text and set the unit of energy with a subscript."""
    return Markup(str(escape(text)).replace("k_B T", "<i>k</i><sub>B</sub><i>T</i>"))


def _embedded(path: Path, caption: str) -> _Figure:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the figure {path}: {error.strerror}") from None
    if not content.startswith(_PNG_SIGNATURE) or len(content) < 24:
        raise ValueError(f"the figure {path} is not a PNG file")
    (pixels,) = struct.unpack(">I", content[16:20])
    encoded = base64.b64encode(content).decode("ascii")
    width = round(pixels / _FIGURE_DPI * _PAGE_DPI)
    return _Figure(f"data:image/png;base64,{encoded}", caption, width)
