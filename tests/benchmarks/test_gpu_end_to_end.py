"""The end-to-end rows of the GPU report, small and on the CPU."""

import json

import pytest
import torch

from benchmarks import end_to_end
from benchmarks import gpu_end_to_end as whole
from benchmarks.gpu_record import Record
from bgfast.flows.execution import bfloat16_is_supported

CPU = torch.device("cpu")
SMALL = whole.Scale(
    draws=600,
    chunk=300,
    batch=64,
    small=(32,),
    steps=2,
    windows=2,
    annealed=64,
    islands=2,
    rows=32,
    cess=0.05,
    leapfrog=1,
    pilot=16,
    flow="R2",
    hidden=(16, 16),
)


def test_every_goal_has_its_rows(monkeypatch, tmp_path):
    served = whole.PRECISIONS if bfloat16_is_supported() else ("full", "tf32")
    monkeypatch.setattr(whole, "PRECISIONS", served)
    record = Record(tmp_path / "found.json")
    before = torch.get_float32_matmul_precision()
    assert whole.measure(CPU, SMALL, record) == 0
    assert torch.get_float32_matmul_precision() == before
    rows = json.loads((tmp_path / "found.json").read_text())[whole.TABLE]
    made = [(row["what"], row["variant"]) for row in rows]
    assert made == [
        *(("draw + reweight", p) for p in served),
        *(("KL step", p) for p in served),
        ("KL step, replayed", "no graph"),
        ("draw + anneal + reweight", "tf32"),
        ("draw + anneal + reweight", "full"),
    ]
    assert all(0 < row["1st quartile"] <= row["ms"] <= row["3rd quartile"] for row in rows)
    assert [row["reached"] for row in rows if row["what"] == "KL step, replayed"] == [""]
    assert all(row["reached"] in ("yes", "no") for row in rows if row["goal"])


def test_a_row_that_fails_is_named_and_leaves_the_others_their_turn(monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError("out of memory")

    record = Record()
    monkeypatch.setattr(whole, "_draw_row", fails)
    monkeypatch.setattr(whole, "_step_row", lambda *_: {"n": 1})
    monkeypatch.setattr(whole, "_small_row", lambda *_: {"n": 2})
    monkeypatch.setattr(whole, "_anneal_row", lambda *_: {"n": 3})
    assert whole.measure(CPU, SMALL, record) == 3
    assert [row["n"] for row in record.found[whole.TABLE]] == [1, 1, 1, 2, 3, 3]
    assert "draw + reweight, tf32: RuntimeError: out of memory" in capsys.readouterr().err


def test_the_sample_size_is_that_of_the_usual_code():
    flow = whole.same_weights.make_flow((16,), "R2")
    expected = end_to_end.draw_and_reweight(flow, 500)
    assert whole.draw_and_reweight(flow, 500, 128).item() == pytest.approx(expected, rel=1e-6)


def test_the_arithmetic_is_that_of_the_flow_of_the_goals():
    flow = whole.same_weights.make_flow()
    # 16 half steps of 2 networks: 38 -> 200 -> 200 -> 200 -> 38
    assert whole.forward_flops(flow) == 32 * 2 * (38 * 200 + 200 * 200 * 2 + 200 * 38)


def test_products_are_counted_as_often_as_a_step_makes_them(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "mm", lambda a, b: made.append((a.shape, b.shape, a.dtype)))
    flow = whole.same_weights.make_flow((16, 16), "R2")
    monkeypatch.setattr(whole, "_seconds", lambda call, device, repeats: [call() or 0.5])
    # three shapes of layers, each its half second
    assert whole.product_seconds(flow, 10, "bfloat16", 1) == 1.5
    flops = sum(2 * a[0] * a[1] * b[1] for a, b, _ in made)
    assert flops == whole.PASSES * whole.forward_flops(flow) * 10
    kinds = {(a[1], b[1], dtype) for a, b, dtype in made if a[0] == 10}
    low, full = torch.bfloat16, torch.float32
    assert kinds >= {(38, 16, low), (16, 16, low), (16, 38, full)}
    assert (16, 16, full) not in kinds


def test_a_step_takes_the_time_its_samples_took():
    flow = whole.same_weights.make_flow((16,), "R2")
    start = [p.detach().clone() for p in flow.parameters()]
    seconds = whole.step_seconds(flow, 32, steps=2, windows=3)
    assert len(seconds) == 3
    assert all(0 < s < 5 for s in seconds)
    assert any(not torch.equal(a, b) for a, b in zip(start, flow.parameters(), strict=True))
    with pytest.raises(ValueError, match="needs a flow on a CUDA device"):
        whole.step_seconds(flow, 32, steps=2, windows=3, graph=True)
