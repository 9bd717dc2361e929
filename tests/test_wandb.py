"""W&B for real: offline runs read back, and every way in which W&B can fail under a training."""

import base64
import dataclasses
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf
from test_writers import make_histogram, make_members, make_rows
from wandb.sdk.lib.wbauth import unauthenticate_session
from wandb.util import get_core_path
from wandb_server import KEY, WandbServer

from actsweep.config.schema import LoggerConfig, RunConfig
from actsweep.loggers import wandb_log
from actsweep.loggers import wandb_support as support
from actsweep.loggers.base import Writers
from actsweep.loggers.wandb_run import WandbRun
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.runs.metrics_file import MetricsFile, read_metrics
from actsweep.runs.rows import Row
from actsweep.stats.histogram import closed_bins
from actsweep.train import cohort
from actsweep.utils.errors import UserError


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("WANDB_") and name not in ("WANDB_SILENT", "WANDB_SERVICE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def read_file(file: Path, *options: str, check: bool = True) -> str:
    """What wandb's own reader says of a file, as `wandb leet inspect` calls it."""
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *options]
    command += ["-run-file", str(file), str(file.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout


def inspect(info: Any, *options: str) -> str:
    """The same of a run that has one file."""
    (file,) = info.run_dir.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 5
    while not wandb_log.read(file).finished and time.monotonic() < deadline:
        time.sleep(0.01)  # wandb-core writes for a moment more
    return read_file(file, *options)


def records(info: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in inspect(info).splitlines()]


def history(info: Any) -> list[dict[str, Any]]:
    return [record["history"]["item"] for record in records(info) if record["type"] == "history"]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name.startswith("actsweep")]


def offline(**options: Any) -> WandbWriter:
    return WandbWriter("offline", {"project": "actsweep-tests", "tags": ["a"]}, **options)


def test_every_value_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = make_members(tmp_path, 3)
    writer = offline()
    writer.check(members)
    writer.open(members)
    rows = [make_rows(seed) for seed in range(3)]
    rows[0].append(Row(50, 2.0, {"train/loss": float("nan"), "train/x": float("inf")}))
    for index in range(6):
        for member in range(3):
            if index < len(rows[member]):
                writer.row(member, rows[member][index])
    writer.message(1, "hidden_3 is dead")
    states = ("complete", "diverged", "preempted")
    for member, state in enumerate(states):
        writer.finish(member, state, {"test_accuracy": 0.5 + member, "test_loss": np.float32(0.25)})
    writer.close()
    assert not said(caplog)
    assert writer.lost_rows == 0
    rows[2].pop()  # it may go on: then its last row may still take final numbers
    for member, info in enumerate(members):
        items = history(info)
        assert [item["_step"] for item in items] == [row.step for row in rows[member]]
        for item, row in zip(items, rows[member], strict=True):
            assert np.float32(item["epoch"]) == np.float32(row.epoch)
            for name, value in row.scalars.items():
                np.testing.assert_equal(np.float32(item[name]), np.float32(value))
            for name, histogram in row.histograms.items():
                assert item[f"{name}.values"] == histogram.counts.tolist()
                assert item[f"{name}.bins"] == [-3, -2, -1, 0, 1, 2, 3]
    check_head(members, states)


def check_head(members: list[Any], states: tuple[str, ...]) -> None:
    for member, info in enumerate(members):
        head = json.loads(inspect(info, "--summary"))
        assert (head["run_id"], head["name"]) == (info.run_id, info.run_id)
        assert (head["project"], head["tags"]) == ("actsweep-tests", ["a"])
        config = head["config"]
        top = {key: config[key] for key in ("act", "depth", "init", "seed", "model", "data", "lr")}
        assert top == {
            "act": "relu",
            "depth": 4,
            "init": "torch_uniform",
            "seed": member,
            "model": "mlp",
            "data": "digits",
            "lr": 0.01,
        }
        assert config["config"] == info.config
        assert head["exit_code"] == (0 if states[member] == "complete" else 1)
        summary = head["summary"]
        assert (summary["test_accuracy"], summary["test_loss"]) == (0.5 + member, 0.25)
        assert summary["state"] == states[member]
        assert ("warnings" in summary) == (member == 1)
        assert not [key for key in summary if key.startswith("hist")]
        (run,) = (record["run"] for record in records(info) if record["type"] == "run")
        assert run["run_group"] == "test-sweep"


def test_axes_are_epochs_and_globs_never_overlap(tmp_path: Path) -> None:
    """W&B picks among overlapping globs by chance: a histogram's pieces became summaries."""
    (info,) = make_members(tmp_path, 1)
    writer = offline()
    writer.check([info])
    writer.open([info])
    writer.row(0, Row(0, 0.0, {"train/loss": 1.0, "lr": 0.1}, {"hist/a": make_histogram(0)}))
    writer.finish(0, "complete", {})
    writer.close()
    metrics = [record["metric"] for record in records(info) if record["type"] == "metric"]
    axes = {one.get("glob_name") or one["name"]: one.get("step_metric") for one in metrics}
    assert axes == {"epoch": None, "hist/*": "epoch", "train/*": "epoch", "lr": "epoch"}


def test_underflow_and_overflow_are_end_bins() -> None:
    counts, edges = closed_bins(make_histogram(7))
    assert counts == [7, 8, 9, 10, 11, 12]
    assert edges == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]


def test_interrupted_run_is_not_shown_as_finished(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    writer = offline()
    writer.check([info])
    writer.open([info])
    writer.row(0, make_rows()[0])
    writer.close()
    assert json.loads(inspect(info, "--summary"))["exit_code"] == 1


# W&B fails


def core_pid() -> int:
    wandb = support.import_wandb()
    return wandb.setup()._connection._proc._process.pid


def wait_open(writer: WandbWriter, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(writer._runs) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(writer._runs) == count


def test_killed_core_loses_no_metrics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = make_members(tmp_path / "a", 2)
    wandb = offline()
    writers = Writers([MetricsFile(), wandb])
    writers.check(members)
    writers.open(members)
    wait_open(wandb, 2)
    for step in range(60):
        if step == 20:
            os.kill(core_pid(), signal.SIGKILL)
        for member in range(2):
            writers.row(member, Row(step, step / 10, {"train/loss": 1.0 / (step + 1)}))
        time.sleep(0.005)
    for member in range(2):
        writers.finish(member, "complete", {"test_loss": 0.1})
    writers.close()
    for info in members:
        assert read_metrics(info.run_dir / "metrics.jsonl")["step"].tolist() == list(range(60))
        assert (info.run_dir / "summary.json").exists()
    assert wandb.lost_rows > 0
    first, last = said(caplog)
    assert "Training goes on" in first
    assert "wandb sync" in first
    assert last == f"W&B lacks {wandb.lost_rows} rows; metrics.jsonl has them"
    after = make_members(tmp_path / "b", 1)  # the next pack gets a new wandb-core
    writer = offline()
    writer.check(after)
    writer.open(after)
    writer.row(0, make_rows()[0])
    writer.finish(0, "complete", {})
    writer.close()
    assert len(history(after[0])) == 1


def test_the_core_of_another_process_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A notebook that uses wandb hands its core's address to all that it starts."""
    support.restart_service()
    monkeypatch.setenv("WANDB_SERVICE", f"3-{os.getpid()}-unix-{tmp_path}/gone")
    (info,) = members = make_members(tmp_path, 1)
    writer = offline()
    writer.check(members)
    writer.open(members)
    writer.row(0, make_rows()[0])
    writer.finish(0, "complete", {})
    writer.close()
    assert len(history(info)) == 1
    assert said(caplog) == []


HANG = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_writers import MetricsFile, Row, Writers, make_members
from test_wandb import core_pid, offline, wait_open
writer = offline(queue_rows=100, close_seconds=1.0)
writers = Writers([MetricsFile(), writer])
writers.check(make_members(Path(sys.argv[2]), 2))
writers.open(make_members(Path(sys.argv[2]), 2))
wait_open(writer, 2)
os.kill(core_pid(), signal.SIGSTOP)
took = []
for step in range(2000):
    start = time.perf_counter()
    writers.row(step % 2, Row(step, 0.0, {f"m/{i}": float(i) for i in range(400)}))
    took.append(time.perf_counter() - start)
for member in range(2):
    writers.finish(member, "complete", {})
writers.close()
took.sort()
print(took[-20], took[-1], writer.lost_rows)
"""


def test_hung_core_blocks_neither_rows_nor_the_exit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANG, str(Path(__file__).parent), str(tmp_path)]
    start = time.monotonic()
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=own, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 30
    nearly_all, slowest, lost = map(float, done.stdout.split())
    assert nearly_all < 0.05
    assert slowest < 1.0  # a busy machine may stall once; a hung W&B would stall for ever
    assert lost > 0
    assert "W&B" in done.stderr


class SlowRun:
    settings = SimpleNamespace(sync_file="/none", log_internal="/none")

    def __init__(self, finish_seconds: float = 0.0) -> None:
        self._finish_seconds = finish_seconds
        self.logged: list[int] = []
        self.exit_code: int | None = None
        self.summary: dict[str, Any] = {}

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def log(self, data: dict[str, Any], step: int, commit: bool) -> None:
        time.sleep(0.05)
        self.logged.append(step)

    def finish(self, exit_code: int) -> None:
        time.sleep(self._finish_seconds)
        self.exit_code = exit_code


def test_slow_wandb_never_blocks_and_the_end_still_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = SlowRun()
    monkeypatch.setattr(support.import_wandb(), "init", lambda **_: run)
    writer = offline(queue_rows=10)
    writer.check(make_members(tmp_path, 1))
    writer.open(make_members(tmp_path, 1))
    start = time.perf_counter()
    for step in range(200):
        writer.row(0, Row(step, 0.0, {"a": 1.0}))
    assert time.perf_counter() - start < 0.2  # 10 s if it waited for W&B
    writer.finish(0, "complete", {"x": 1})
    writer.close()
    assert writer.lost_rows == 200 - len(run.logged) > 100
    assert run.logged == sorted(run.logged)
    assert (run.exit_code, run.summary) == (0, {"x": 1, "state": "complete"})
    assert "too slow: 10 rows wait" in caplog.text
    assert "left no file for 1 runs" in caplog.text


def test_one_failed_init_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = support.import_wandb()
    real = wandb.init

    def init(**options: Any) -> Any:
        if options["id"].startswith("relu-mlp4-torch-s1"):
            raise ValueError("no such luck")
        return real(**options)

    monkeypatch.setattr(wandb, "init", init)
    members = make_members(tmp_path, 3)
    writer = offline()
    writer.check(members)
    writer.open(members)
    for member in range(3):
        writer.row(member, make_rows()[0])
        writer.finish(member, "complete", {})
    writer.close()
    assert [len(history(members[member])) for member in (0, 2)] == [1, 1]
    assert writer.lost_rows == 1
    assert "ValueError: no such luck" in caplog.text
    assert members[1].run_id in caplog.text


# Open files


@pytest.mark.parametrize(
    ("limits", "wanted", "fit", "soft"),
    [
        ((1024, 1024), 400, (1024 - 64 - 20) // 3, None),
        ((1024, 4096), 400, 400, 400 * 3 + 64 + 20),
        ((1024, 1200), 400, (1200 - 64 - 20) // 3, 1200),
        ((1024, resource.RLIM_INFINITY), 400, 400, 400 * 3 + 64 + 20),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 10**6, 10**6, None),
        ((1024, 1024), 3, 3, None),
        ((64, 64), 3, 0, None),
    ],
)
def test_runs_fit_in_the_limit_on_open_files(
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    wanted: int,
    fit: int,
    soft: int | None,
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(support, "_open_files", lambda: 20)
    monkeypatch.setattr(support.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(support.resource, "setrlimit", lambda _, both: raised.append(both))
    assert support.runs_that_fit(wanted) == fit
    assert raised == ([] if soft is None else [(soft, limits[1])])


def test_runs_beyond_the_limit_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(support, "runs_that_fit", lambda wanted: 1)
    members = make_members(tmp_path, 2)
    writer = offline()
    writer.check(members)
    writer.open(members)
    for member in range(2):
        writer.row(member, make_rows()[0])
        writer.finish(member, "complete", {})
    writer.close()
    assert len(history(members[0])) == 1
    assert not (members[1].run_dir / "wandb").exists()
    assert "first 1 of 2 runs" in caplog.text
    assert "pack.size=1" in caplog.text
    assert writer.lost_rows == 0


# Online


@pytest.fixture
def closed_port() -> int:
    return WandbServer().port  # never started


def use_server(monkeypatch: pytest.MonkeyPatch, port: int, key: str = KEY) -> None:
    settings = support.import_wandb().setup().settings
    unauthenticate_session(update_settings=False)  # what another test's server was told
    monkeypatch.setattr(settings, "base_url", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(settings, "api_key", None)
    monkeypatch.setenv("WANDB_API_KEY", key)


def test_closed_port_falls_back_to_offline(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    closed_port: int,
) -> None:
    use_server(monkeypatch, closed_port)
    members = make_members(tmp_path, 2)
    writer = WandbWriter("online", {"project": "actsweep-tests"})
    start = time.monotonic()
    writer.check(members)
    writer.open(members)
    assert time.monotonic() - start < 2
    for member in range(2):
        writer.row(member, make_rows()[0])
        writer.finish(member, "complete", {})
    writer.close()
    (text,) = said(caplog)
    assert text.startswith(f"W&B is OFFLINE: http://127.0.0.1:{closed_port} can't be reached")
    assert f"wandb sync {members[0].run_dir}/wandb/offline-run-*" in text
    assert [len(history(info)) for info in members] == [1, 1]
    assert writer.mode == "offline"


def test_require_online_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    use_server(monkeypatch, closed_port)
    writers = Writers([WandbWriter("online", {"project": "p"}, require_online=True)])
    with pytest.raises(UserError, match=r"logger\.require_online=true.*can't be reached"):
        writers.check(make_members(tmp_path, 1))


def test_preflight_without_a_key(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    use_server(monkeypatch, closed_port)
    monkeypatch.delenv("WANDB_API_KEY")
    assert "wandb login" in (support.preflight() or "")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert "no usable API key" in (support.preflight() or "")


def test_preflight_gives_up_on_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "PREFLIGHT_SECONDS", 0.3)
    with WandbServer("silent") as server:
        use_server(monkeypatch, server.port)
        start = time.monotonic()
        assert support.preflight() is not None
        assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b'{"data": {"viewer": {"id": "1", "entity": "e"}}}', None),
        (200, b'{"data": {"viewer": null}}', "does not know this API key"),
        (401, b"", "401"),
        (500, b"", "500"),
        (200, b"<html>", "can't be reached"),
    ],
)
def test_preflight_reads_the_answer(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, reason: str | None
) -> None:
    with WandbServer(None if status == 200 else status, raw=body) as server:
        use_server(monkeypatch, server.port)
        answer = support.preflight()
    assert answer is None if reason is None else reason in (answer or "")
    path, headers, _ = server.asked[0]
    assert path == "/graphql"
    assert headers["Authorization"] == "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
    assert KEY not in (answer or "")


def test_online_runs_open_and_finish_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 runs in a row would wait 16 times for the network, at the start and at the end."""
    runs: dict[str, SlowRun] = {}

    def init(**options: Any) -> SlowRun:
        assert options["settings"].mode == "online"
        time.sleep(0.3)
        return runs.setdefault(options["id"], SlowRun(finish_seconds=0.3))

    monkeypatch.setattr(support, "preflight", lambda: None)
    monkeypatch.setattr(support.import_wandb(), "init", init)
    members = make_members(tmp_path, 8)
    writer = WandbWriter("online", {"project": "actsweep-tests"})
    start = time.monotonic()
    writer.check(members)
    writer.open(members)
    for member in range(8):
        writer.row(member, Row(member, 0.0, {"a": 1.0}))
        writer.finish(member, "complete" if member else "diverged", {})
    writer.close()
    assert time.monotonic() - start < 2.4  # 4.8 s one after another, without the rows
    assert [runs[info.run_id].logged for info in members] == [[member] for member in range(8)]
    assert [runs[info.run_id].exit_code for info in members] == [1] + [0] * 7


@pytest.mark.parametrize("mode", ["offline", "online", "disabled"])
def test_config_group_is_the_schema(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTSWEEP_REPORT")  # the suite's own
    folder = Path(__file__).parents[1] / "conf"
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        composed = hydra.compose(overrides=[f"+logger={mode}"])
    expected = {**dataclasses.asdict(LoggerConfig()), "mode": mode}
    assert OmegaConf.to_container(composed.logger, resolve=True) == expected


def test_sweep_agent_takes_one_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    with pytest.raises(UserError, match=r"pack\.size=1"):
        offline().check(make_members(tmp_path, 2))


@pytest.mark.parametrize(
    ("state", "error"), [("preempted", KeyboardInterrupt()), ("failed", ValueError("x"))]
)
def test_w_and_b_learns_how_a_run_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, error: BaseException
) -> None:
    run, marked = SlowRun(), []
    monkeypatch.setattr(run, "mark_preempting", lambda: marked.append(1), raising=False)
    monkeypatch.setattr(support.import_wandb(), "init", lambda **_: run)
    writer = offline()
    writer.open(make_members(tmp_path, 1))
    cohort._say_how_it_ended([writer], error)
    writer.close()
    assert writer.cut_short == state
    assert marked == [1] * (state == "preempted")
    assert run.exit_code == 1


def test_w_and_b_s_variables_count_where_the_config_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = support.init_options(RunConfig(), "nine", 2)
    assert (plain["project"], plain["group"], plain["tags"]) == ("actsweep", "nine", [])
    for name in ("PROJECT", "RUN_GROUP", "NAME", "NOTES", "JOB_TYPE", "ENTITY"):
        monkeypatch.setenv(f"WANDB_{name}", name.lower())
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    several = support.init_options(RunConfig(), "nine", 2)
    assert several == {
        "project": "project",
        "entity": "entity",
        "group": "run_group",
        "name": f"name {support.RUN_ID}",
        "notes": "notes",
        "job_type": "job_type",
        "tags": ["a", "b"],
    }
    typed = LoggerConfig(project="mine", group="ours", name="one", tags=["c"])
    one = support.init_options(RunConfig(logger=typed), "nine", 1)
    assert (one["project"], one["group"], one["name"], one["tags"]) == (
        "mine",
        "ours",
        "one",
        ["c"],
    )
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        support.import_wandb(), "init", lambda **options: given.update(options) or SlowRun()
    )
    (info,) = make_members(tmp_path, 1)
    WandbRun(info, "offline", several)
    assert given["name"] == f"name {info.run_id}"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert support.mode_of(LoggerConfig(mode="offline")) == "disabled"
    monkeypatch.setenv("WANDB_MODE", "online")
    support._tell_once.cache_clear()
    assert support.mode_of(LoggerConfig(mode="offline")) == "offline"
    assert "type logger=online" in caplog.text


def test_the_address_of_a_run_and_of_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = SlowRun()
    opened.url, opened.group = "https://w.example/me/p/runs/abc", "a b"  # type: ignore[attr-defined]
    monkeypatch.setattr(support.import_wandb(), "init", lambda **_: opened)
    (info,) = make_members(tmp_path, 1)
    run = WandbRun(info, "offline", {})
    assert run.address(1) == "https://w.example/me/p/runs/abc"
    assert run.address(2) == "https://w.example/me/p/groups/a%20b"
    del opened.url  # type: ignore[attr-defined]
    assert run.address(2) == ""


def test_hints(tmp_path: Path) -> None:
    folders = [info.run_dir for info in make_members(tmp_path / "with space", 5)]
    look, upload = support.hint_lines(folders[:1], "offline")
    assert shlex.split(look)[1:] == ["wandb", "leet", str(folders[0] / "wandb")]
    words = shlex.split(upload)[1:]
    assert words == ["wandb", "sync", f"{folders[0]}/wandb/offline-run-*"]
    look, upload = support.hint_lines(folders, "offline")
    assert look.endswith("(and 4 more)")
    assert shlex.split(upload)[-1] == f"{tmp_path}/with space/*/wandb/offline-run-*"
    assert len(support.hint_lines(folders, "online")) == 1
    assert support.hint_lines([], "offline") == []
