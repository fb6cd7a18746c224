import pytest
import torch

from bgfast.flows import architecture
from bgfast.training import CheckpointError, Stage, Trainer, TrainingConfig, load_checkpoint
from bgfast.training.checkpoint import save_checkpoint

STAGE = Stage(steps=4, w_ml=1.0, batch_ml=4)


def trainer(out, spec="R1", n=20, **stage):
    data = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    config = TrainingConfig(stages=[STAGE.model_copy(update=stage)])
    return Trainer(architecture(spec, 2, (8,)), None, config, data=data, out=out)


@pytest.fixture
def finished(tmp_path):
    trainer(tmp_path).run()
    return tmp_path


def test_holds_plain_values_that_rebuild_the_flow(finished):
    state = load_checkpoint(finished / "checkpoint.pt")
    assert state["step"] == 4
    assert state["flow_config"]["spec"] == "R1"
    assert state["config"]["stages"][0]["batch_ml"] == 4
    assert set(state["versions"]) == {"bgfast", "torch"}
    architecture("R1", 2, (8,), seed=5).load_state_dict(state["flow"])


def truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def foreign(path):
    torch.save({"weights": torch.zeros(3)}, path)


def newer(path):
    torch.save({"format": "bgfast-training-99"}, path)


def text(path):
    path.write_text("not a checkpoint")


def incomplete(path):
    torch.save({"format": "bgfast-training-1", "step": 3}, path)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncated, foreign, newer, text, incomplete, empty])
def test_a_damaged_or_foreign_file_is_named_with_advice(finished, damage):
    path = finished / "checkpoint.pt"
    damage(path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as error:
        trainer(finished).run(resume=True)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert "start again" in message or "use the version" in message
    assert path.read_bytes() == before


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*checkpoint\.pt"):
        trainer(tmp_path).run(resume=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 1e-4}, r"stages\[0\]\.lr was 0.001, now 0.0001"),
        ({"spec": "R2"}, r"flow_config\.spec was 'R1', now 'R2'"),
        ({"n": 21}, r"data\[0\] was 20, now 21"),
    ],
)
def test_another_training_is_refused_naming_the_keys(finished, changes, named):
    with pytest.raises(CheckpointError, match=named):
        trainer(finished, **changes).run(resume=True)


def test_metrics_shorter_than_the_checkpoint_says_are_refused(finished):
    (finished / "metrics.jsonl").write_text("")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl has 0 bytes"):
        trainer(finished).run(resume=True)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {"step": lambda: 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
