"""The command ``bgfast``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bgfast.errors import TrainingError, UserError

app = typer.Typer(
    help="Boltzmann generators: train, draw, reweight, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run [runs/NAME].")]
_MAX_SEED = 2**63 - 1
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, max=_MAX_SEED, help="Seed of all random numbers.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads [all cores].")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N.")]


@app.command()
def run(
    what: Annotated[str, typer.Argument(help="A preset (see `bgfast systems`) or a .toml file.")],
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="The same run, much smaller.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, repeatable.")
    ] = None,
    seed: Seed = None,
    threads: Threads = None,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a killed run.")] = False,
) -> None:
    """Simulate, train, draw, reweight and report."""
    _use_threads(threads)
    from bgfast.experiments.runner import run_experiment

    extra = [f"seed={seed}"] if seed is not None else []
    extra += [f'device="{device}"'] if device is not None else []
    with _one_line_errors():
        folder = run_experiment(
            what, out=out, quick=quick, overrides=(*(overrides or ()), *extra), resume=resume
        )
    Console().print(f"report: {folder.report}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option("--out", help="HDF5 file to write.")],
    n: Annotated[
        int | None,
        typer.Option(
            "--n-samples", "--n", min=2, help="Number of samples [100000; annealed 4096]."
        ),
    ] = None,
    anneal: Annotated[
        bool, typer.Option("--anneal", help="Carry them to the Boltzmann distribution by stages.")
    ] = False,
    tau: Annotated[float, typer.Option("--tau", help="Relative temperature.")] = 1.0,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=_MAX_SEED, help="Seed of all random numbers.")
    ] = 1,
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Draw more weighted samples from the flow of a finished run."""
    _use_threads(threads)
    from bgfast.experiments.runner import sample_run

    with _one_line_errors():
        sentences = sample_run(
            folder, out, n_samples=n, tau=tau, seed=seed, anneal=anneal, device=device
        )
    console = Console()
    for sentence in sentences:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.print(f"samples: {out}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def analyze(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    threads: Threads = None,
    device: Device = None,
) -> None:
    """Compute summary, figures and report of a finished run again from its samples."""
    _use_threads(threads)
    from bgfast.experiments.runner import analyze_run

    with _one_line_errors():
        run_folder = analyze_run(folder, device=device)
    Console().print(f"report: {run_folder.report}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def reference(
    what: Annotated[str, typer.Argument(help="A dimer preset or .toml file.")] = "dimer",
    more: Annotated[list[float] | None, typer.Argument(hidden=True)] = None,
    tau: Annotated[
        list[float] | None, typer.Option("--tau", help="Relative temperatures, e.g. 0.5 1 2 [1].")
    ] = None,
    threads: Threads = None,
) -> None:
    """Compute the dimer's F(d) by umbrella sampling, and keep it for later runs."""
    _use_threads(threads)
    from bgfast.experiments.runner import references

    table = Table("tau", "F(closed) - F(open), k_B T", "", box=None, header_style="bold")
    taus = (*(tau or ()), *(more or ())) or (1.0,)
    with _one_line_errors():
        results = references(what, taus)
    for value, result in results.items():
        table.add_row(f"{value:g}", str(result.delta_f), result.statement)
    Console().print(table)


@app.command()
def speedup(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished dimer or double-well run.")],
    threads: Threads = None,
) -> None:
    """Compare a run's energy evaluations with local Monte Carlo and with umbrella sampling."""
    _use_threads(threads)
    from bgfast.experiments.runner import speed_up_of

    table = Table("", "energy evaluations", box=None, header_style="bold", pad_edge=False)
    with _one_line_errors():
        found = speed_up_of(folder)
    for name, value in found.rows():
        table.add_row(name, value)
    Console().print(table)


@app.command()
def systems() -> None:
    """List the systems and the presets that `bgfast run` knows."""
    from bgfast.experiments.runner import preset_descriptions

    table = Table("preset", "what it does", box=None, header_style="bold", pad_edge=False)
    for name, description in preset_descriptions().items():
        table.add_row(name, description)
    Console().print(table)


@app.command()
def doctor() -> None:
    """Say what this machine and installation can do."""
    from bgfast.doctor import checks

    table = Table("check", "result", box=None, header_style="bold", pad_edge=False)
    failed = False
    for check in checks():
        failed |= not check.ok
        table.add_row(check.name, Text(check.result, style="" if check.ok else "red"))
    Console().print(table)
    if failed:
        raise typer.Exit(1)


def _use_threads(threads: int | None) -> None:
    import torch
    from bgfast_kernels import cpu

    if threads is not None:
        torch.set_num_threads(threads)
    cpu.set_threads(torch.get_num_threads())


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """End the command with one line and an exit code where the user can mend what went wrong."""
    try:
        yield
    except UserError as error:
        _complain("error:", str(error), 2)
    except OSError as error:
        _complain("error:", f"{error.filename or error}: {error.strerror}", 2)
    except TrainingError as error:
        _complain("training stopped:", str(error), 1)
    except KeyboardInterrupt:
        _complain("interrupted;", "bgfast run ... --resume continues a run", 130)


def _complain(what: str, message: str, code: int) -> None:
    text = Text.assemble((what, "bold red"), " ", " ".join(message.split()))
    Console(stderr=True).print(text, soft_wrap=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the command."""
    # Kernels and torch have threads of their own: let torch's idle ones give up the core soon. (Not
    # at once: with OMP_WAIT_POLICY=passive a training step took twice as long.)
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    app()
