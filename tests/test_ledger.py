"""Run directories: atomic writes, states, a fresh start, members.csv, bad output folders."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from actsweep.runs import run_dir
from actsweep.runs.run_dir import RunDir
from actsweep.utils import files, provenance
from actsweep.utils.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path, "relu-mlp4-torch-s0-3fa9c1d2")


def test_layout(run: RunDir, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "relu-mlp4-torch-s0-3fa9c1d2"
    assert run.path == folder
    names = [run.config, run.status, run.metrics, run.histograms, run.summary]
    names += [run.checkpoints, run.wandb, run.messages]
    assert [str(name.relative_to(folder)) for name in names] == [
        "config.yaml",
        "status.json",
        "metrics.jsonl",
        "histograms.npz",
        "summary.json",
        "checkpoints",
        "wandb",
        "messages.log",
    ]


def test_crash_before_rename_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "status.json"
    files.write_atomic(path, "old")

    def crash(source: object, target: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["status.json"]
    files.write_atomic(path, b"new")
    assert path.read_text() == "new"


def test_killed_before_rename_keeps_the_old_file(run: RunDir) -> None:
    """A real kill leaves the temporary file behind; a fresh start clears it away."""
    run_dir.prepare(run, {})
    before = run.status.read_text()
    code = (
        "import os, sys, pathlib, signal; from actsweep.utils import files\n"
        "os.replace = lambda a, b: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomic(pathlib.Path(sys.argv[1]), 'half')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.status)], check=False)
    assert done.returncode == -9
    assert run.status.read_text() == before
    assert len(list(run.path.glob(".*.tmp"))) == 1
    run_dir.prepare(run, {})
    assert not list(run.path.glob(".*.tmp"))


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    files.write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["summary.json"]


def test_json_has_null_for_nan_and_infinity(tmp_path: Path) -> None:
    value = {"a": np.float32(0.5), "b": float("nan"), "c": [float("inf"), np.int64(3)], "d": None}
    files.write_json(tmp_path / "x.json", {**value, "e": np.array([1.0, np.nan])})
    read = json.loads((tmp_path / "x.json").read_text())
    assert read == {"a": 0.5, "b": None, "c": [None, 3], "d": None, "e": [1.0, None]}


@pytest.mark.parametrize("state", run_dir.STATES)
def test_every_state_is_read_back(run: RunDir, state: str) -> None:
    run_dir.prepare(run, {})
    run_dir.write_status(run, state, step=7, epoch=0.5, cause="loss is NaN", slot=3)
    status = run_dir.read_status(run)
    assert status is not None
    assert (status["state"], status["step"], status["epoch"]) == (state, 7, 0.5)
    assert (status["cause"], status["slot"], status["pid"]) == ("loss is NaN", 3, os.getpid())
    assert set(status["versions"]) == {"actsweep", "jax"}
    assert set(status["git"]) == {"sha", "dirty", "diff"}
    assert status["started"].endswith("+00:00")
    assert status["started"] <= status["updated"]


def test_unknown_state_raises(run: RunDir) -> None:
    run_dir.prepare(run, {})
    with pytest.raises(ValueError, match="finished"):
        run_dir.write_status(run, "finished", step=0, epoch=0)
    status = run_dir.read_status(run)
    assert status is not None
    assert status["state"] == "running"


def test_started_survives_updates(run: RunDir) -> None:
    run_dir.prepare(run, {})
    status = json.loads(run.status.read_text())
    run.status.write_text(json.dumps({**status, "started": "2020-01-01T00:00:00+00:00"}))
    run_dir.write_status(run, "complete", step=1, epoch=1)
    after = run_dir.read_status(run)
    assert after is not None
    assert after["started"] == "2020-01-01T00:00:00+00:00"


def test_missing_or_broken_status_is_none(run: RunDir) -> None:
    assert run_dir.read_status(run) is None
    assert run_dir.read_summary(run) is None
    run.path.mkdir(parents=True)
    for text in ("", '{"state": "comp', "[1]"):
        run.status.write_text(text)
        assert run_dir.read_status(run) is None


def test_git_is_tolerant(tmp_path: Path, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance._git.cache_clear()
    run_dir.prepare(run, {})
    provenance._git.cache_clear()
    status = run_dir.read_status(run)
    assert status is not None
    assert status["git"] == {"sha": None, "dirty": None, "diff": None}
    assert provenance.other_code(status) is None


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git repository with one commit of `code.py`, as the working folder."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "code.py").write_text("a = 1\n")
    commit()
    yield tmp_path
    provenance._git.cache_clear()


def commit() -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "x"], check=True)


def now() -> dict[str, Any]:
    """The code as it is on disk, in this moment."""
    provenance._git.cache_clear()
    return provenance.provenance()


def without_diff(status: dict[str, Any]) -> dict[str, Any]:
    """As it was written before there were diffs."""
    return {**status, "git": {k: v for k, v in status["git"].items() if k != "diff"}}


def test_git_names_commit_and_changes(repository: Path) -> None:
    clean = now()["git"]
    assert len(clean["sha"]) == 40
    assert (clean["dirty"], clean["diff"]) == (False, None)
    (repository / "new.py").write_text("")
    assert now()["git"] == {**clean, "dirty": True}
    (repository / "code.py").write_bytes(b"a = '\xe4'  # latin 1, as people have it\n")
    first = now()["git"]
    assert first["sha"] == clean["sha"]
    assert len(first["diff"]) == 12
    subprocess.run(["git", "config", "diff.noprefix", "true"], check=True)
    subprocess.run(["git", "config", "color.ui", "always"], check=True)
    subprocess.run(["git", "config", "diff.external", "echo"], check=True)
    (repository / "deeper").mkdir()
    os.chdir(repository / "deeper")
    assert now()["git"] == first
    (repository / "code.py").write_text("a = 3\n")
    assert now()["git"]["diff"] not in (None, first["diff"])


def test_the_same_code_is_no_other_code(repository: Path) -> None:
    clean = now()
    assert provenance.other_code(clean) is None
    assert provenance.other_code(without_diff(clean)) is None
    (repository / "notes.txt").write_text("not tracked")
    now()
    assert provenance.other_code(clean) is None
    (repository / "code.py").write_text("a = 2\n")
    changed = now()
    assert provenance.other_code(changed) is None
    (repository / "code.py").write_text("a = 3\n")
    now()
    (repository / "code.py").write_text("a = 2\n")
    now()
    assert provenance.other_code(changed) is None


def test_other_changes_are_other_code(repository: Path) -> None:
    clean = now()
    git = f"git {clean['git']['sha'][:7]}"
    (repository / "code.py").write_text("a = 2\n")
    changed = now()
    assert provenance.other_code(clean) == f"{git} (now with changes)"
    assert provenance.other_code(without_diff(clean)) == f"{git} (now with changes)"
    assert provenance.other_code(without_diff(changed)) == f"{git} with changes"
    (repository / "code.py").write_text("a = 3\n")
    now()
    assert provenance.other_code(changed) == f"{git} with changes (now with others)"
    subprocess.run(["git", "checkout", "-q", "."], check=True)
    now()
    assert provenance.other_code(changed) == f"{git} with changes (now without)"
    assert provenance.other_code(without_diff(changed)) == f"{git} with changes (now without)"


def test_another_commit_is_other_code(repository: Path) -> None:
    clean = now()
    old = f"git {clean['git']['sha'][:7]}"
    (repository / "code.py").write_text("a = 2\n")
    changed = now()
    commit()
    new = now()["git"]["sha"][:7]
    assert provenance.other_code(clean) == f"{old} (now {new})"
    assert provenance.other_code(changed) == f"{old} with changes (now {new})"
    (repository / "code.py").write_text("a = 3\n")
    now()
    assert provenance.other_code(clean) == f"{old} (now {new} with changes)"


def test_other_versions_are_other_code(repository: Path) -> None:
    same = now()
    jax = same["versions"]["jax"]
    assert provenance.other_code({**same, "versions": {"jax": "0.1.2"}}) == f"jax 0.1.2 (now {jax})"
    both = {"git": {**same["git"], "sha": "0" * 40}, "versions": {"jax": "0.1.2"}}
    found = f"git 0000000 (now {same['git']['sha'][:7]}), jax 0.1.2 (now {jax})"
    assert provenance.other_code(both) == found


@pytest.mark.parametrize("status", [{}, {"git": None, "versions": None}, {"versions": {}}])
def test_what_a_status_does_not_know_is_not_compared(status: Any, repository: Path) -> None:
    now()
    assert provenance.other_code(status) is None
    unknown = {"git": {"sha": None, "dirty": None}, "versions": {"jax": None}}
    assert provenance.other_code(unknown) is None


def test_prepare_leaves_nothing_stale(run: RunDir) -> None:
    run_dir.prepare(run, {"act": {"name": "relu"}, "optim": {"eps": 1e-8, "lr": 0.1}})
    for file in (run.metrics, run.histograms, run.summary, run.messages):
        file.write_text("stale")
    for folder in (run.checkpoints, run.wandb):
        folder.mkdir()
        (folder / "x").write_text("stale")
    run_dir.write_status(run, "complete", step=100, epoch=3)
    run_dir.prepare(run, {"act": {"name": "elu"}, "optim": {"eps": 1e-8, "lr": 0.1}})
    assert sorted(os.listdir(run.path)) == ["config.yaml", "status.json"]
    status = run_dir.read_status(run)
    assert status is not None
    assert (status["state"], status["step"]) == ("running", 0)
    config = OmegaConf.to_container(OmegaConf.load(run.config))
    assert config == {"act": {"name": "elu"}, "optim": {"eps": 1e-8, "lr": 0.1}}


def test_prepare_removes_the_status_first(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir.prepare(run, {})
    run_dir.write_status(run, "complete", step=1, epoch=1)
    run.checkpoints.mkdir()

    def crash(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", crash)
    with pytest.raises(KeyboardInterrupt):
        run_dir.prepare(run, {})
    assert run_dir.read_status(run) is None


def test_members_csv_round_trip(tmp_path: Path) -> None:
    folder = run_dir.sweep_dir(tmp_path, "nine")
    assert folder == tmp_path / "sweeps" / "nine"
    rows = [
        {
            "run_id": "00012e34",
            "overrides": ["act=relu", "depth.widths=[8,8]"],
            "state": "complete",
            "act": "relu",
            "seed": 0,
            "lr": 0.01,
            "test_accuracy": 0.875,
            "batching": "map",
        },
        {"run_id": "b", "overrides": "act=elu", "state": "diverged", "test_loss": float("nan")},
    ]
    path = run_dir.write_members_csv(folder, rows)
    header = path.read_text().splitlines()[0].split(",")
    assert header == [*run_dir.MEMBERS_COLUMNS, "batching"]
    first, second = run_dir.read_members_csv(folder)
    assert (first["run_id"], first["overrides"]) == ("00012e34", "act=relu depth.widths=[8,8]")
    assert (first["seed"], first["lr"], first["test_accuracy"]) == (0, 0.01, 0.875)
    assert isinstance(first["seed"], int)
    assert second["seed"] is None
    assert np.isnan(second["test_loss"])
    run_dir.write_members_csv(folder, [])
    assert run_dir.read_members_csv(folder) == []


def test_outputs_below_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outputs = str(tmp_path / "file" / "outputs")
    with pytest.raises(UserError) as caught:
        run_dir.check_writable(outputs)
    text = str(caught.value)
    assert text.startswith(f"paths.outputs={outputs}:")
    assert "Not a directory" in text
    assert "paths.outputs=/some/folder" in text


def test_writable_outputs_are_left_empty(tmp_path: Path) -> None:
    run_dir.check_writable(str(tmp_path / "a" / "b"))
    assert os.listdir(tmp_path / "a" / "b") == []


def test_no_jax_is_imported() -> None:
    code = (
        "import sys, actsweep.runs.run_dir, actsweep.loggers\n"
        "late = {'jax', 'wandb', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported: {late}' if late else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
