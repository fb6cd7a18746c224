"""What every op promises, whatever it computes. Registering an op is all it takes to be tested."""

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu, get, names
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bgfast.ops import TORCH_OPS, BackendError
from tests.cases import NUMPY_DTYPES, arguments, assert_exact, in_float64

DTYPES = (torch.float32, torch.float64)
ROWWISE = sorted(name for name, op in TORCH_OPS.items() if op.rowwise)
DIFFERENTIABLE = sorted(name for name, op in TORCH_OPS.items() if op.differentiable)
ROWWISE_DIFFERENTIABLE = sorted(set(ROWWISE) & set(DIFFERENTIABLE))
ALWAYS_FINITE = [name for name in ROWWISE_DIFFERENTIABLE if not TORCH_OPS[name].may_overflow]

every_op = pytest.mark.parametrize("name", sorted(TORCH_OPS))
every_rowwise_op = pytest.mark.parametrize("name", ROWWISE)
every_differentiable_op = pytest.mark.parametrize("name", DIFFERENTIABLE)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def call(name, args):
    return TORCH_OPS[name].function(**args)


def main_array(name):
    return get(name).arrays[0]


def gradients(function, name, args):
    """Return the function's value and d(weighted sum of the value)/d(each differentiable input)."""
    wanted = TORCH_OPS[name].differentiable
    args = {k: v.clone().requires_grad_() if k in wanted else v for k, v in args.items()}
    value = function(**args)
    weight = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    return value.detach(), torch.autograd.grad((weight * value).sum(), [args[k] for k in wanted])


def over_differentiable(name, args):
    """Return the op as a function of its differentiable inputs alone, and these inputs."""
    wanted = TORCH_OPS[name].differentiable
    fixed = {k: v for k, v in args.items() if k not in wanted}
    inputs = tuple(args[k].clone().requires_grad_() for k in wanted)
    return lambda *xs: call(name, fixed | dict(zip(wanted, xs, strict=True))), inputs


def test_every_kernel_has_a_torch_op():
    assert set(names()) == set(TORCH_OPS)


@every_dtype
@every_op
def test_value_agrees_with_the_float64_reference(name, dtype):
    args = arguments(name, 100, dtype)
    value = call(name, args)
    if not value.is_floating_point():
        assert torch.equal(value, TORCH_OPS[name].reference(**in_float64(args)))
        return
    assert value.dtype == dtype
    assert_exact(name, [value], lambda a: [TORCH_OPS[name].reference(**a)], args, dtype)


@every_dtype
@every_differentiable_op
def test_gradient_agrees_with_the_float64_reference(name, dtype):
    op, args = TORCH_OPS[name], arguments(name, 100, dtype)
    value, computed = gradients(op.function, name, args)

    def exact(a):
        value, grads = gradients(op.reference, name, a)
        return [value, *grads]

    assert_exact(name, [value, *computed], exact, args, dtype)


@every_differentiable_op
def test_first_and_second_derivatives_pass_gradcheck(name):
    function, inputs = over_differentiable(name, arguments(name, 2, torch.float64))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@every_dtype
@every_op
def test_raw_ops_pass_opcheck(name, dtype):
    for op, positional in TORCH_OPS[name].raw_calls(**arguments(name, 5, dtype)):
        torch.library.opcheck(op, positional)


def test_every_op_of_our_namespace_is_opchecked():
    checked = {
        str(op).removesuffix(".default")
        for name, torch_op in TORCH_OPS.items()
        for op, _ in torch_op.raw_calls(**arguments(name, 2, torch.float64))
    }
    assert {name.replace("::", ".") for name in registered()} == checked


def registered():
    names = [schema.name for schema in torch._C._jit_get_all_schemas()]
    return sorted(name for name in names if name.startswith("bgfast::"))


@pytest.mark.parametrize("name", registered())
def test_every_op_of_our_namespace_has_a_rule_for_vmap_and_runs_on_both_devices(name):
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has(name, "FuncTorchBatched")  # else torch calls it once for each row
    assert has(name, "CompositeExplicitAutograd") or (has(name, "CPU") and has(name, "CUDA"))


@every_rowwise_op
@pytest.mark.parametrize("dim", [0, -1])
def test_vmap_gives_the_bits_of_the_batched_call(name, dim):
    args = arguments(name, 7, torch.float64)
    rows = args.pop(main_array(name))

    def one(row):
        return call(name, args | {main_array(name): row})

    assert torch.equal(torch.func.vmap(one, in_dims=dim)(rows.movedim(0, dim)), one(rows))


@pytest.mark.parametrize("name", ROWWISE_DIFFERENTIABLE)
@pytest.mark.parametrize("dim", [0, -1])
def test_vmap_of_grad_is_the_gradient(name, dim):
    args = arguments(name, 7, torch.float64)
    rows = args.pop(main_array(name))

    def one(row):
        return call(name, args | {main_array(name): row})

    x = rows.clone().requires_grad_()
    (expected,) = torch.autograd.grad(one(x).sum(), x)
    gradient = torch.func.grad(lambda row: one(row).sum())
    found = torch.func.vmap(gradient, in_dims=dim)(rows.movedim(0, dim))
    assert torch.equal(found, expected)


@every_op
def test_torch_compile_traces_it_whole(name):
    args = arguments(name, 6, torch.float32)
    compiled = torch.compile(TORCH_OPS[name].function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(**args), call(name, args))
    if TORCH_OPS[name].differentiable:
        value, computed = gradients(compiled, name, args)
        expected_value, expected = gradients(TORCH_OPS[name].function, name, args)
        torch.testing.assert_close((value, computed), (expected_value, expected))


@every_dtype
@every_op
def test_same_call_same_bits_for_any_number_of_threads(name, dtype):
    args = arguments(name, 1100, dtype)
    try:
        results = []
        for threads in (1, 1, 2, 3):
            cpu.set_threads(threads)
            if TORCH_OPS[name].differentiable:
                value, computed = gradients(TORCH_OPS[name].function, name, args)
                results.append([value, *computed])
            else:
                results.append([call(name, args)])
    finally:
        cpu.set_threads(None)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@every_dtype
@every_rowwise_op
@pytest.mark.parametrize("n", [0, 1, 61])
def test_rows_have_the_same_bits_in_any_batch(name, dtype, n):
    args = arguments(name, 64, dtype)
    rows = args[main_array(name)]
    part = call(name, args | {main_array(name): rows[3 : 3 + n]})
    assert torch.equal(part, call(name, args)[3 : 3 + n])


@every_rowwise_op
@pytest.mark.parametrize("leading", [(), (2, 3), (2, 0), (1, 1, 6)])
def test_any_leading_dimensions(name, leading):
    args = arguments(name, 6, torch.float64)
    rows = args[main_array(name)]
    flat = call(name, args)
    n = int(np.prod(leading))
    shaped = call(name, args | {main_array(name): rows[:n].reshape(leading + rows.shape[1:])})
    assert torch.equal(shaped, flat[:n].reshape(leading + flat.shape[1:]))


@every_dtype
@every_op
def test_strided_inputs_give_the_same_bits(name, dtype):
    args = arguments(name, 20, dtype)
    strided = {
        k: v.repeat_interleave(2, -1)[..., ::2] if isinstance(v, torch.Tensor) else v
        for k, v in args.items()
    }
    assert torch.equal(call(name, strided), call(name, args))


@every_op
def test_inputs_are_left_untouched(name):
    args = arguments(name, 20, torch.float64)
    tensors = {k: v for k, v in args.items() if isinstance(v, torch.Tensor)}
    copies = {k: v.clone() for k, v in tensors.items()}
    call(name, args)
    if TORCH_OPS[name].differentiable:
        function, inputs = over_differentiable(name, args)
        before = [x.detach().clone() for x in inputs]
        first = torch.autograd.grad(function(*inputs).sum(), inputs, create_graph=True)
        sum((g**2).sum() for g in first).backward()
        assert all(torch.equal(x, b) for x, b in zip(inputs, before, strict=True))
    assert all(
        not isinstance(v, torch.Tensor) or torch.equal(v, copies[k]) for k, v in args.items()
    )


@every_dtype
@every_rowwise_op
def test_a_nan_stays_in_its_row(name, dtype):
    args = arguments(name, 40, dtype)
    clean = call(name, args)
    rows = args[main_array(name)].clone()
    rows.flatten(1)[17, ::5] = torch.nan
    dirty = call(name, args | {main_array(name): rows})
    others = torch.arange(40) != 17
    assert torch.equal(dirty[others], clean[others])
    if dirty.is_floating_point():
        expected = TORCH_OPS[name].reference(**args | {main_array(name): rows})[17].isnan()
        assert expected.any()
        assert torch.equal(dirty[17].isnan(), expected)


@every_op
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64], ids=str)
def test_a_dtype_the_kernel_lacks_is_refused_by_name(name, dtype):
    args = arguments(name, 4, torch.float32)
    args |= {k: args[k].to(dtype) for k in get(name).arrays}
    with pytest.raises((BackendError, TypeError), match=str(dtype)):
        TORCH_OPS[name].function(**args, backend="numba")


def everything_finite(dtype):
    """Return a strategy for any finite number, with close, equal and huge ones made likely."""
    width = 32 if dtype == torch.float32 else 64
    anything = st.floats(width=width, allow_nan=False, allow_infinity=False)
    limit = np.finfo(NUMPY_DTYPES[dtype])
    special = st.sampled_from([0.0, 1e-30, 1e-6, 3.0, 1000.0, float(limit.max), float(limit.min)])
    return anything | special | st.floats(-4, 4, width=width)


@every_dtype
@pytest.mark.parametrize("name", ALWAYS_FINITE)
def test_no_finite_input_gives_a_value_or_gradient_that_is_not_finite(name, dtype):
    args = arguments(name, 2, dtype)
    shape = tuple(args[main_array(name)].shape)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(rows=arrays(NUMPY_DTYPES[dtype], shape, elements=everything_finite(dtype)))
    def check(rows):
        these = args | {main_array(name): torch.from_numpy(rows.copy())}
        value, computed = gradients(TORCH_OPS[name].function, name, these)
        assert value.isfinite().all()
        assert all(g.isfinite().all() for g in computed)

    check()
