"""Time of the dimer's energy and gradient per configuration, against C and against torch.

``python -m benchmarks.dimer_kernel`` prints the table. Contenders take turns within each
repetition. One thread: CPU time of the process; two threads: wall-clock time. Reported are the
median over the repetitions and the quartiles. Every contender's numbers are checked before it is
timed.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import platform
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from bgfast_kernels import cpu
from bgfast_kernels.dimer import CORE, DimerParameters, lattice

from benchmarks import machine
from bgfast.ops import dimer_energy_grad
from bgfast.ops.dimer_reference import reference_energy

PARAMETERS = DimerParameters()
CHUNK = 1000  # torch is fastest, and fits into memory, in chunks of about this many rows
Run = Callable[[], tuple[torch.Tensor, torch.Tensor]]
Contender = Callable[[torch.Tensor, int], Run]


def bgfast_numba(x: torch.Tensor, threads: int) -> Run:
    return lambda: dimer_energy_grad(x, PARAMETERS, backend="numba")


def by_autograd(energy: Callable[..., torch.Tensor]) -> Contender:
    def contender(x: torch.Tensor, threads: int) -> Run:
        def run() -> tuple[torch.Tensor, torch.Tensor]:
            results = []
            for chunk in x.split(CHUNK):
                rows = chunk.detach().requires_grad_()
                u = energy(rows, PARAMETERS)
                results.append((u.detach(), torch.autograd.grad(u.sum(), rows)[0]))
            us, grads = zip(*results, strict=True)
            return torch.cat(us), torch.cat(grads)

        return run

    return contender


def c_ceiling(folder: Path) -> Contender:
    """Compile the C file for both dtypes; a batch must fill its SIMD lanes."""
    libraries = {
        torch.float32: compile_c(folder, "float", 16),
        torch.float64: compile_c(folder, "double", 8),
    }
    p = PARAMETERS
    constants = [p.k_d, p.d0, p.a, p.b, p.c, p.l, p.k_box, p.eps * p.sigma**12]
    pool = ThreadPoolExecutor(2)

    def contender(x: torch.Tensor, threads: int) -> Run:
        lanes = 64 // x.element_size()
        if len(x) < lanes:
            raise NotImplementedError(f"works on blocks of {lanes} samples")
        c = torch.tensor([*constants, (CORE * p.sigma) ** 2], dtype=x.dtype)
        padded = torch.cat([x, x[: -len(x) % lanes]])
        cuts = np.linspace(0, len(padded) // lanes, threads + 1).astype(int) * lanes
        function = libraries[x.dtype].energy_grad

        def part(start: int, stop: int, u: torch.Tensor, g: torch.Tensor) -> None:
            arrays = (padded[start:], c, u[start:], g[start:])
            function(ctypes.c_long(stop - start), *(ctypes.c_void_p(a.data_ptr()) for a in arrays))

        def run() -> tuple[torch.Tensor, torch.Tensor]:
            u, g = torch.empty(len(padded), dtype=x.dtype), torch.empty_like(padded)
            tasks = [pool.submit(part, a, b, u, g) for a, b in itertools.pairwise(cuts[1:])]
            part(cuts[0], cuts[1], u, g)
            for task in tasks:
                task.result()
            return u[: len(x)], g[: len(x)]

        return run

    return contender


def compile_c(folder: Path, real: str, lanes: int) -> ctypes.CDLL:
    source = Path(__file__).with_name("dimer_ceiling.c")
    object_file, library = folder / f"{real}.o", folder / f"{real}.so"
    word = "int" if real == "float" else "long"
    macros = [f"-DREAL={real}", f"-DWORD={word}", f"-DLANES={lanes}"]
    macros.append(f"-DN={PARAMETERS.n_particles}")
    flags = ["-O3", "-march=native", "-ffast-math", "-Wno-psabi", "-fPIC"]
    if platform.machine() == "x86_64":
        flags.append("-mprefer-vector-width=512")
    subprocess.run(["gcc", "-c", *flags, *macros, "-o", str(object_file), str(source)], check=True)
    # Linked without -ffast-math: with it gcc adds start-up code that flushes subnormals to zero in
    # the whole process, for every other contender too.
    subprocess.run(["gcc", "-shared", "-o", str(library), str(object_file), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def all_contenders(folder: Path) -> dict[str, Contender]:
    contenders: dict[str, Contender] = {}
    if shutil.which("gcc"):
        contenders["C, gcc -O3 -march=native -ffast-math"] = c_ceiling(folder)
        contenders["torch.compile, autograd"] = by_autograd(torch.compile(reference_energy))
    else:
        print("without gcc: no C ceiling, no torch.compile")
    contenders["bgfast, numba through the torch op"] = bgfast_numba
    contenders["torch eager, autograd"] = by_autograd(reference_energy)
    return dict(sorted(contenders.items()))


def prepare(
    contenders: dict[str, Contender], x: torch.Tensor, threads: int
) -> dict[str, tuple[Run, int]]:
    """Return, for those that can, the run and how often to repeat it for one measurement."""
    reference = reference_energy(x[:CHUNK].double(), PARAMETERS)
    ready = {}
    for name, contender in contenders.items():
        try:
            run = contender(x, threads)
        except NotImplementedError:
            continue
        error = (run()[0][:CHUNK].double() / reference - 1).abs().max().item()
        if not error < 1e-4:
            raise AssertionError(f"{name}: relative error {error:.1e}")
        start = time.perf_counter()
        run()
        ready[name] = run, max(1, int(0.03 / (time.perf_counter() - start)))
    return ready


def measure(
    contenders: dict[str, Contender], x: torch.Tensor, threads: int, repeats: int
) -> dict[str, list[float]]:
    """Return the 25th, 50th and 75th percentile of ns per configuration of each contender."""
    torch.set_num_threads(threads)
    cpu.set_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    ready = prepare(contenders, x, threads)
    samples: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(repeats):
        for name, (run, loops) in ready.items():
            start = clock()
            for _ in range(loops):
                run()
            samples[name].append((clock() - start) / loops / len(x) * 1e9)
    return {name: list(np.percentile(s, [25, 50, 75])) for name, s in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each contender")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 1000, 100_000])
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    torch._dynamo.config.recompile_limit = 64
    results = []
    found = machine.describe()
    print(machine.line(found))
    print("ns per configuration, energy + gradient: median [quartiles]")
    with tempfile.TemporaryDirectory() as folder:
        contenders = all_contenders(Path(folder))
        for threads in (1, 2):
            for dtype in (torch.float32, torch.float64):
                for n in options.sizes:
                    rng = np.random.default_rng(0)
                    x = torch.from_numpy(lattice(rng, n, np.float64, PARAMETERS)).to(dtype)
                    repeats = options.repeats if n < 100_000 else max(3, options.repeats // 3)
                    times = measure(contenders, x, threads, repeats)
                    for name, (low, median, high) in times.items():
                        case = f"{name:40s} {str(dtype)[6:]} B={n:<7d} threads={threads}"
                        print(f"{case} {median:12,.0f} [{low:,.0f} {high:,.0f}]", flush=True)
                        results.append(
                            {
                                "contender": name,
                                "dtype": str(dtype)[6:],
                                "n": n,
                                "threads": threads,
                                "ns_per_configuration": {"q25": low, "median": median, "q75": high},
                            }
                        )
    if options.json:
        options.json.write_text(json.dumps({"machine": found, "results": results}, indent=1))


if __name__ == "__main__":
    main()
