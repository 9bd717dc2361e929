"""What W&B records on demand: commit, packages, load, a checkpoint, alerts, a sweep's report."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_writers import make_members

from actsweep.config import resolve
from actsweep.loggers import wandb_log
from actsweep.loggers import wandb_support as support
from actsweep.loggers.wandb_run import WandbRun
from actsweep.report.wandb_report import log_report
from actsweep.runs.members import make_member
from actsweep.runs.rows import MemberInfo, Row
from actsweep.sweeps.plan import Plan

SHA = "0123456789abcdef0123456789abcdef01234567"


def member(folder: Path, **logger: Any) -> MemberInfo:
    """A run with a status that names a commit, and a checkpoint of two files."""
    (info,) = make_members(folder, 1)
    (info.run_dir / "status.json").write_text(json.dumps({"git": {"sha": SHA}}))
    for step in (9, 40):
        (info.run_dir / "checkpoints" / f"step-{step}").mkdir(parents=True)
        (info.run_dir / "checkpoints" / f"step-{step}" / "data").write_text(f"at {step}")
    return replace(info, config={**info.config, "logger": logger})


def log(info: MemberInfo, state: str = "complete", seconds: float = 0.0) -> list[Any]:
    """Log two rows and the end; return the records of W&B's file."""
    run = WandbRun(info, "offline", {"project": "p"})
    run.put(Row(0, 0.0, {"val/loss": 1.0}))
    time.sleep(seconds)
    run.put(Row(40, 1.0, {"val/loss": 0.5}))
    run.end(state, {"state": state, "epochs": 1.0, "best_epoch": 1.0})
    run.finish(state)
    assert wandb_log.wait_until_finished(run.file, time.monotonic() + 10)
    return records(run.file)


def records(file: Path) -> list[Any]:
    return [wandb_log._record(content) for content, _ in wandb_log.records(file.read_bytes())]


def of(kind: str, found: list[Any]) -> list[Any]:
    return [getattr(one, kind) for one in found if one.WhichOneof("record_type") == kind]


def test_by_default_the_commit_is_recorded_and_nothing_that_costs(tmp_path: Path) -> None:
    info = member(tmp_path)
    found = log(info, "diverged")
    assert of("run", found)[0].git.commit == SHA
    assert not of("alert", found)
    assert not of("artifact", found)
    assert not of("stats", found)
    assert not [*info.run_dir.rglob("requirements.txt")]


def test_the_commit_can_be_left_out(tmp_path: Path) -> None:
    assert of("run", log(member(tmp_path, git=False)))[0].git.commit == ""


def test_packages_and_load_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = support.fast_settings

    def often(*arguments: Any) -> Any:
        settings = whole(*arguments)
        settings.x_stats_sampling_interval = 0.2
        return settings

    monkeypatch.setattr(support, "fast_settings", often)
    info = member(tmp_path, requirements=True, system=True)
    found = log(info, seconds=1.0)
    (file,) = info.run_dir.rglob("requirements.txt")
    assert "numpy==" in file.read_text()
    keys = {item.key for one in of("stats", found) for item in one.item}
    assert any(key.startswith(("cpu", "memory")) for key in keys), keys


def test_the_last_checkpoint_becomes_an_artifact(tmp_path: Path) -> None:
    info = member(tmp_path, checkpoint=True)
    (artifact,) = of("artifact", log(info))
    assert (artifact.name, artifact.type) == (f"{info.run_id}-checkpoint", "model")
    assert set(artifact.aliases) == {"best", "latest"}
    assert json.loads(artifact.metadata) == {"best_epoch": 1.0}
    (entry,) = artifact.manifest.contents
    assert (entry.path, Path(entry.local_path).read_text()) == ("data", "at 40")


def test_what_is_cut_short_leaves_no_artifact(tmp_path: Path) -> None:
    assert not of("artifact", log(member(tmp_path, checkpoint=True), "preempted"))


@pytest.mark.parametrize(("state", "alerts"), [("diverged", 1), ("failed", 1), ("complete", 0)])
def test_a_run_that_diverges_raises_an_alert(tmp_path: Path, state: str, alerts: int) -> None:
    info = member(tmp_path, alerts=True)
    found = [(one.title, one.text) for one in of("alert", log(info, state))]
    title = f"{info.run_id} {state}"
    assert found == [(title, f"{title} at epoch 1.0")] * alerts


def report_of(outputs: Path, mode: str = "offline") -> list[Path]:
    """W&B's files that wait, of the report of a sweep that is made up."""
    runs = [
        resolve.resolve(
            {
                "act": {"name": act},
                "seed": seed,
                "paths": {"outputs": str(outputs)},
                "logger": {"mode": mode},
                "sweep": {"name": "pilot", "tags": ["toy"]},
            }
        )
        for act in ("relu", "tanh")
        for seed in (0, 1)
    ]
    members = [make_member(run) for run in runs]
    folder = outputs / "sweeps" / "now"
    sweep = Plan(folder, ["train.py"], [members], {m.run_id: [] for m in members})
    (folder / "report").mkdir(parents=True, exist_ok=True)
    page = folder / "report" / "index.html"
    page.write_text("<html><body>the page</body></html>")
    page.with_name("pairs.csv").write_text("a,b,difference,verdict\nrelu,tanh,0.25,differ\n")
    assert log_report(sweep, page) == (None if mode == "disabled" else "pilot report")
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    waiting = [file for file in files if not wandb_log.is_synced(file)]
    for file in waiting:
        assert wandb_log.wait_until_finished(file, time.monotonic() + 10)
    return waiting


def test_the_report_is_the_sweep_s_last_run(tmp_path: Path) -> None:
    (file,) = report_of(tmp_path)
    found = records(file)
    run = of("run", found)[0]
    assert (run.display_name, run.run_group, run.job_type) == ("pilot report", "pilot", "report")
    assert list(run.tags) == ["toy"]
    (row,) = of("history", found)
    values = {"/".join(item.nested_key) or item.key: item.value_json for item in row.item}
    folder = file.parent / "files"
    table = json.loads((folder / json.loads(values["verdicts/path"])).read_text())
    assert table["columns"] == ["a", "b", "difference", "verdict"]
    assert table["data"] == [["relu", "tanh", 0.25, "differ"]]
    assert "the page" in (folder / json.loads(values["report/path"])).read_text()
    assert not any(name.startswith("groups") for name in values)  # there was no such file


def test_of_two_reports_only_the_newest_is_uploaded(tmp_path: Path) -> None:
    (first,) = report_of(tmp_path)
    (second,) = report_of(tmp_path)
    assert first != second
    assert wandb_log.is_synced(first)


def test_without_w_and_b_there_is_no_report_run(tmp_path: Path) -> None:
    assert report_of(tmp_path, mode="disabled") == []
