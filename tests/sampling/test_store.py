"""Samples on disk: whole or not there, readable while written, continued after a kill."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bgfast.sampling.store import SampleWriter, StoreError, read_columns

COLUMNS = {"x": ((3,), "f4"), "log_w": ((), "f8")}


def rows(start, stop):
    i = np.arange(start, stop)
    return {"x": np.stack([i, i + 1, i + 2], 1).astype("f4"), "log_w": i / 7}


def read_all(path):
    parts = list(read_columns(path, "x", "log_w", chunk=7))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def test_rows_come_back_as_written(tmp_path):
    path = tmp_path / "samples.h5"
    with SampleWriter(path, COLUMNS, {"seed": 1}) as writer:
        writer.append(**rows(0, 10))
        assert not path.exists()
        writer.append(**rows(10, 25))
    x, log_w = read_all(path)
    assert np.array_equal(x, rows(0, 25)["x"])
    assert np.array_equal(log_w, rows(0, 25)["log_w"])
    assert os.listdir(tmp_path) == ["samples.h5"]


def test_part_file_is_readable_while_written(tmp_path):
    with SampleWriter(tmp_path / "s.h5", COLUMNS, {}) as writer:
        writer.append(**rows(0, 5))
        assert len(read_all(writer.part)[1]) == 5


KILLED = """
import sys, time
sys.path.insert(0, {folder!r})
from test_store import COLUMNS, rows
from bgfast.sampling.store import SampleWriter
writer = SampleWriter({path!r}, COLUMNS, {{"seed": 1}})
writer.append(**rows(0, 10))
print("written", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("seed", "kept"), [(1, 10), (2, 0)])
def test_killed_writer_is_continued_by_the_same_run_only(tmp_path, seed, kept):
    path = tmp_path / "s.h5"
    code = KILLED.format(folder=os.path.dirname(__file__), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "written"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    with SampleWriter(path, COLUMNS, {"seed": seed}) as writer:
        assert writer.n_rows == kept
        writer.append(**rows(kept, 20))
    assert np.array_equal(read_all(path)[1], rows(0, 20)["log_w"])


def test_unequal_columns_are_refused(tmp_path):
    with (
        SampleWriter(tmp_path / "s.h5", COLUMNS, {}) as writer,
        pytest.raises(ValueError, match="equally many rows"),
    ):
        writer.append(x=np.zeros((2, 3)), log_w=np.zeros(3))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_never_read_as_zeros(tmp_path, share):
    path = tmp_path / "s.h5"
    with SampleWriter(path, COLUMNS, {"n": 5000}) as writer:
        writer.append(**rows(0, 5000))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StoreError, match="not a readable HDF5 file"):
        read_all(path)


def test_a_file_with_too_few_rows_says_so(tmp_path):
    with SampleWriter(tmp_path / "s.h5", COLUMNS, {"n": 10}) as writer:
        writer.append(**rows(0, 9))
    with pytest.raises(StoreError, match="holds 9 rows instead of 10"):
        read_all(tmp_path / "s.h5")


def test_damaged_missing_or_foreign_files_say_so(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        next(read_columns(tmp_path / "no.h5", "x"))
    (tmp_path / "bad.h5").write_bytes(b"not hdf5")
    with pytest.raises(StoreError, match="not a readable HDF5 file"):
        next(read_columns(tmp_path / "bad.h5", "x"))
    with SampleWriter(tmp_path / "s.h5", {"x": ((), "f8")}, {}) as writer:
        writer.append(x=np.zeros(1))
    with pytest.raises(StoreError, match="no column log_w"):
        next(read_columns(tmp_path / "s.h5", "log_w"))
