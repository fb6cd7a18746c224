"""Fail at whatever would make the host wait for a device, without having one."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What reads a number of a device, has a shape that depends on its numbers, or copies a number of
# the host to it (lift_fresh: torch.tensor).
WAITS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::_unique2",
    "aten::repeat_interleave",
    "aten::lift_fresh",
    "aten::_to_copy",
}


class Waited(Exception):  # noqa: N818 what the device did
    pass


class NoWaiting(TorchDispatchMode):
    """Raises at an operation that would wait for a device if the tensors were on one.

    ``copies`` allows copies of whole tensors to the host, which a CPU tensor does not dispatch:
    the methods are replaced.
    """

    def __init__(self, *, copies=False):
        super().__init__()
        self.copies = copies

    def __enter__(self):
        self.methods = {name: getattr(torch.Tensor, name) for name in ("cpu", "to", "tolist")}
        if not self.copies:
            for name in self.methods:
                setattr(torch.Tensor, name, self._guarded(name))
        return super().__enter__()

    def __exit__(self, *error):
        for name, method in self.methods.items():
            setattr(torch.Tensor, name, method)
        return super().__exit__(*error)

    def _guarded(self, name):
        def method(x, *args, **kwargs):
            target = [a for a in (*args, kwargs.get("device")) if isinstance(a, str)]
            if name != "to" or any(a.startswith("cpu") for a in target):
                raise Waited(name)
            return self.methods[name](x, *args, **kwargs)

        return method

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func._schema.name, kwargs or {}
        tensors = [t for arg in args for t in (arg if isinstance(arg, (list, tuple)) else [arg])]
        masked = name in ("aten::index", "aten::index_put", "aten::index_put_") and any(
            isinstance(t, torch.Tensor) and t.dtype == torch.bool for t in tensors[1:]
        )
        # A conversion of the dtype is no copy to elsewhere, though autograd names the device.
        moved = name != "aten::_to_copy" or (
            kwargs.get("device") is not None and kwargs.get("dtype") in (None, args[0].dtype)
        )
        if masked or (name in WAITS and moved):
            raise Waited(name)
        return func(*args, **kwargs)


def no_network_kernels(monkeypatch):
    """Let networks run in plain torch, as they do where a mode sees every operation."""
    for module in ("dense", "coupling_block"):
        monkeypatch.setattr(f"bgfast.flows.{module}.tiles_pay", lambda *_: False)
