"""The comparison with peers: who is listed, who is timed, and that it runs where no peer is."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks.peers import __main__ as command
from benchmarks.peers import question
from benchmarks.peers import same_weights as same
from benchmarks.peers.question import Answer, Case, Contender, Question

PEERS = ("jax", "normflows", "nflows", "zuko", "openmm", "KDEpy", "pykeops", "lap", "bgflow")
VALUES = np.array([1.0, 2.0, 4.0])


def contender(name: str, values: np.ndarray) -> Contender:
    return Contender(name, lambda: Answer(lambda: values))


def asked(*contenders: Contender) -> dict[str, question.Row]:
    case = Case("a case", 3, (VALUES,), 1e-3, contenders)
    (rows,) = question.ask(Question("?", "us", lambda quick: [case]), True, 1, 3, 0.0)
    return {row.code: row for row in rows}


def test_a_peer_that_disagrees_is_listed_and_not_timed() -> None:
    rows = asked(contender("bgfast", VALUES), contender("wrong", VALUES * 1.01))
    assert rows["bgfast"].median > 0
    assert rows["bgfast"].relative == 1.0
    assert rows["wrong"].median is None
    assert rows["wrong"].status.startswith("disagrees: error 1.0e-02")


def test_nan_and_missing_rows_are_not_agreement() -> None:
    rows = asked(contender("nan", VALUES * np.nan), contender("shape", VALUES[:, None]))
    assert rows["nan"].status.startswith("disagrees")
    assert rows["shape"].status.startswith("failed: ValueError")


def test_absent_and_broken_peers_do_not_take_the_table_with_them() -> None:
    def absent() -> Answer:
        raise ImportError("No module named 'peer'")

    def broken() -> Answer:
        raise RuntimeError("no such platform\nmore")

    rows = asked(contender("bgfast", VALUES), Contender("a", absent), Contender("b", broken))
    assert rows["a"].status == "absent: No module named 'peer'"
    assert rows["b"].status == "failed: RuntimeError: no such platform"
    assert rows["bgfast"].status == "timed"


def test_bgfast_must_agree() -> None:
    with pytest.raises(AssertionError, match="bgfast on 'a case' disagrees"):
        asked(contender("bgfast", VALUES + 1))


def test_a_code_given_fewer_items_is_timed_per_item() -> None:
    slow = Contender("slow", lambda: Answer(lambda: VALUES[:1], n=1))
    rows = asked(contender("bgfast", VALUES), slow)
    assert rows["slow"].status == "timed"
    assert rows["slow"].error == 0.0


class _NoPeers:
    """An import hook that knows no other codes. (None in sys.modules confuses SciPy.)"""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in PEERS:
            raise ModuleNotFoundError(f"no module named {name}", name=name)


def test_every_question_runs_without_peers(monkeypatch, tmp_path, capsys) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ImportError("not in tests: compiling takes long")

    for peer in PEERS:
        monkeypatch.delitem(sys.modules, peer, raising=False)
    monkeypatch.setattr(sys, "meta_path", [_NoPeers(), *sys.meta_path])
    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(command, "limit_threads", lambda requested: 1)
    monkeypatch.setattr(question, "_LEAST_SECONDS", 0.0)
    out = tmp_path / "peers.json"
    command.main(["--quick", "--json", str(out)])
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["machine"]["threads"] == 1
    assert found["machine"]["torch"] == torch.__version__
    timed = {(r["question"], r["case"]): 0 for r in found["rows"]}
    for row in found["rows"]:
        assert row["status"].split(":")[0] in ("timed", "absent")
        assert row["code"] in printed
        timed[row["question"], row["case"]] += row["status"] == "timed"
    assert {q for q, _ in timed} >= set(command.QUESTIONS) - {"spline"}
    assert min(timed.values()) >= 2  # bgfast, and what comes with its own dependencies


def test_an_unknown_question_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        command.main(["energies"])
    assert "no question energies; there are energy, kde" in capsys.readouterr().err


def test_textbook_and_masked_networks_are_the_flow() -> None:
    flow = same.make_flow((16,), "R2")
    taken = same.steps(flow)
    z = torch.randn(5, same.DIM)
    for ours, theirs in zip(flow.forward(z), same.textbook(taken).decode(z), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-4)
    step, x = taken[0], torch.randn(5, same.DIM)
    wide = same.widened(step.shift, step.transformed)(x)
    narrow = step.shift(x[:, 1 - step.transformed :: 2])
    torch.testing.assert_close(wide[:, step.transformed :: 2], narrow)


def test_a_question_asked_again_replaces_its_own_rows_on_the_same_machine(tmp_path) -> None:
    def row(name: str, median: float) -> dict[str, object]:
        return {"question": name, "median": median}

    path = tmp_path / "peers.json"
    machine = {"cpu": "A", "jax": "1"}
    assert command.kept_beside(path, machine, [row("kde", 1.0)])["rows"] == [row("kde", 1.0)]
    before = {"machine": machine, "rows": [row("kde", 1.0), row("flow", 2.0), row("flow", 3.0)]}
    path.write_text(json.dumps(before))
    found = command.kept_beside(path, {"cpu": "A", "zuko": "2"}, [row("flow", 4.0)])
    assert found == {
        "machine": {"cpu": "A", "jax": "1", "zuko": "2"},
        "rows": [row("kde", 1.0), row("flow", 4.0)],
    }
    other = command.kept_beside(path, {"cpu": "B"}, [row("flow", 4.0)])
    assert other == {"machine": {"cpu": "B"}, "rows": [row("flow", 4.0)]}
