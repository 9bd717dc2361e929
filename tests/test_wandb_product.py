"""W&B beside a sweep: dashboards as code, uploads, W&B's own sweeps; against a loopback double."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hydra import compose, initialize_config_dir
from test_wandb import clean_environment, use_server  # noqa: F401 (a fixture)
from wandb_server import KEY, Run, WandbServer

from actsweep.cli.main import main
from actsweep.config import resolve
from actsweep.config.overrides import for_hydra
from actsweep.loggers import wandb_log
from actsweep.loggers import wandb_support as support
from actsweep.loggers.wandb_run import WandbRun, worst_layers
from actsweep.report import wandb_dashboard
from actsweep.runs.members import make_member
from actsweep.sweeps import wandb_sync as syncing
from actsweep.train.pack import run_pack
from actsweep.train.types import SweepContext

ROOT = Path(__file__).parents[1]
FIXTURES = Path(__file__).parent / "wandb_fixtures"
SNAPSHOT = FIXTURES / "dashboard.json"
WORDS = (
    *("data=digits", "data.val_size=300", "depth=2", "depth.width=8"),
    *("trainer.epochs=2", "trainer.batch_size=256"),
)
CLOCKS = ("_timestamp", "_runtime", "_wandb")
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose runs W&B has on disk."""
    outputs = tmp_path_factory.mktemp("outputs")
    run("train.py", "-m", "act=relu,tanh", "seed=0,1", *WORDS, f"paths.outputs={outputs}")
    return outputs


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as one:
        use_server(monkeypatch, one.port)
        yield one


def test_dashboard_s_specs_are_those_of_before(trained: Path, tmp_path: Path) -> None:
    """A change of it is a change of the file beside this test; ids come out the same each time."""
    words = ["dashboard", "me/acts", "--outputs", str(trained), "--to", str(tmp_path)]
    assert main(words) == 0
    found = {
        by: json.loads((tmp_path / f"by-{by}.json").read_text()) for by in wandb_dashboard.VIEWS
    }
    assert main(words) == 0
    for by, one in found.items():
        assert json.loads((tmp_path / f"by-{by}.json").read_text()) == one
    assert found["act"] == json.loads(SNAPSHOT.read_text())
    ids = re.findall(r'"__id__": "(\w+)"', (tmp_path / "by-act.json").read_text())
    assert len(set(ids)) == len(ids) > 20


def test_dashboard_s_sections() -> None:
    layers = [*(f"hidden_{n}" for n in range(1, 51)), "head"]
    names = [f"{q}/{layer}" for q in ("grad_norm", "dead_frac", "act_q50") for layer in layers]
    found = wandb_dashboard.workspaces("me", "acts", ["val/accuracy", "dead_frac/all", *names])
    assert list(found) == ["act", "depth", "init"]
    view = wandb_dashboard.spec(found["depth"])["section"]
    sections = view["panelBankConfig"]["sections"]
    assert [s["name"] for s in sections] == [
        *("Final", "Accuracy", "Gradient flow by layer", "Dead and saturated"),
        "Activations by layer",
    ]
    drawn = [panel["config"]["metrics"] for panel in sections[2]["panels"]]
    assert [one for (one,) in drawn] == [  # fifty layers don't flood it
        *(f"grad_norm/hidden_{n}" for n in (1, 11, 21, 31, 41)),
        "grad_norm/head",
    ]
    for section in sections[1:]:
        for panel in section["panels"]:
            config = panel["config"]
            assert config["groupBy"] == "depth.value"
            assert (config["groupAgg"], config["groupArea"]) == ("mean", "stderr")
            assert config["xAxis"] == "epoch"
            assert config["metrics"][0].count("/") == 1
    assert view["runSets"][0]["grouping"] == [{"section": "config", "name": "depth.value"}]


def test_dashboard_compares_runs_at_their_end_and_has_histograms() -> None:
    histograms = [f"hist/{q}/hidden_{n}" for q in ("act", "preact") for n in range(20, 0, -1)]
    found = wandb_dashboard.workspaces("me", "acts", ["val/accuracy", "val/loss"], histograms)
    sections = wandb_dashboard.spec(found["init"])["section"]["panelBankConfig"]["sections"]
    assert [s["name"] for s in sections] == ["Final", "Accuracy", "Loss", "Histograms over time"]
    bars, scatter, parallel = (panel["config"] for panel in sections[0]["panels"])
    assert (bars["metrics"], bars["groupBy"]) == (["val/accuracy"], "init.value")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("config:lr.value", "summary:val/accuracy")
    assert scatter["xAxisLogScale"]
    assert [column["accessor"] for column in parallel["columns"]] == [
        *("config:act.value", "config:depth.value", "config:init.value", "config:lr.value"),
        "summary:val/accuracy",
    ]
    drawn = [panel["config"]["mediaKeys"] for panel in sections[-1]["panels"]]
    assert len(drawn) == 2 * wandb_dashboard.MAX_LAYERS  # from input to output, a few of many
    assert drawn[0] == ["hist/act/hidden_1"]
    assert drawn[wandb_dashboard.MAX_LAYERS - 1] == ["hist/act/hidden_20"]
    without = wandb_dashboard.workspaces("me", "acts", ["dead_frac/all"])
    view = wandb_dashboard.spec(without["act"])["section"]
    assert [s["name"] for s in view["panelBankConfig"]["sections"]] == ["Dead and saturated"]


def test_dashboard_is_pushed_and_replaced(
    trained: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["dashboard", "me/acts", "--push", "--outputs", str(trained)]
    for _ in range(2):
        assert main(words) == 0
        assert capsys.readouterr().out.count("/me/acts?nw=") == 3
    assert server.operations["UpsertView2"] == 6
    assert len(server.views) == 3  # pushed again, a view replaces the one from before
    for view in server.views.values():
        assert (view["entityName"], view["projectName"]) == ("me", "acts")
        assert view["displayName"].startswith("actsweep: by ")
        assert json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]


def test_dashboard_that_can_t_be_pushed(
    trained: Path, server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["dashboard", "me/acts", "--outputs", str(trained)]
    server.fault, server.only, server.after = 403, "graphql", 1  # who we are, it still says
    assert main([*words, "--push"]) == 2
    said = capsys.readouterr().err
    assert "the view by act wasn't saved" in said
    assert said.count("\n") == 1
    server.stop()
    assert main([*words, "--push"]) == 2
    assert "--push: http://127.0.0.1" in capsys.readouterr().err


def test_dashboard_without_a_key(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert main(["dashboard", "me/acts", "--push", "--outputs", str(trained)]) == 2
    said = capsys.readouterr().err
    assert "no API key; type `wandb login` or set WANDB_API_KEY" in said
    assert said.count("\n") == 1
    assert main(["sync", "--outputs", str(trained)]) == 2
    assert "sync: no API key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["me"], "me: must be ENTITY/PROJECT"),
        (["me/acts", "--sweep", "2020"], "2020: no such sweep"),
    ],
)
def test_bad_input(
    words: Sequence[str], line: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", *words, "--outputs", str(trained)]) == 2
    assert line in capsys.readouterr().err


def test_sync_uploads_each_run_once(
    trained: Path, server: WandbServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """An upload that fails midway is gone on with; what is there isn't sent again."""
    sync = ["sync", "--outputs", str(trained)]
    server.fault, server.only = 403, "file_stream"
    assert main(sync) == 1
    said = capfd.readouterr().out
    assert "4 failed" in said
    server.fault = None
    assert main(sync) == 0
    assert re.search(r"^\S+: 4 uploaded$", capfd.readouterr().out, re.MULTILINE)
    assert len(server.runs) == 4
    for name, one in server.runs.items():
        run_id = name.rpartition("-")[0]
        rows = (trained / "runs" / run_id / "metrics.jsonl").read_text().splitlines()
        assert one.steps == [json.loads(row)["step"] for row in rows]
        summary = json.loads((trained / "runs" / run_id / "summary.json").read_text())
        assert one.summary["test_accuracy"] == pytest.approx(summary["test_accuracy"])
        assert one.config["act"]["value"] == run_id.split("-")[0]
        last = {name: value for row in map(json.loads, rows) for name, value in row.items()}
        weakest = min(("hidden_1", "hidden_2"), key=lambda layer: last[f"grad_norm/{layer}"])
        assert one.summary["worst_layer/grad_norm"] == weakest
        assert {"depth", "init", "seed", "lr"} <= one.config.keys()
        names = {name for row in one.history for name in row if not name.startswith("_")}
        assert all(name.count("/") <= 1 or name.startswith("hist/") for name in names)
    before = server.operations["file_stream"]
    assert main(sync) == 0
    assert "4 uploaded before" in capfd.readouterr().out
    assert server.operations["file_stream"] == before


def what_it_says(run: Run) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A run's rows and summary on the server, without the times of the upload."""
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in run.history]
    return rows, {k: v for k, v in run.summary.items() if k not in CLOCKS}


def test_a_run_made_of_our_own_rows_is_the_one_that_was_logged(
    trained: Path, server: WandbServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(trained, outputs, symlinks=True)
    sync = ["sync", "--outputs", str(outputs)]
    for file in outputs.glob("runs/*/wandb/*/*.synced"):
        file.unlink()
    assert main(sync) == 0
    first = {name.rpartition("-")[0]: run for name, run in server.runs.items()}
    known = {*server.runs}
    assert main([*sync, "--rebuild"]) == 0
    assert "4 uploaded" in capfd.readouterr().out
    made = {name.rpartition("-")[0]: server.runs[name] for name in {*server.runs} - known}
    assert made.keys() == first.keys()
    for run_id, run in made.items():
        assert what_it_says(run) == what_it_says(first[run_id])
        assert run.exit_codes == [0]
        configs = [one.config["config"]["value"] for one in (run, first[run_id])]
        paths = [config.pop("paths") for config in configs]
        assert paths[0] == {"outputs": str(outputs)}
        assert configs[0] == configs[1]
        assert run.group == first[run_id].group


@pytest.fixture
def written_late(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Timer]]:
    """wandb-core writes most of a file only a second after the run has been finished."""
    writing: list[threading.Timer] = []
    finish = WandbRun.finish

    def late(run: WandbRun, state: str) -> None:
        finish(run, state)
        wandb_log.wait_until_finished(run.file, time.monotonic() + 10)
        whole = run.file.read_bytes()
        run.file.write_bytes(whole[:7])
        writing.append(threading.Timer(1.2, run.file.write_bytes, [whole]))
        writing[-1].start()

    monkeypatch.setattr(WandbRun, "finish", late)
    yield writing
    for timer in writing:
        timer.join()


def test_what_is_written_late_is_uploaded(
    trained: Path, server: WandbServer, tmp_path: Path, written_late: list[threading.Timer]
) -> None:
    """`wandb sync` takes a file without rows for one that it has uploaded."""
    shutil.copytree(trained, tmp_path / "outputs", symlinks=True)
    assert main(["sync", "--outputs", str(tmp_path / "outputs"), "--rebuild"]) == 0
    assert len(written_late) == 4
    assert [len(run.steps) for run in server.runs.values()] == [3] * 4


def test_a_run_that_never_reaches_the_disk_is_not_uploaded(
    trained: Path,
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(trained, tmp_path / "outputs", symlinks=True)
    for file in tmp_path.glob("outputs/runs/*/wandb/*/*.synced"):  # another test's
        file.unlink()
    monkeypatch.setattr(WandbRun, "finish", lambda run, state: None)  # wandb-core hangs
    monkeypatch.setattr(support, "FINISH_SECONDS", 0.5)
    words = ["sync", "--outputs", str(tmp_path / "outputs"), "--rebuild"]
    assert main(words) == 1
    told = capsys.readouterr().out
    assert "4 failed" in told
    assert told.count("TimeoutError: W&B has not written ") == 4
    monkeypatch.undo()
    support.restart_service()
    use_server(monkeypatch, server.port)
    assert main(words[:-1]) == 0  # what was logged, and nothing of what was begun
    assert [len(run.steps) for run in server.runs.values()] == [3] * 4


def test_a_run_is_not_complete_before_w_and_b_s_file_is(
    tmp_path: Path, written_late: list[threading.Timer]
) -> None:
    resolve.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = ["act=relu", *WORDS, f"paths.outputs={tmp_path}"]
        config = resolve.resolve(compose("config", overrides=for_hydra(words)))
    run_pack([make_member(config)], SweepContext("sweep"))
    (file,) = tmp_path.glob("runs/*/wandb/offline-*/*.wandb")
    assert wandb_log.read(file).finished
    assert len(written_late) == 1
    (status,) = tmp_path.glob("runs/*/status.json")
    assert file.stat().st_mtime_ns < status.stat().st_mtime_ns


def test_rebuilding_where_w_and_b_was_disabled(tmp_path: Path, server: WandbServer) -> None:
    outputs = f"paths.outputs={tmp_path}"
    run("train.py", "act=relu", "logger=disabled", *WORDS, outputs)
    assert main(["sync", "--outputs", str(tmp_path)]) == 0
    assert not server.runs
    assert main(["sync", "--outputs", str(tmp_path), "--rebuild"]) == 0
    (one,) = server.runs.values()
    (file,) = tmp_path.glob("runs/*/metrics.jsonl")
    assert one.steps == [json.loads(row)["step"] for row in file.read_text().splitlines()]


def test_one_config_in_two_folders_is_two_runs(tmp_path: Path, server: WandbServer) -> None:
    """In one project: a common run would have every row twice."""
    for name in ("mine", "yours"):
        run("train.py", "act=relu", *WORDS, f"paths.outputs={tmp_path / name}")
        assert main(["sync", "--outputs", str(tmp_path / name)]) == 0
    assert len(server.runs) == 2
    first, second = (what_it_says(run)[0] for run in server.runs.values())
    assert first == second


def test_worst_layers() -> None:
    latest = {
        "grad_norm/hidden_1": 0.1,
        "grad_norm/hidden_2": 0.01,
        "grad_norm/head": 0.001,
        "dead_frac/all": 0.5,
        "dead_frac/hidden_1": 0.0,
        "dead_frac/hidden_2": 0.0,  # none is worse
        "saturated_frac/hidden_1": float("nan"),
        "saturated_frac/hidden_2": 0.2,
        "saturated_frac/hidden_3": 0.4,
    }
    found = {"worst_layer/grad_norm": "hidden_2", "worst_layer/saturated_frac": "hidden_3"}
    assert worst_layers(latest) == found
    assert worst_layers({}) == {}
    assert worst_layers({"grad_norm/my/a": 1.0, "grad_norm/my/b": 2.0}) == {
        "worst_layer/grad_norm": "my/a"
    }


def test_sync_to_a_server_that_falls_silent(
    trained: Path,
    server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """`wandb sync` would wait for ever; nothing is marked as uploaded."""
    for mark in trained.glob("runs/*/wandb/offline-run-*/*.synced"):
        mark.unlink()
    monkeypatch.setattr(syncing, "TIMEOUT_S", 5)
    server.fault, server.only = "silent", "file_stream"
    assert main(["sync", "--outputs", str(trained)]) == 1
    assert f"{server.url} had not taken it after 5 s" in capfd.readouterr().out
    assert not list(trained.glob("runs/*/wandb/offline-run-*/*.synced"))


def test_what_was_said_before_it_fell_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("wandb", 5, b"ERROR [x/run] refused\nmore")

    monkeypatch.setattr(subprocess, "run", late)
    said, why = syncing._wandb_sync([])
    assert said == ["ERROR [x/run] refused", "more"]
    assert "had not taken it" in why


def twin(file: Path) -> list[str]:
    (line,) = re.findall(r"^# +python (train\.py -m .*)$", file.read_text(), re.MULTILINE)
    return shlex.split(line)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweep_s_file_fits_w_and_b_s_schema(file: Path) -> None:
    sweep = yaml.safe_load(file.read_text())
    schema = json.loads((FIXTURES / "sweep_schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(sweep)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**sweep, "parameters": {}}, schema)
    assert {"act", "depth", "init"} <= sweep["parameters"].keys()


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweep_s_twin_asks_the_same(file: Path) -> None:
    """What it chooses among is the same; where W&B draws numbers, the twin's lie in their range."""
    parameters = yaml.safe_load(file.read_text())["parameters"]
    words = dict(word.split("=", 1) for word in twin(file)[2:])
    for key, one in parameters.items():
        if key in ("logger", "seed") and key not in words:
            continue
        values = [yaml.safe_load(value) for value in words[key].split(",")]
        if "min" in one:
            assert all(one["min"] <= value <= one["max"] for value in values)
        elif key in words:
            assert values == one.get("values", [one.get("value")])
    assert words.keys() <= parameters.keys()
    resolve.register()
    for key, value in words.items():  # and all of it composes
        for one in value.split(","):
            first = [f"{k}={v.split(',')[0]}" for k, v in words.items() if k != key]
            with initialize_config_dir(str(ROOT / "conf"), version_base=None):
                typed = for_hydra([*first, f"{key}={one}"])
                resolved = resolve.resolve(compose("config", overrides=typed))
            assert str(one) in f"{resolved}"
    count = math.prod(len(value.split(",")) for value in words.values())
    for told in re.findall(r"= (\d+) runs", file.read_text()):
        assert int(told) == count


def test_a_sweep_of_w_and_b_s_own(tmp_path: Path, server: WandbServer) -> None:
    """`wandb sweep`, `wandb agent`, train.py, end to end: the agent's runs are ours."""
    env = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_SILENT": "false"}
    env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as if activated
    made = run("-m", "wandb", "sweep", "-e", "me", "-p", "acts", "sweeps/grid.yaml", **env)
    assert server.sweeps
    (sweep_id,) = server.sweeps
    assert f"wandb agent me/acts/{sweep_id}" in made.stdout + made.stderr
    extra: dict[str, Any] = dict(word.split("=") for word in WORDS)
    extra |= {"paths.outputs": str(tmp_path), "logger": "online"}
    server.queue = [{"act": act, "seed": 0, **extra} for act in ("relu", "tanh", "relu")]
    run("-m", "wandb", "agent", f"me/acts/{sweep_id}", **env, WANDB_DIR=str(tmp_path))
    summaries = [json.loads(p.read_text()) for p in tmp_path.glob("runs/*/summary.json")]
    assert {one["act"]: one["state"] for one in summaries} == {
        "relu": "complete",
        "tanh": "complete",
    }
    assert server.runs.keys() == {"agent-0", "agent-1", "agent-2"}  # the agent names them
    again, before = (what_it_says(server.runs[name]) for name in ("agent-2", "agent-0"))
    assert again[0] == before[0]  # it was complete: its rows are logged once more
    for one in server.runs.values():
        assert one.exit_codes == [0]
        own = next(s for s in summaries if s["act"] == one.config["act"]["value"])
        assert one.summary["test_accuracy"] == pytest.approx(own["test_accuracy"])
        assert any("val/accuracy" in row for row in one.history)
