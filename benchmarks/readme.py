"""Write what is kept in ``benchmarks/results`` into README: ``python -m benchmarks.readme``.

Nothing is measured here, and nothing between the two marks in README is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"

UNITS = {
    "energy": ("Energy + gradient", "ns", 1e9),
    "kde": ("Kernel density + gradient", "ms", 1e3),
    "flow": ("Flow R8", "us", 1e6),
    "spline": ("Spline", "us", 1e6),
    "relabelling": ("Relabelling", "us", 1e6),
    "samplers": ("Sampler", "us", 1e6),
    "reweight": ("Draw + reweight", "us", 1e6),
}
COLUMNS = ("torch eager", "torch.compile", "JAX")


def peers(found: dict[str, Any]) -> str:
    """Return the table of :mod:`benchmarks.peers`: bgfast's time, and the multiples of it."""
    lines = [
        f"| per item | bgfast [quartiles] | {' | '.join(COLUMNS)} | others |",
        "|---" * (3 + len(COLUMNS)) + "|",
    ]
    cases: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found["rows"]:
        cases.setdefault((row["question"], row["case"]), []).append(row)
    for (question, case), rows in cases.items():
        title, unit, scale = UNITS[question]
        own = rows[0]
        q1, median, q3 = (_number(own[key] * scale) for key in ("q1", "median", "q3"))
        cells = [f"{median} {unit} [{q1}, {q3}]"]
        others = rows[1:]
        for column in COLUMNS:
            mine = [row for row in others if row["code"].startswith(column)]
            others = [row for row in others if row not in mine]
            cells.append(_multiple(mine[0]) if mine else "")
        rest = (f"{_short(row['code'])} {_multiple(row)}" for row in others)
        cells.append("; ".join(cell for cell in rest if not cell.endswith(" ")))
        lines.append(f"| {title}: {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _multiple(row: dict[str, Any]) -> str:
    if row["status"].startswith("absent"):
        return ""
    return f"{_number(row['relative'], 2)}x" if row["relative"] else row["status"].split(":")[0]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) - 0.5 else f"{value:.{digits}g}"


def _short(code: str) -> str:
    if code.startswith("bgfast"):  # another way of its own
        return code
    return code.split(",")[0].replace(" (no gradient)", " (density only)")


def ratios(found: dict[str, Any]) -> str:
    lines = ["| | measured [quartiles] | aim |", "|---|---|---|"]
    for row in found["rows"]:
        value = f"{row['ratio']:.3g} [{row['q1']:.3g}, {row['q3']:.3g}]"
        lines.append(f"| {row['what']} | {value} | {row['goal']} |")
    return "\n".join(lines)


def scaling(found: dict[str, Any]) -> str:
    def power(fit: dict[str, Any], key: str) -> str:
        return "flat" if fit[key] is None else f"{fit['against']}^{fit[key]:.2f}"

    fits = (
        f"{fit['what']} {power(fit, 'time')} (memory {power(fit, 'memory')})"
        for fit in found["fits"]
    )
    return (
        "![Time and memory against batch size and particle number]"
        "(benchmarks/results/scaling.png)\n\nFitted over the three largest sizes: "
        + "; ".join(fits)
        + "."
    )


def flat(found: dict[str, Any]) -> str:
    spec, hidden = found["flow"]
    rows = ", ".join(
        f"{row['peak_mib']:,.0f} MiB for {row['n']:,} ({row['seconds']:.3g} s)"
        for row in found["rows"]
    )
    return (
        "Draw + reweight in flat memory; peak resident memory of the process with a small flow "
        f"({spec}, networks {'x'.join(map(str, hidden))}): {rows}."
    )


def machine(found: dict[str, Any]) -> str:
    items = (f"{k} {v}" for k, v in found["machine"].items() if k not in ("cpu", "avx512"))
    avx512 = " (AVX-512)" if found["machine"].get("avx512") else ""
    return f"{found['machine']['cpu']}{avx512}, {', '.join(items)}."


SECTIONS = (("peers", peers), ("ratios", ratios), ("scaling", scaling), ("ten_million", flat))


def section(results: Path) -> str:
    """Return the text between the marks, of the results that are there."""
    parts = []
    for name, written in SECTIONS:
        path = results / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text())
            parts += [written(found), machine(found)]
    return "\n\n".join(parts)


def replaced(text: str, inside: str) -> str:
    """Return ``text`` with what is between the marks replaced."""
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n{inside}\n{END}{after}"


def main(arguments: Sequence[str] = ()) -> None:
    readme = ROOT / "README.md"
    readme.write_text(replaced(readme.read_text(), section(RESULTS)))


if __name__ == "__main__":
    main()
