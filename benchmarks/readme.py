"""Write what is kept in ``benchmarks/results`` into README: ``python -m benchmarks.readme``.

Nothing is measured here, and nothing between a pair of marks in README is written by hand.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

UNITS = {
    "energy": ("Energy + gradient", "ns", 1e9),
    "kde": ("Kernel density + gradient", "ms", 1e3),
    "flow": ("Flow R8", "us", 1e6),
    "spline": ("Spline", "us", 1e6),
    "relabelling": ("Relabelling", "us", 1e6),
    "samplers": ("Sampler", "us", 1e6),
    "reweight": ("Draw + reweight", "us", 1e6),
}
COLUMNS = {
    "bgfast, high precision": "high",
    "bgfast, bfloat16 nets": "bfloat16",
    "torch eager": "torch eager",
    "torch.compile": "torch.compile",
    "JAX": "JAX",
}
"""Code, as its name begins, and the head of its column."""


def peers(found: dict[str, Any]) -> str:
    """Return the table of :mod:`benchmarks.peers`: bgfast's time, and the multiples of it."""
    lines = [
        f"| per item | bgfast [quartiles] | {' | '.join(COLUMNS.values())} | others |",
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


def spline_block(found: dict[str, Any]) -> str:
    """Return the table of whole spline blocks in :mod:`benchmarks.spline`."""
    rows = [
        row | {"case": f"{row['mode'].replace('+', ' + ')}, B = {row['batch']:,}"}
        for row in found["rows"]
        if row["subject"] == "block"
    ]
    head = "spline block with its networks, us per sample, one thread"
    return _by_case(head, rows, "implementation")


def limits(found: dict[str, Any]) -> str:
    """Return the table of :mod:`benchmarks.limits`, and its shares in words."""
    rows = [row | {"case": f"{row['task']}, B = {row['batch']:,}"} for row in found["rows"]]
    words = [
        "Multiply-adds: as many as the products of matrices take, in registers, without memory.",
        "Networks alone: their kernels, without coupling, energy or autograd.",
    ]
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        times.setdefault(row["contender"], {})[row["case"]] = row["us_per_sample"]
    least, networks = times.get("multiply-adds", {}), times.get("networks alone", {})
    shares = [f"{least[case] / networks[case]:.0%} ({case})" for case in least if case in networks]
    if shares:
        words.append(f"Multiply-adds in the time of the networks: {', '.join(shares)}.")
    for code in (name for name in times if least and name.startswith(("nflows", "zuko"))):
        parts = [f"{0.25 * t / least[case]:.2f} ({case})" for case, t in times[code].items()]
        words.append(f"A quarter of {code} in the time of the multiply-adds: {', '.join(parts)}.")
    head = "forward + backward in float32, us per sample, one thread"
    return f"{_by_case(head, rows, 'contender')}\n\n{' '.join(words)}"


def _by_case(head: str, rows: list[dict[str, Any]], code: str) -> str:
    """Return a table of times: a column for every case, a line for every code."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    lines = [f"| {head} | {' | '.join(cases)} |", "|---" * (1 + len(cases)) + "|"]
    for name in dict.fromkeys(row[code] for row in rows):
        mine = {row["case"]: _spread(row) for row in rows if row[code] == name}
        cells = " | ".join(mine.get(case, "") for case in cases)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _spread(row: dict[str, Any]) -> str:
    q1, median, q3 = (_number(row[key]) for key in ("q1", "us_per_sample", "q3"))
    return f"{median} [{q1}, {q3}]"


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


def kernel(found: dict[str, Any]) -> str:
    """Return the table of :mod:`benchmarks.dimer_kernel`: nanoseconds on one thread."""
    times = {
        (row["contender"], (row["dtype"], row["n"])): row["ns_per_configuration"]["median"]
        for row in found["results"]
        if row["threads"] == 1
    }
    columns = list(dict.fromkeys(column for _, column in times))
    lines = [
        "| | " + " | ".join(f"{dtype}, B = {n:,}" for dtype, n in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name in dict.fromkeys(name for name, _ in times):
        ns = (times.get((name, column)) for column in columns)
        cells = " | ".join("-" if value is None else f"{value:,.0f}" for value in ns)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def runs(found: dict[str, Any]) -> str:
    """Return the table of :mod:`benchmarks.runs`."""

    def cell(estimate: dict[str, float] | None) -> str:
        return f"{estimate['value']:.2f} ± {estimate['stderr']:.2f}" if estimate else ""

    lines = [
        "| run | bidirectional | annealed | plain weights | umbrella | profile |",
        "|---" * 6 + "|",
    ]
    for row in found["rows"]:
        names = ("delta_f", "annealed", "plain", "reference")
        cells = " | ".join(cell(row[name]) for name in names)
        several = sum(other["command"] == row["command"] for other in found["rows"]) > 1
        tau = f", tau = {row['tau']:g}" if several else ""
        off = row["profile_largest"]
        profile = "" if off is None else f"{off:.2f}"
        lines.append(f"| `{row['command']}`{tau} | {cells} | {profile} |")
    return "\n".join(lines + spread_of_seeds(found["rows"]))


def spread_of_seeds(rows: list[dict[str, Any]], run: str = "bgfast run dimer") -> list[str]:
    """Return in words how estimates of runs that differ by their seed scatter, if there are two."""
    found = [row["delta_f"] for row in rows if re.fullmatch(rf"{run} --seed \d+", row["command"])]
    if len(found) < 2:
        return []
    values = [estimate["value"] for estimate in found]
    stated = math.sqrt(statistics.fmean(estimate["stderr"] ** 2 for estimate in found))
    return [
        "",
        f"{len(found)} seeds of `{run}`: bidirectional estimates scatter by "
        f"{statistics.stdev(values):.3f} about {statistics.fmean(values):.3f};",
        f"their stated errors are {stated:.3f} (root mean square).",
    ]


def flow_choice(found: dict[str, Any]) -> str:
    """Return the table of :mod:`benchmarks.flow_choice`."""
    lines = [
        "| flow | training steps | error of F(closed) - F(open) | of the profile "
        "| generator with states only | ESS of 100 000 |",
        "|---" * 6 + "|",
    ]
    for row in found["rows"]:
        errors = (
            row["delta_f"]["stderr"],
            row["profile_stderr"],
            row["generator_and_states"]["stderr"],
        )
        cells = " | ".join(f"{error:.3f}" for error in errors)
        steps = " + ".join(str(n) for n in row["steps"])
        lines.append(f"| {row['flow']} | {steps} | {cells} | {row['ess']:.0f} |")
    return "\n".join(lines)


Written = Callable[[dict[str, Any]], str]
_COMPARED = (
    ("peers", peers),
    ("spline", spline_block),
    ("limits", limits),
    ("ratios", ratios),
)
SECTIONS: dict[str, tuple[str, tuple[tuple[str, Written], ...]]] = {
    "runs": ("", (("runs", runs),)),
    "flow choice": ("", (("flow_choice", flow_choice),)),
    "kernel": ("", (("dimer_kernel", kernel),)),
    "measured": ("", (*_COMPARED, ("scaling", scaling), ("ten_million", flat))),
    "measured without a matrix unit": ("epyc", (("dimer_kernel", kernel), *_COMPARED)),
}
"""Mark in README -> folder of the results, files in it, and what writes them."""


def section(name: str, results: Path) -> str:
    """Return the text between the marks ``name``, of the results that are there."""
    parts = []
    folder, files = SECTIONS[name]
    for file, written in files:
        path = results / folder / f"{file}.json"
        if path.exists():
            found = json.loads(path.read_text())
            parts.append(written(found))
            if "machine" in found:
                parts.append(machine(found))
    return "\n\n".join(parts)


def replaced(text: str, name: str, inside: str) -> str:
    """Return ``text`` with what is between the marks ``name`` replaced."""
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, rest = text.split(start)
    after = rest.split(end)[1]
    return f"{before}{start}\n{inside}\n{end}{after}"


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    for name in SECTIONS:
        text = replaced(text, name, section(name, RESULTS))
    readme.write_text(text)


if __name__ == "__main__":
    main()
