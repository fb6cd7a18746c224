"""Timing on a GPU: CUDA events over rotating buffers, graph replay, the card's own limits."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from bgfast_kernels import cuda

Call = Callable[[], Any]

_MOST_SETS = 64
_ISSUED_PER_CLOCK = 128  # thread instructions a multiprocessor issues: four warps of 32


@dataclass(frozen=True)
class Card:
    """What a card can do at most.

    Parameters
    ----------
    name
        As the driver calls it.
    copy_bandwidth
        Measured, bytes read plus bytes written per second.
    issue_rate
        Thread instructions per second, all multiprocessors; ``None`` if the clock is not known.
    cache_bytes
        Size of the level-2 cache.
    """

    name: str
    copy_bandwidth: float
    issue_rate: float | None
    cache_bytes: int

    def bound(self, bytes_moved: float, instructions: float) -> tuple[float, str]:
        """Return the seconds below which nothing can move and issue that much, and which it is.

        Without a clock rate, or without instructions, the bound is that of memory alone.
        """
        memory = bytes_moved / self.copy_bandwidth
        issue = instructions / self.issue_rate if self.issue_rate else 0.0
        return (issue, "issue") if issue > memory else (memory, "memory")


class CudaClock:
    """Times calls that enqueue work on the current stream of the current device."""

    def card(self) -> Card:
        """Measure the card this process uses."""
        properties = torch.cuda.get_device_properties()
        clock = clock_rate(properties)
        size = 1 << 30
        source = torch.empty(size, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        seconds = self.per_call([lambda: target.copy_(source)], 20)
        return Card(
            name=properties.name,
            copy_bandwidth=2 * size / seconds,
            issue_rate=clock and properties.multi_processor_count * _ISSUED_PER_CLOCK * clock,
            cache_bytes=properties.L2_cache_size,
        )

    def per_call(self, calls: Sequence[Call], repeats: int) -> float:
        """Return the median seconds of one call, over ``repeats`` rounds of all of them."""
        return self._median(lambda: [call() for call in calls], len(calls), repeats)

    def per_replay(self, calls: Sequence[Call], repeats: int) -> float:
        """Return the same with all calls in one CUDA graph."""
        self._warm_up(lambda: [call() for call in calls])
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = [call() for call in calls]
        seconds = self._median(graph.replay, len(calls), repeats)
        del kept
        return seconds

    def host_seconds(self, call: Call, repeats: int) -> float:
        """Return the median seconds for which one call keeps the host busy."""
        self._warm_up(call)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            torch.cuda.synchronize()
        return statistics.median(times)

    def _median(self, run: Call, n_calls: int, repeats: int) -> float:
        self._warm_up(run)
        times = []
        for _ in range(repeats):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(1e-3 * start.elapsed_time(end) / n_calls)
        return statistics.median(times)

    def _warm_up(self, run: Call) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.synchronize()


def clock_rate(properties: Any) -> float | None:
    """Return the highest clock of a card in Hz, if torch or nvidia-smi says it.

    Not every torch has it among the properties of a device.
    """
    kilohertz = getattr(properties, "clock_rate", 0)
    if kilohertz:
        return 1e3 * float(kilohertz)
    try:
        return 1e6 * float(nvidia_smi("clocks.max.sm")) or None
    except ValueError:
        return None


def nvidia_smi(field: str) -> str:
    """Return what nvidia-smi says of the first card, "" if it says nothing; never raises."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = found.stdout.splitlines() if found.returncode == 0 else []
    return lines[0].strip() if lines else ""


def versions() -> dict[str, str]:
    """Return the versions of driver and CUDA that a timing depends on; never raises."""
    return {
        "CUDA of torch": str(torch.version.cuda),
        "driver": nvidia_smi("driver_version") or "unknown",
        **cuda.versions(),
    }


def buffer_sets(bytes_per_set: int, card: Card) -> int:
    """Return how many sets of buffers to rotate so that no call finds its own in the cache."""
    return max(1, min(_MOST_SETS, -(-2 * card.cache_bytes // max(1, bytes_per_set))))
