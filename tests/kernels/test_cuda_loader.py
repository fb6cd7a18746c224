"""The CUDA loader without a GPU: sources, messages, and what exactly is launched where."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from bgfast_kernels import cuda
from bgfast_kernels.dimer import DimerParameters, cuda_kernels, lattice

from bgfast import doctor
from bgfast.ops import BackendError, dimer_cuda, dimer_energy
from bgfast.ops import cuda as ops_cuda
from bgfast.ops.dimer_reference import reference_energy_grad, reference_hvp
from tests.cuda_shim import COMPILER
from tests.cuda_shim.fake_cupy import Machine, installed

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++")
PROGRAM = cuda.Program("dimer/energy_grad.cuh", "float32", (("N", 2), ("G", 2), ("BLOCK", 32)))


def test_a_source_is_one_string_with_its_definitions_and_every_include_once():
    source = PROGRAM.source()
    assert source.startswith("#define REAL float\n#define N 2\n")
    assert "#include" not in source
    assert source.count("struct Physics {") == source.count("typedef REAL real;") == 1


def test_a_program_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match="dtype must be one of float32, float64, got 'float16'"):
        cuda.Program("dimer/energy_grad.cuh", "float16")


@pytest.mark.parametrize("number", [1, 1.0, True])
def test_a_python_number_is_refused_as_an_argument(number):
    with pytest.raises(TypeError, match="argument 1 of kernel k must be a NumPy scalar, got"):
        cuda.launch(
            PROGRAM, "k", grid=1, block=32, arguments=[np.int64(1), number], device=0, stream=0
        )


def test_without_cupy_the_message_names_the_extra():
    code = "import bgfast_kernels.cuda as c; print(c.why_unavailable())"
    hidden = f"import sys; sys.modules['cupy'] = None; {code}"
    # A None in sys.modules makes the import fail as if the module were not there.
    result = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert "CuPy is not installed: pip install 'bgfast[cuda13]'" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (Machine(devices=0), "no CUDA device: the driver sees none"),
        (Machine(devices=-1), "no CUDA device: cudaErrorNoDevice"),
        (Machine(driver=0), "no NVIDIA driver is installed"),
        (
            Machine(driver=12040),
            r"driver is too old: it supports CUDA 12.4 at most, CuPy 14.2.0 needs CUDA 13; .*"
            r"'bgfast\[cuda12\]'",
        ),
        (
            Machine(nvrtc=False, runtime=13010),
            r"no NVRTC, the compiler of CUDA kernels \(Failure finding \"libnvrtc.so\": No such "
            r"file\); it comes with 'bgfast\[cuda13\]' or a CUDA toolkit",
        ),
    ],
)
def test_what_is_missing_is_said(machine, message):
    with installed(machine):
        with pytest.raises(cuda.CudaError, match=message):
            cuda.launch(PROGRAM, "k", grid=1, block=32, arguments=[], device=0, stream=0)
        assert machine.launches == []


def test_a_newer_driver_and_a_newer_minor_runtime_are_fine():
    for machine in (Machine(driver=14000), Machine(driver=13000, runtime=13020)):
        with installed(machine):
            assert cuda.why_unavailable() is None


def test_asking_for_cuda_lists_every_reason():
    x = torch.zeros(2, 76, dtype=torch.float16)
    with installed(Machine(devices=0)), pytest.raises(BackendError) as error:
        dimer_energy(x, DimerParameters(), backend="cuda")
    for reason in ("float16", "on cpu", torch.__version__, "the driver sees none"):
        assert reason in str(error.value)


@needs_compiler
def test_a_kernel_that_does_not_compile_is_named():
    broken = cuda.Program("dimer/energy_grad.cuh", "float32", (("N", 2),))
    with installed(Machine()), pytest.raises(cuda.CudaError, match=r"dimer/energy_grad.cuh does"):
        cuda.launch(broken, "k", grid=1, block=32, arguments=[], device=0, stream=0)


@needs_compiler
def test_a_launch_is_what_the_kernel_declares_on_the_given_device_and_stream():
    p = DimerParameters(n_solvent=0, eps=0.5)
    x, u, grad = np.ones((61, 4), np.float32), np.zeros(61, np.float32), np.zeros((61, 4), "f4")
    with installed(Machine()) as machine:
        addresses = [a.ctypes.data for a in (x, u, grad)]
        for device, stream in ((1, 77), (1, 77), (0, 0), (1, 0)):
            cuda_kernels.dimer_energy_grad(
                addresses[0], 61, p, "float32", *addresses[1:], device=device, stream=stream
            )
    # The default stream is 0 on every device.
    assert [(m.device, m.stream) for m in machine.launches] == [(1, 77), (1, 77), (0, 0), (1, 0)]
    assert [device for device, _ in machine.compiled] == [1, 0]  # once on each
    first = machine.launches[0]
    assert (first.kernel, first.grid, first.block) == ("dimer_energy_grad", (1,), (128,))
    assert [first.arguments[i] for i in (0, 1, -2, -1)] == [addresses[0], 61, *addresses[1:]]
    kinds = [type(a) for a in first.arguments]
    assert kinds == [np.uint64, np.int64, *[np.float32] * 12, np.uint64, np.uint64]
    assert first.arguments[10] == np.float32(0.5 * 1.1**12)  # the ninth number: the strength


@needs_compiler
def test_cupy_13_takes_the_stream_through_its_older_name():
    x, u, grad = np.ones((1, 4)), np.zeros(1), np.zeros((1, 4))
    with installed(Machine(), old_streams=True) as machine:
        addresses = [a.ctypes.data for a in (x, u, grad)]
        cuda_kernels.dimer_energy_grad(
            addresses[0], 1, DimerParameters(0), "float64", *addresses[1:], device=0, stream=5
        )
    assert machine.launches[0].stream == 5


def test_nothing_is_launched_for_no_rows():
    cuda_kernels.dimer_hvp(0, 0, 0, DimerParameters(), "float32", 0, device=0, stream=0)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", ["rows", "leading", "offset", "strided", "empty"])
def test_torch_tensors_reach_the_kernels(monkeypatch, dtype, shape):
    monkeypatch.setattr(dimer_cuda, "place", lambda x: {"device": 0, "stream": 3})
    p = DimerParameters(n_solvent=3)
    rows = torch.from_numpy(lattice(np.random.default_rng(0), 7, np.float64, p)).to(dtype)
    x = {
        "rows": rows,
        "leading": rows[:6].reshape(2, 3, -1),
        # an odd offset: not a multiple of two numbers
        "offset": torch.cat([rows.new_zeros(1), rows.flatten()])[1:].view_as(rows),
        "strided": rows.repeat_interleave(2, 1)[:, ::2],
        "empty": rows[:0],
    }[shape]
    v = torch.linspace(-1, 1, x.numel(), dtype=dtype).reshape(x.shape)
    with installed(Machine()) as machine:
        u, grad = dimer_cuda.energy_grad(x, p)
        product = dimer_cuda.hvp(x, v, p)
    for launch in machine.launches:
        assert launch.arguments[0] % (2 * x.element_size()) == 0
    assert len(machine.launches) == (0 if shape == "empty" else 2)
    expected_u, expected_grad = reference_energy_grad(x.double(), p)
    close = {"rtol": 1e-5, "atol": 1e-2} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 0}
    torch.testing.assert_close(u.double(), expected_u, **close)
    torch.testing.assert_close(grad.double(), expected_grad, **close)
    torch.testing.assert_close(product.double(), reference_hvp(x.double(), v.double(), p), **close)


def test_the_place_of_a_tensor_is_torchs_current_stream(monkeypatch):
    class Stream:
        device_index, cuda_stream = 1, 99

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream)
    assert ops_cuda.place(torch.zeros(1)) == {"device": 1, "stream": 99}


@pytest.mark.parametrize(
    ("torch_sees", "machine", "message"),
    [
        (False, Machine(), f"torch {re.escape(torch.__version__)} .*; everything runs on the CPU"),
        (True, Machine(driver=12000), "too old.*; without the kernels, CUDA tensors go through"),
    ],
)
def test_doctor_says_what_cuda_lacks(monkeypatch, torch_sees, machine, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_sees)
    with installed(machine):
        assert re.search(message, doctor._cuda())
