"""Parts of a kernel run on torch's OpenMP threads: each once, errors come back, forks are safe."""

import ctypes
import os
import signal
import subprocess
import sys

import numba  # noqa: TID251 a kernel that must not be cached
import numpy as np
import pytest
import torch
from bgfast_kernels import cpu, launch, team

gettid = ctypes.CDLL(None).gettid
gettid.argtypes = ()


@pytest.fixture
def threads():
    torch.ones(2)  # torch, and so its OpenMP runtime, is in the process
    found = team.openmp()
    if found is None:
        pytest.skip("torch brings no libgomp here")
    return found


@cpu.jit
def count(start, stop, factor, counts):
    for i in range(start, stop):
        counts[i] += factor


@numba.njit(nogil=True)  # the address of a C function is that of this process
def members(start, stop, work, idents):
    """Write which thread this is after milliseconds of work."""
    for i in range(start, stop):
        for k in range(1, 3_000_000):
            work[i] += 1.0 / k
        idents[i] = gettid()


@cpu.jit
def without_memory(start, stop, out):
    for i in range(start, stop):
        if i >= 3:
            out[i] = np.empty(2**58)[i]


@cpu.jit
def returns_something(start, stop):
    return stop - start


def idents_of(threads, n, size):
    idents = np.zeros(n, np.int64)
    cuts = np.arange(n + 1)
    launch.run(threads, size, members, cuts, (np.zeros(n), idents))
    return set(idents.tolist())


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_every_part_runs_once(threads, n, size):
    counts = np.zeros(10 * n, np.float32)
    launch.run(threads, size, count, np.arange(0, 10 * n + 1, 10), (2.5, counts))
    np.testing.assert_array_equal(counts, 2.5)


def test_the_types_of_arguments_are_told_apart(threads):
    for dtype, factor in ((np.float32, 1), (np.float64, 1), (np.float64, 1.5), (np.int64, True)):
        counts = np.zeros((4, 2), dtype)
        for view in (counts[:, 0], np.zeros(4, dtype)):
            launch.run(threads, 2, count, np.array([0, 2, 4]), (factor, view))
            np.testing.assert_array_equal(view, np.full(4, factor, dtype))


def test_numbers_of_another_byte_order_are_refused(threads):
    launch.run(threads, 2, count, np.array([0, 2, 4]), (1.0, np.zeros(4)))
    swapped = np.zeros(4, np.dtype(np.float64).newbyteorder())
    with pytest.raises(numba.errors.NumbaError, match="typing of argument"):
        launch.run(threads, 2, count, np.array([0, 2, 4]), (1.0, swapped))


def test_parts_run_on_several_threads_which_stay(threads):
    first = idents_of(threads, 12, 3)
    assert len(first) == 3
    launch.run(threads, 3, count, np.array([0, 1, 2]), (1.0, np.zeros(2)))  # fewer parts
    assert idents_of(threads, 12, 3) == first


def test_torch_works_on_the_same_threads(threads):
    code = """
import os, torch
from bgfast_kernels import cpu
from bgfast.energies import ParticleDimer
torch.set_num_threads(3)
energy = ParticleDimer()
x = energy.lattice_configuration(d=1.5).repeat(3000, 1).float()
torch.ones(10**6).exp()
before = len(os.listdir("/proc/self/task"))
energy.energy(x)
assert cpu.get_threads() == 3
assert len(os.listdir("/proc/self/task")) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


@cpu.jit
def passes_arrays_on(start, stop, pair, out):
    for i in range(start, stop):
        out[i] = first_of(pair, out)[0]


@cpu.jit
def first_of(pair, out):
    return pair


def test_the_caller_still_owns_its_arrays(threads):
    given, out = np.ones(3), np.zeros(1000)
    counts = sys.getrefcount(given), sys.getrefcount(out)
    for _ in range(20):
        launch.run(threads, 2, passes_arrays_on, np.array([0, 500, 1000]), (given, out))
    assert (out == 1).all()
    assert (sys.getrefcount(given), sys.getrefcount(out)) == counts


def test_a_kernel_without_memory_raises(threads):
    with pytest.raises(MemoryError, match="buffers of the kernel without_memory"):
        launch.run(threads, 2, without_memory, np.array([0, 2, 4]), (np.zeros(4),))
    launch.run(threads, 2, without_memory, np.array([0, 2, 3]), (np.zeros(4),))


def test_a_kernel_that_returns_something_is_refused(threads):
    with pytest.raises(TypeError, match="returns_something must return nothing"):
        launch.run(threads, 2, returns_something, np.array([0, 1]), ())


@pytest.mark.parametrize("size", [1, 2])
def test_an_interrupt_is_never_lost_nor_a_part_left_out_in_silence(threads, size):
    struck, lost = 0, 0
    counts, cuts = np.zeros(4), np.arange(5)
    launch.run(threads, size, count, cuts, (1.0, counts))  # compiled: numba bears no interrupt

    def strike(number, frame):
        nonlocal struck
        struck += 1
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for i in range(600):
            counts[:], seen = 0, struck
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + 7 * i % 97))
                launch.run(threads, size, count, cuts, (1.0, counts))
                assert (counts == 1).all()
                while struck == seen:  # it may come after the parts
                    pass
            except KeyboardInterrupt:
                continue
            lost += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck == 600
    assert lost == 0


MAPS = "7f00-7f01 r-xp 00000000 08:01 123    "


@pytest.mark.parametrize(
    ("loaded", "chosen"),
    [
        (["a b/torch/lib/libgomp.so.1"], 0),  # with a space
        (["sklearn.libs/libgomp-a3.so.1", "torch/lib/libgomp-d2.so.1"], 1),
        (["torch-env/sklearn.libs/libgomp-a3.so.1", "torch-env/torch/lib/libgomp.so.1"], 1),
        (["torch/lib/libgomp-plugin-nvptx.so.1", "torch/lib/libgomp.so.1"], 1),
        (["libgomp-docs/libother.so"], None),
        ([], None),
    ],
)
def test_the_libgomp_of_torch_is_found(monkeypatch, tmp_path, loaded, chosen):
    files = [tmp_path / name for name in loaded]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    maps = tmp_path / "maps"
    lines = [f"{MAPS}{file}" for file in files]
    gone = f"{MAPS}{tmp_path}/torch/lib/libgomp-old.so.1 (deleted)"
    maps.write_text("\n".join(["7f00-7f01 rw-p 00000000 00:00 0", gone, *lines]) + "\n")
    monkeypatch.setattr(team, "_MAPS", maps)
    expected = None if chosen is None else str(files[chosen])
    assert team._loaded_libgomp() == expected
    assert team._team() is None  # an empty file is no library: the pool takes over


def test_where_no_maps_are_there_is_no_team(monkeypatch, tmp_path):
    monkeypatch.setattr(team, "_MAPS", tmp_path / "maps")
    monkeypatch.setattr(team, "_found", None)
    assert team.openmp() is None


@pytest.mark.parametrize(("n_rows", "size", "parts"), [(1000, 2, 2), (300, 4, 2), (250, 2, 0)])
def test_kernels_hand_their_rows_to_the_whole_team(monkeypatch, threads, n_rows, size, parts):
    calls = []

    def run(team, threads, kernel, cuts, arguments):
        calls.append((len(cuts) - 1, threads))
        original(team, threads, kernel, cuts, arguments)

    original = launch.run
    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(cpu, "_threads", size)
    out = np.zeros(n_rows)
    cpu.parallel_rows(count, n_rows, 1.0, out)
    np.testing.assert_array_equal(out, 1)
    assert calls == ([(parts, size)] if parts else [])


def test_kernels_use_as_many_threads_as_torch(threads):
    before = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            assert cpu.get_threads() == n
    finally:
        torch.set_num_threads(before)


def test_a_pool_serves_where_there_is_no_openmp(monkeypatch):
    monkeypatch.setattr(team, "openmp", lambda: None)
    monkeypatch.setattr(cpu, "_threads", 2)
    out = np.zeros(1000)
    cpu.parallel_rows(count, 1000, 1.0, out)
    np.testing.assert_array_equal(out, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_does_not_wait_for_threads_of_its_parent():
    code = """
import os, sys, torch
from bgfast_kernels import cpu
from bgfast.energies import ParticleDimer
cpu.set_threads(2)
energy = ParticleDimer()
x = energy.lattice_configuration(d=1.5).repeat(2000, 1).float()
here = energy.energy(x)
if (child := os.fork()) == 0:
    os._exit(0 if (energy.energy(x) == here).all() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # torch alone must not hang in the child
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=100)
    assert done.returncode == 0
