"""What the command line prints, in this process."""

from typer.testing import CliRunner

from bgfast.cli import app
from bgfast.doctor import Check
from bgfast.experiments.folder import RunFolder


def test_what_is_in_brackets_is_printed(tmp_path, monkeypatch):
    advice = "pip install 'bgfast[cuda13]'"
    monkeypatch.setattr("bgfast.doctor.checks", lambda: [Check("CUDA", False, advice)])
    assert advice in CliRunner().invoke(app, ["doctor"]).output
    folder = RunFolder(tmp_path / "[bold]")
    monkeypatch.setattr("bgfast.cli._use_threads", lambda _: None)  # of this process, for good
    monkeypatch.setattr("bgfast.experiments.runner.analyze_run", lambda *_, **__: folder)
    assert "[bold]" in CliRunner().invoke(app, ["analyze", str(folder.path)]).output
