"""On a GPU: what every op promises, by its CUDA kernel, against the float64 reference on the CPU.

Collected everywhere; skipped where there is no GPU. ``pytest --require-gpu`` lets no test skip.
"""

import pytest
import torch
from bgfast_kernels import get

from bgfast.ops import TORCH_OPS
from tests.cases import arguments, assert_exact, in_float64

OPS = sorted(name for name in TORCH_OPS if "cuda" in get(name).implementations)
ROWWISE = [name for name in OPS if TORCH_OPS[name].rowwise]
every_op = pytest.mark.parametrize("name", OPS)
every_rowwise_op = pytest.mark.parametrize("name", ROWWISE)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def moved(args, device):
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in args.items()}


def call(name, args):
    """Call an op by its CUDA kernel, and by nothing else."""
    return TORCH_OPS[name].function(**args, backend="cuda")


def differentiated(function, name, args):
    """Return the value and the gradients of a weighted sum of it."""
    wanted = TORCH_OPS[name].differentiable
    args = {k: v.clone().requires_grad_() if k in wanted else v for k, v in args.items()}
    value = function(args)
    weight = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype, device=value.device)
    inputs = [args[k] for k in wanted]
    grads = torch.autograd.grad((weight.reshape(value.shape) * value).sum(), inputs)
    return [value.detach(), *grads]


@pytest.mark.parametrize("n", [1, 61, 5000])
@every_dtype
@every_op
def test_value_and_gradients_agree_with_the_float64_reference(gpu, name, dtype, n):
    op, args = TORCH_OPS[name], arguments(name, n, dtype)
    if not op.differentiable:
        assert torch.equal(call(name, moved(args, gpu)).cpu(), op.reference(**in_float64(args)))
        return
    found = differentiated(lambda a: call(name, a), name, moved(args, gpu))

    def exact(a):
        return differentiated(lambda a: op.reference(**a), name, a)

    assert_exact(name, found, exact, args, dtype)


@every_op
def test_a_cuda_tensor_goes_to_the_kernel_by_itself(gpu, name, recwarn):
    args = moved(arguments(name, 20, torch.float64), gpu)
    assert torch.equal(TORCH_OPS[name].function(**args), call(name, args))
    assert not [w for w in recwarn if "falls back" in str(w.message)]


@every_dtype
@every_op
def test_same_call_same_bits(gpu, name, dtype):
    args = moved(arguments(name, 1000, dtype), gpu)
    first = call(name, args)
    assert all(torch.equal(call(name, args), first) for _ in range(5))


@every_dtype
@every_rowwise_op
@pytest.mark.parametrize("n", [0, 1, 61])
def test_rows_have_the_same_bits_in_any_batch_layout_and_alignment(gpu, name, dtype, n):
    args = moved(arguments(name, 64, dtype), gpu)
    main = get(name).arrays[0]
    rows, expected = args[main], call(name, args)[3 : 3 + n]
    part = rows[3 : 3 + n]
    odd = torch.cat([part.new_zeros(1), part.flatten()])[1:].view_as(part)
    strided = part.repeat_interleave(2, -1)[..., ::2]
    for x in (part, odd, strided):
        assert torch.equal(call(name, args | {main: x}), expected)
    assert torch.equal(call(name, args | {main: part[None, :, None]})[0, :, 0], expected)


@every_op
def test_first_and_second_derivatives_pass_gradcheck(gpu, name):
    op, args = TORCH_OPS[name], moved(arguments(name, 2, torch.float64), gpu)
    fixed = {k: v for k, v in args.items() if k not in op.differentiable}
    inputs = [args[k].clone().requires_grad_() for k in op.differentiable]

    def function(*values):
        return call(name, fixed | dict(zip(op.differentiable, values, strict=True)))

    if inputs:
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@every_dtype
@every_op
def test_raw_ops_pass_opcheck(gpu, name, dtype):
    for op, positional in TORCH_OPS[name].raw_calls(**moved(arguments(name, 5, dtype), gpu)):
        torch.library.opcheck(op, positional)


@every_dtype
@every_rowwise_op
def test_a_nan_stays_in_its_row(gpu, name, dtype):
    args = moved(arguments(name, 40, dtype), gpu)
    main = get(name).arrays[0]
    rows = args[main].clone()
    rows.flatten(1)[17, ::5] = torch.nan
    clean, dirty = call(name, args), call(name, args | {main: rows})
    others = torch.arange(40, device=gpu) != 17
    assert torch.equal(dirty[others], clean[others])
    if dirty.is_floating_point():
        on_cpu = moved(args | {main: rows}, "cpu")
        expected = TORCH_OPS[name].reference(**on_cpu)[17].isnan()
        assert expected.any()
        assert torch.equal(dirty[17].isnan().cpu(), expected)


@every_op
def test_torch_compile_traces_it_whole(gpu, name):
    args = moved(arguments(name, 6, torch.float32), gpu)
    compiled = torch.compile(TORCH_OPS[name].function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(**args), call(name, args))
