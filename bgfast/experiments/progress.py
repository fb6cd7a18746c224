"""Progress bars with rates and remaining time; one line per stage where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[..., None]
"""``advance(done, note="")``: ``done`` of the stage's total are done."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text(f"{_short(speed)} {unit}/s" if speed else "", style="cyan")


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


class Reporter:
    """Shows the stages of a run on ``console``.

    Parameters
    ----------
    console
        Where to write; standard error if not given. ``None`` is not quiet: see ``quiet``.
    quiet
        Show nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, quiet=quiet)
        self._bars = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )

    def __enter__(self) -> Reporter:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, title: str, total: int, unit: str = "steps") -> Iterator[Advance]:
        """Show one stage; the block calls ``advance(done, note)``."""
        start = time.perf_counter()
        task = self._bars.add_task(title, total=total, unit=unit, note="")

        def advance(done: int, note: str = "") -> None:
            self._bars.update(task, completed=done, note=note)

        yield advance
        self._bars.update(task, completed=total)
        if not self.console.is_terminal:
            self.console.print(f"{title}: {total} {unit} in {time.perf_counter() - start:.1f} s")

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self.console.print(text, highlight=False)
