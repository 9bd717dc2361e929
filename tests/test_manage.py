"""actsweep status, gc and rm: what is shown of sweeps in whatever state, and what is removed."""

import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sweeps_on_disk import sweep_on_disk
from test_run import make

from actsweep.cli import cleanup
from actsweep.cli.main import main
from actsweep.cli.status import show
from actsweep.config import resolve
from actsweep.config.schema import RunConfig
from actsweep.report.write import PAGE
from actsweep.runs import checkpoint, leases, run_dir
from actsweep.runs.leases import Leases
from actsweep.runs.members import make_member
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import find, plan
from actsweep.sweeps import progress as progress_module
from actsweep.sweeps.progress import last_values
from actsweep.sweeps.status import SweepSnapshot, take_snapshot
from actsweep.sweeps.status_text import ago, as_plain
from actsweep.utils import files
from actsweep.utils.errors import UserError

NAME = "2026-03-01_12-00-00-000000"
STATES = ("complete", "running", "interrupted", "waiting", "failed", "preempted")
ROW = {"step": 18, "epoch": 1.0, "val/accuracy": 0.5, "val/loss": 1.5, "train/loss": 1.25}


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


def submit(outputs: Path, runs: list[RunConfig], name: str = NAME) -> list[RunDir]:
    """Freeze a sweep, as if `train.py -m` had been killed at once; return its runs' folders."""
    members = [make_member(run) for run in runs]
    overrides = {member.run_id: [f"seed={member.config.seed}"] for member in members}
    submitted = 0.0
    with contextlib.suppress(ValueError):  # a name that the user gave
        submitted = datetime.strptime(name, find.NAMED_BY_TIME).timestamp()
    made = plan.new_plan(outputs / "sweeps" / name, [members], overrides)
    dataclasses.replace(made, submitted=submitted).write()
    return [member.dir for member in members]


def leave(folder: RunDir, state: str, sweep: str = NAME, age: float = 0.0, **more: Any) -> None:
    """Write what a training in this state leaves of a run, `age` seconds after its last write."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.metrics.write_text(json.dumps(ROW) + "\n")
    run_dir.write_status(folder, state, step=18, epoch=1, sweep=sweep, attempt=1, **more)
    status = run_dir.read_status(folder) or {}
    written = datetime.now(UTC) - timedelta(seconds=age)
    files.write_json(folder.status, {**status, "updated": written.isoformat()})


@pytest.fixture
def mixed(outputs: Path) -> Iterator[list[RunDir]]:
    """A sweep of one run in each of `STATES`."""
    folders = submit(outputs, [make(outputs, seed=seed) for seed in range(len(STATES))])
    complete, running, killed, _, failed, preempted = folders
    leave(complete, "complete")
    files.write_json(complete.summary, {"run_id": complete.run_id, "state": "complete"})
    leave(running, "running")
    leave(killed, "running", age=200)
    leave(failed, "failed", cause="ValueError: no good")
    leave(preempted, "preempted", age=7300)
    with Leases(outputs, NAME) as leases:
        leases.take([running.run_id])
        yield folders


def shown(outputs: Path, name: str | None = None, width: int = 100) -> list[str]:
    stream = io.StringIO()
    show(outputs, name, stream, width)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_status_of_a_sweep(outputs: Path, mixed: list[RunDir]) -> None:
    lines = shown(outputs, "last")
    assert all(len(line) <= 100 for line in lines)
    table = [line.split() for line in lines if line.startswith("relu-") and ": " not in line]
    assert [words[0] for words in table] == [folder.run_id for folder in mixed]
    cells = [words[1:] for words in table]
    assert [words[0] for words in cells] == list(STATES)
    assert [words[1:4] for words in cells] == [
        ["–"] * 3 if state == "waiting" else ["1/2", "50.00", "1.25"] for state in STATES
    ]
    where = [" ".join(words[4:]) for words in cells]
    assert where[1].endswith(f":{os.getpid()}")
    assert (where[2], where[3], where[5]) == ("3 min ago", "–", "2 h ago")
    assert lines[-1] == f"{mixed[4].run_id} failed: ValueError: no good"
    each = "1 complete, 1 running, 1 failed, 1 interrupted, 1 preempted, 1 waiting"
    assert lines[-2] == f"{NAME}: {each}"  # it is in training: nothing to type


def test_status_shows_what_differs_and_no_id_tells(outputs: Path) -> None:
    """Not the activation, which the id names; of what only some runs have a dash."""
    runs = [make(outputs, seed=seed, optim={"lr": lr}) for seed, lr in ((0, 0.1), (1, 0.025))]
    runs += [
        make(outputs, act={"name": "elu", "alpha": alpha}, optim={"lr": 0.1})
        for alpha in (0.5, 1.0)
    ]
    ids = [folder.run_id for folder in submit(outputs, runs)]
    lines = [line.split() for line in shown(outputs, NAME)]
    (heading,) = [words for words in lines if words[:1] == ["run"]]
    assert heading[:4] == ["run", "lr", "act.alpha", "state"]
    cells = [words[1:4] for words in lines if words and words[0] in ids]
    assert cells == [
        *(["0.1", "–", "waiting"], ["0.025", "–", "waiting"]),
        *(["0.1", "0.5", "waiting"], ["0.1", "1.0", "waiting"]),
    ]
    plain = as_plain(take_snapshot(outputs / "sweeps" / NAME))
    assert plain["runs"][1]["settings"] == {"lr": 0.025, "act.alpha": None}


def test_the_overrides_that_differ(outputs: Path) -> None:
    submit(outputs, [make(outputs, seed=seed) for seed in (3, 4)])
    made = plan.read_plan(outputs / "sweeps" / NAME, to_train=False)
    (first, second), words = made.runs, dict(made.overrides)
    words[first] = ["act=relu", "seed=3", "+x=1"]
    words[second] = ["act=relu", "seed=4"]
    found = dataclasses.replace(made, overrides=words).differing
    assert found == {first: {"seed": "3", "x": "1"}, second: {"seed": "4"}}


def test_table_says_where_the_report_is(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_on_disk(outputs, NAME, seeds=1)
    assert main(["table", NAME]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"report: none yet; to write it: actsweep report {NAME}"
    page = outputs / "sweeps" / NAME / "report" / PAGE
    page.parent.mkdir()
    page.write_text("")
    assert main(["table", NAME]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {page}"


def test_status_says_what_to_type_when_no_process_trains(
    outputs: Path, mixed: list[RunDir]
) -> None:
    for file in (outputs / ".alive").iterdir():  # as if it had been killed
        os.utime(file, (0, 0))
        about = json.loads(file.read_text()) | {"machine": ["elsewhere"]}
        file.write_text(json.dumps(about))
        os.utime(file, (0, 0))
    lines = shown(outputs, NAME)
    assert lines[-2:] == [f"go on:  actsweep resume {NAME}", f"retry:  actsweep retry {NAME}"]
    assert "2 interrupted" in lines[-4]
    elsewhere = shown(outputs.absolute())
    assert elsewhere[-1] == f"retry:  actsweep retry {outputs.absolute()}/sweeps/{NAME}"


def test_a_sweep_whose_jobs_wait_in_a_queue_is_supervised(outputs: Path) -> None:
    submit(outputs, [make(outputs)])
    assert "go on" in shown(outputs)[-1]
    with Leases(outputs, NAME):
        assert shown(outputs)[-1] == f"{NAME}: 1 waiting"


def test_status_without_a_name_lists_the_newest_first(outputs: Path, mixed: list[RunDir]) -> None:
    for day in range(11, 23):
        submit(outputs, [make(outputs, seed=day)], f"2026-02-{day}_12-00-00-000000")
    (outputs / "sweeps" / "2026-02-22_12-00-00-000000" / "plan.json").write_text("{")
    lines = shown(outputs, width=140)
    assert lines[1].startswith(f"{NAME}  1 complete, 1 running, ")
    assert lines[2].startswith("2026-02-22_12-00-00-000000  ?")
    assert lines[3].startswith("2026-02-21_12-00-00-000000  1 waiting ")
    assert lines[11] == "and 3 older ones in outputs/sweeps"
    assert lines[-2].startswith(f"{NAME}: ")


def test_what_another_sweep_left_is_still_to_be_trained(outputs: Path) -> None:
    """What is trained again depends on this sweep's `rerun`."""
    first, second = (make(outputs, seed=0), make(outputs, seed=1, rerun="all"))
    folders = submit(outputs, [first, second])
    for folder in folders:
        leave(folder, "complete", sweep="another")
    assert [(member.state, member.left) for member in snapshot().runs] == [
        ("complete", False),
        ("waiting", True),
    ]
    leave(folders[0], "failed", sweep="another")
    assert snapshot().runs[0].left


def snapshot() -> SweepSnapshot:
    return take_snapshot(Path("outputs") / "sweeps" / NAME)


def test_regression_has_a_loss(outputs: Path) -> None:
    (folder,) = submit(outputs, [make(outputs)])
    leave(folder, "running")
    folder.metrics.write_text('{"step":1,"epoch":0.5,"val/loss":0.125,"train/loss":0.25}\n')
    lines = shown(outputs)
    assert not any("acc, %" in line for line in lines)
    assert [line.split()[2:5] for line in lines if line.startswith("relu")] == [
        ["0.5/2", "0.125", "0.25"]
    ]


def test_the_end_of_a_metrics_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "metrics.jsonl"
    assert last_values(file) == {}
    between = "".join(f'{{"step":{n},"epoch":2,"train/loss":{n}}}\n' for n in range(100))
    complete = json.dumps(ROW) + "\n" + between
    file.write_text(complete + '{"step":900,"epoch":9,"train/lo')
    values = {"epoch": 2, "train/loss": 99, "val/loss": 1.5, "val/accuracy": 0.5}
    assert last_values(file) == values
    monkeypatch.setattr(progress_module, "TAILS", (50, 200, 300))
    assert last_values(file) == {"epoch": 2, "train/loss": 99}
    file.write_text(complete + '{"step":9,"epoch":3,"val/accuracy":null,"val/loss":null}\n')
    assert last_values(file) == {"epoch": 3, "train/loss": 99}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "now"), (0.9, "now"), (59, "59 s ago"), (60, "1 min ago"), (86399, "23 h ago")],
)
def test_ages(seconds: float, words: str) -> None:
    assert ago(seconds) == words
    assert ago(86400) == "1 day ago"
    assert ago(86400 * 2.5) == "2 days ago"


def test_the_names_of_sweeps(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no sweep yet; type actsweep train"):
        find.find_sweep(outputs, "last")
    submit(outputs, [make(outputs)])
    submit(outputs, [make(outputs)], "by-hand")
    folder = outputs / "sweeps" / NAME
    for name in ("last", NAME, str(folder), f"{folder}/"):
        assert find.find_sweep(outputs, name) == folder
    with pytest.raises(UserError, match=r"by-hnd: no such sweep .* did you mean by-hand"):
        find.find_sweep(outputs, "by-hnd")
    monkeypatch.chdir(folder)
    assert find.find_sweep(outputs, ".").name == NAME


def test_the_names_of_runs(outputs: Path, mixed: list[RunDir]) -> None:
    run_ids = sorted(folder.run_id for folder in mixed if folder.path.exists())
    folders = find.find_runs(outputs, ["relu-*", run_ids[0]])
    assert [folder.run_id for folder in folders] == run_ids
    path = outputs / "runs" / "elu-mlp4-torch-s0-00000000"
    path.mkdir()
    (path / "config.yaml").write_text("")
    (by_path,) = find.find_runs(Path("elsewhere"), [f"{path}/"])
    assert by_path.path == path.absolute()
    for text in ("relu-mlp2", "outputs", ".", "..", "outputs/runs"):
        with pytest.raises(UserError, match=f"{text}: no such run in outputs/runs; "):
            find.find_runs(outputs, [text])
    with pytest.raises(UserError, match=f"did you mean {path.name}?"):
        find.find_runs(outputs, [path.name[:-1]])


def all_paths(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_gc_removes_what_is_not_needed(
    outputs: Path, mixed: list[RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    complete, running, killed, *_ = mixed
    kept = all_paths(outputs)
    for folder in (complete, running, killed):
        litter(folder)
    littered = all_paths(outputs)
    waste = {
        *(f"runs/{run.run_id}/.status.json.1-1.tmp" for run in (complete, killed)),
        *(f"runs/{run.run_id}/checkpoints/.step-40-1.tmp" for run in (complete, killed)),
        *(f"runs/{complete.run_id}/checkpoints/{step}" for step in ("step-9", "step-30")),
        *(name for name in littered if name.startswith(f"runs/{complete.run_id}/wandb")),
    }
    old = outputs / "sweeps" / "2026-01-01_00-00-00-000000" / "0"
    old.mkdir(parents=True)
    (old.parent / "multirun.yaml").write_text("")
    os.utime(old.parent, (0, 0))
    (outputs / "sweeps" / "2026-01-02_00-00-00-000000").mkdir()  # may be just being made
    dead = Leases(outputs, "dead")
    dead.take([killed.run_id])
    dead.close()
    before = all_paths(outputs)
    cleanup.gc(outputs, dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert all_paths(outputs) == before
    assert lines[-1] == "nothing was removed; to remove these, leave out --dry-run"
    assert [" ".join(line.split()) for line in lines[:-1]] == [
        "1 lease files of dead processes 0.0 MB",
        "4 half-written files 2.0 MB",
        "2 older checkpoints of complete runs 2.0 MB",
        "1 W&B folders already uploaded 1.0 MB",
        "1 empty sweep folders 0.0 MB",
    ]
    cleanup.gc(outputs, dry_run=False)
    left = all_paths(outputs)
    assert not old.parent.exists()
    assert kept <= left
    gone = {name for name in littered - left if not name.endswith("/array")}
    assert gone == waste
    assert not leases.orphans(outputs)
    capsys.readouterr()
    cleanup.gc(outputs, dry_run=False)
    assert capsys.readouterr().out == "nothing to remove\n"


def litter(folder: RunDir) -> None:
    """Write what a killed training leaves, several checkpoints, and a W&B run that is uploaded."""
    (folder.path / ".status.json.1-1.tmp").write_text("{")
    for name in (".step-40-1.tmp", "step-9", "step-30", "step-100"):
        (folder.checkpoints / name).mkdir(parents=True)
        (folder.checkpoints / name / "array").write_bytes(bytes(1_000_000))
    offline = folder.wandb / "offline-run-1"
    offline.mkdir(parents=True)
    (offline / "run-1.wandb").write_bytes(bytes(1_000_000))
    (offline / "run-1.wandb.synced").write_text("")
    (folder.wandb / "latest-run").symlink_to("offline-run-1")


def test_gc_keeps_what_is_not_uploaded(outputs: Path, mixed: list[RunDir]) -> None:
    complete = mixed[0]
    litter(complete)
    second = complete.wandb / "offline-run-2"
    second.mkdir()
    (second / "run-1.wandb").write_text("")
    cleanup.gc(outputs, dry_run=False)
    assert [path.name for path in complete.wandb.glob("*/")] == ["offline-run-2"]


def test_gc_of_a_folder_that_is_not_there(outputs: Path) -> None:
    with pytest.raises(UserError, match="outputs: no such folder; type --outputs"):
        cleanup.gc(outputs, dry_run=True)


def test_rm(outputs: Path, mixed: list[RunDir], capsys: pytest.CaptureFixture[str]) -> None:
    complete, running, killed, *_ = mixed
    (killed.path / "big").write_bytes(bytes(3_000_000))
    before = all_paths(outputs / "runs")
    assert main(["rm", "relu-*"]) == 2
    message = capsys.readouterr().err
    trained_by = f"is being trained by process {os.getpid()} on "
    assert message.startswith(f"error: {running.run_id}: {trained_by}")
    assert f" (sweep {NAME}); nothing was removed. " in message
    assert all_paths(outputs / "runs") == before
    assert main(["rm", killed.run_id, str(complete.path)]) == 2  # no run: it has no config
    (complete.path / "config.yaml").write_text("")
    capsys.readouterr()
    assert main(["rm", "--yes", killed.run_id, str(complete.path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [f"to remove {killed.path}", f"to remove {complete.path.absolute()}"]
    assert out[2:] == ["2 runs, 0 sweeps, 3.0 MB", "removed"]
    assert not killed.path.exists()
    assert not complete.path.exists()
    assert running.path.exists()


def test_doctor_names_what_may_be_wrong(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, decayed, stopped, foreign, unfinished = runs = submit(
        outputs, [make(outputs, seed=seed) for seed in range(5)]
    )
    plain = resolve.to_dict(make(outputs))
    old = {**plain, "optim": {**plain["optim"], "weight_decay": 0.1}}
    del old["optim"]["decay_bias"]
    for run in runs:
        leave(run, "complete")
        run.config.write_text(yaml.safe_dump(old if run == decayed else plain))
        files.write_json(run.summary, {"run_id": run.run_id, "epochs": 2})
    files.write_json(stopped.summary, {"run_id": stopped.run_id, "epochs": 1})
    rows = [{**ROW, "step": 0, "dead_frac/all": 0.5}, {**ROW, "step": 18}]
    stopped.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files.write_json(foreign.summary, {"run_id": healthy.run_id})
    weights = {"params/w": np.array([np.inf]), "best/w": np.ones(1)}
    saved = {unfinished.checkpoints: [1]}
    monkeypatch.setattr(checkpoint, "steps", lambda folder: saved.get(folder, []))
    monkeypatch.setattr(checkpoint, "load", lambda folder, step: (weights, {}))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    told = {line.partition(":")[0]: line for line in lines[:-1]}
    assert lines[-1] == "4 of 5 runs may hold wrong numbers"
    assert healthy.run_id not in told
    assert "weight decay of 0.1 also pulled biases to 0" in told[decayed.run_id]
    assert "its last epoch wasn't probed" in told[stopped.run_id]
    assert f"holds the run {healthy.run_id}" in told[foreign.run_id]
    assert "its last weights aren't finite: it diverged" in told[unfinished.run_id]
    assert main(["doctor", healthy.run_id]) == 0
