"""Parts of a kernel run on torch's OpenMP threads: each once, errors come back, forks are safe."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu, team


@pytest.fixture
def run():
    torch.ones(2)  # torch, and so its OpenMP runtime, is in the process
    found = team.openmp()
    if found is None:
        pytest.skip("torch brings no libgomp here")
    return found.run


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_every_part_runs_once(run, n, threads):
    counts = np.zeros(n, int)
    run(lambda i: np.add.at(counts, i, 1), n, threads)
    np.testing.assert_array_equal(counts, 1)


def test_parts_run_on_threads_at_the_same_time(run):
    both = threading.Barrier(2, timeout=20)
    run(lambda i: both.wait(), 2, 2)


def test_threads_stay_where_there_are_fewer_parts(run):
    def members():
        idents = set()
        all_of_them = threading.Barrier(3, timeout=20)
        run(lambda i: (all_of_them.wait(), idents.add(threading.get_native_id())), 3, 3)
        return idents

    before = members()
    run(lambda i: None, 2, 3)
    assert members() == before


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_error_of_a_part_comes_back_and_keeps_nothing_alive(run, error):
    class Array:
        pass

    def fail():
        array = Array()

        def part(i):
            assert array
            if i == 1:
                raise error("part 1")

        with pytest.raises(error, match="part 1"):
            run(part, 2, 2)
        return weakref.ref(array)

    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()
    run(lambda i: None, 2, 2)  # and the threads are still there


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_is_never_lost_nor_a_part_left_out_in_silence(run, threads):
    struck, lost = 0, 0
    counts = np.zeros(4, int)

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
                run(lambda i: np.add.at(counts, i, 1), 4, threads)
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


@pytest.mark.parametrize(("n_rows", "threads", "parts"), [(1000, 2, 2), (600, 4, 2), (500, 2, 0)])
def test_kernels_hand_their_rows_to_the_whole_team(monkeypatch, n_rows, threads, parts):
    calls = []

    def run(part, n, size):
        calls.append((n, size))
        for i in range(n):
            part(i)

    monkeypatch.setattr(team, "openmp", lambda: team.Team(run, lambda: threads))
    out = np.zeros(n_rows)
    cpu.parallel_rows(add_one, n_rows, out)
    np.testing.assert_array_equal(out, 1)
    assert calls == ([(parts, threads)] if parts else [])


def test_kernels_use_as_many_threads_as_torch(run):
    before = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            assert cpu.get_threads() == n
    finally:
        torch.set_num_threads(before)


def add_one(start, stop, out):
    out[start:stop] += 1


def test_a_pool_serves_where_there_is_no_openmp(monkeypatch):
    monkeypatch.setattr(team, "openmp", lambda: None)
    monkeypatch.setattr(cpu, "_threads", 2)
    out = np.zeros(1000)
    cpu.parallel_rows(add_one, 1000, out)
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
