"""A run that was cut short and goes on is one W&B run: every step once, wherever the cut was."""

import dataclasses
import glob
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_wandb import clean_environment, read_file, said, use_server  # noqa: F401 (a fixture)
from test_writers import make_histogram, make_members
from wandb_server import KEY, Run, WandbServer

from actsweep.loggers import wandb_log as log
from actsweep.loggers import wandb_support as support
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.runs.metrics_file import MetricsFile
from actsweep.runs.rows import MemberInfo, Row

STEPS = list(range(0, 120, 10))
FINAL = {"test/accuracy": 0.75, "exact_dead_frac/all": 0.125}


def make_row(step: int) -> Row:
    scalars = {"train/loss": 1 / (step + 3), "train/odd": math.nan if step == 30 else 2.0}
    if step == 0:
        scalars["exact_start/all"] = 0.5
    every = {"hist/act/hidden_1": make_histogram(step)} if step % 20 == 0 else {}
    return Row(step, step / 40, scalars, every)


def attempt(
    info: MemberInfo,
    steps: list[int],
    state: str = "preempted",
    mode: str = "offline",
    final: dict[str, float] | None = None,
) -> WandbWriter:
    """One process's share of a training, as W&B gets to see it."""
    writer = WandbWriter(mode, {"project": "actsweep-tests", "tags": ["a"]})
    writer.check([info])
    writer.open([info])
    for step in steps:
        writer.row(0, make_row(step))
    if final:
        writer.row(0, Row(STEPS[-1], STEPS[-1] / 40, final))
    if state != "running":
        writer.finish(0, state, {"test_accuracy": 0.75} if state == "complete" else {})
    close(writer, info)
    return writer


def close(writer: WandbWriter, info: MemberInfo) -> None:
    writer.close()
    wait_for(lambda: log.read(files(info)[-1]).finished)


def wait_for(condition: Callable[[], bool]) -> None:
    """Up to 5 s: wandb-core writes on for a moment after `finish`."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def resume(info: MemberInfo, at: int) -> MemberInfo:
    """The member as it is opened again, its files cut back to a step."""
    for name in ("metrics.jsonl", "histograms.npz"):
        (info.run_dir / name).unlink(missing_ok=True)
    writer = MetricsFile()
    writer.check([info])
    writer.open([info])
    for step in STEPS:
        if step <= at:
            writer.row(0, make_row(step))
    writer.close()
    return dataclasses.replace(info, resumed_at=at)


def go_on(info: MemberInfo, at: int, mode: str = "offline") -> WandbWriter:
    """Resume at a step and train to the end."""
    rest = [step for step in STEPS if step > at]
    return attempt(resume(info, at), rest, "complete", mode, FINAL)


def log_steps(file: Path) -> list[int]:
    return log.read(file).steps


def files(info: MemberInfo) -> list[Path]:
    return log.fragments(info.run_dir / "wandb", info.run_id)


def history(info: MemberInfo) -> list[dict[str, Any]]:
    """The rows of all files, in order, as wandb's own reader finds them."""
    found = [json.loads(line) for file in files(info) for line in read_file(file).splitlines()]
    return [record["history"]["item"] for record in found if record["type"] == "history"]


def check_rows(items: list[dict[str, Any]]) -> None:
    assert [item["_step"] for item in items] == STEPS
    for item in items:
        row = make_row(item["_step"])
        wanted = {"epoch": row.epoch, **row.scalars, **(FINAL if row.step == STEPS[-1] else {})}
        got = {name: item[name] for name in item if name in wanted}
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_equal(np.float32(got[name]), np.float32(value))
        assert ("hist/act/hidden_1.values" in item) == bool(row.histograms)
        for name, histogram in row.histograms.items():
            assert item[f"{name}.values"] == histogram.counts.tolist()


def check_end(info: MemberInfo) -> None:
    """The newest file alone says all that isn't a row."""
    head = json.loads(read_file(files(info)[-1], "--summary"))
    assert head["exit_code"] == 0
    wanted = {"state": "complete", "test_accuracy": 0.75, "exact_start/all": 0.5, **FINAL}
    wanted |= {"train/loss": pytest.approx(1 / 113), "train/odd": 2.0}
    assert {name: head["summary"][name] for name in wanted} == wanted
    assert not [name for name in head["summary"] if name.startswith("hist")]
    assert head["config"]["config"] == info.config
    found = [json.loads(line) for line in read_file(files(info)[-1]).splitlines()]
    metrics = [record["metric"] for record in found if record["type"] == "metric"]
    axes = {one.get("glob_name") or one["name"]: one.get("step_metric") for one in metrics}
    globs = ("hist/*", "train/*", "exact_start/*", "test/*", "exact_dead_frac/*")
    assert axes == {"epoch": None, **dict.fromkeys(globs, "epoch")}


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.3, 0.5, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("at", [0, 50])
def test_every_step_once_wherever_the_file_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: float, at: int
) -> None:
    """W&B may lack rows of before the checkpoint, and may have rows of after it."""
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:9], "running")
    (file,) = files(info)
    os.truncate(file, int(keep * file.stat().st_size))
    before = log_steps(file)
    assert keep < 1 or before == STEPS[:8]  # the last row waits for another
    writer = go_on(info, at)
    check_rows(history(info)) if keep > 0.1 else check_rows(history_of_named(info))
    check_end(info)
    assert log_steps(files(info)[-1]) == STEPS[len(before) :]
    assert not said(caplog)
    assert writer.lost_rows == 0


def history_of_named(info: MemberInfo) -> list[dict[str, Any]]:
    """As `history`, where the first file doesn't say whose it is: wandb can't read it."""
    first, second = files(info)
    assert first.with_suffix(".wandb.synced").exists()
    assert not second.with_suffix(".wandb.synced").exists()
    found = [json.loads(line) for line in read_file(second).splitlines()]
    return [record["history"]["item"] for record in found if record["type"] == "history"]


def test_cut_short_over_and_over(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:4])
    for at, until in ((0, 30), (20, 40), (40, 40), (40, 90)):
        now = resume(info, at)
        attempt(now, [step for step in STEPS if at < step <= until])
    go_on(info, 90)
    check_rows(history(info))
    check_end(info)
    assert len(files(info)) == 6


def test_only_the_final_numbers_were_missing(tmp_path: Path) -> None:
    """The last row was written, and the process was killed while it tested."""
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS, "running")
    go_on(info, STEPS[-1])
    check_rows(history(info))
    check_end(info)


def test_final_numbers_of_a_row_that_is_there_reach_the_summary(tmp_path: Path) -> None:
    """A run that had failed was thought to be at its end."""
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS, "failed")
    go_on(info, 50)
    items = history(info)
    assert [item["_step"] for item in items] == STEPS
    assert "test/accuracy" not in items[-1]
    check_end(info)


def test_a_run_without_wandb_goes_on_with_it(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    go_on(info, 70)
    check_rows(history(info))
    check_end(info)


def test_what_is_said_again_stands_once_in_the_summary(tmp_path: Path) -> None:
    """The hooks of a run that goes on say all again, from its rows."""
    (info,) = make_members(tmp_path, 1)
    (info.run_dir / "messages.log").write_text("hidden_1 is dead\nhidden_3 is dead\n")
    writer = WandbWriter("offline", {"project": "p"})
    writer.check([resume(info, 50)])
    writer.open([resume(info, 50)])
    for text in ("hidden_1 is dead", "hidden_3 is dead", "the loss rises"):
        writer.message(0, text)
    writer.finish(0, "complete", {})
    close(writer, info)
    summary = json.loads(read_file(files(info)[0], "--summary"))["summary"]
    assert summary["warnings"] == ["hidden_1 is dead", "hidden_3 is dead", "the loss rises"]


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_wandb import core_pid
from test_wandb_resume import STEPS, files, log_steps, make_members, make_row
from actsweep.loggers.base import Writers
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.runs.metrics_file import MetricsFile
(info,) = make_members(Path(sys.argv[2]), 1)
options = {"project": "actsweep-tests", "tags": ["a"]}
writers = Writers([MetricsFile(), WandbWriter("offline", options)])
writers.check([info])
writers.open([info])
for step in STEPS[:9]:
    writers.row(0, make_row(step))
    time.sleep(0.2)
deadline = time.monotonic() + 10  # a busy machine opens the run late; by itself W&B flushes in 15 s
while not any(map(log_steps, files(info))) and time.monotonic() < deadline:
    time.sleep(0.05)
if sys.argv[3] == "core too":
    os.kill(core_pid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["python", "core too"])
def test_a_killed_process(tmp_path: Path, how: str) -> None:
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), how]
    done = subprocess.run(command, env=own, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (info,) = make_members(tmp_path, 1)
    (file,) = files(info)
    wait_for(lambda: bool(log_steps(file)))  # wandb-core sees that its parent is gone
    assert log_steps(file)  # a second's rows may be lost, not all
    go_on(info, 50)
    check_rows(history(info))
    check_end(info)


def test_past_rows_are_those_of_the_files(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    resume(info, 70)
    rows = support.past_rows(info, 40)
    assert [row.step for row in rows] == STEPS[:5]
    for row in rows:
        wanted = make_row(row.step)
        assert row.epoch == wanted.epoch
        np.testing.assert_equal(row.scalars, pytest.approx(wanted.scalars, nan_ok=True))
        assert row.histograms.keys() == wanted.histograms.keys()
        for name, histogram in row.histograms.items():
            assert histogram.counts.tolist() == wanted.histograms[name].counts.tolist()
            assert histogram.edges.tolist() == wanted.histograms[name].edges.tolist()


# The reader of W&B's files


def test_the_reader_finds_what_wandb_itself_finds(tmp_path: Path) -> None:
    """Records that fill blocks, span them, and end at every place in them."""
    (info,) = make_members(tmp_path, 1)
    writer = WandbWriter("offline", {"project": "p"})
    writer.check([info])
    writer.open([info])
    for step in range(40):
        count = 1500 if step % 10 == 9 else 20 + step
        writer.row(0, Row(step, 0.0, {f"m/{i}": i / 7 for i in range(count)}))
    writer.finish(0, "complete", {})
    close(writer, info)
    (file,) = files(info)
    whole = file.read_bytes()
    assert len(whole) > 10 * log.BLOCK
    assert log_steps(file) == list(range(40))
    ends = [end for _, end in log.records(whole)]
    assert log.encode(whole, [content for content, _ in log.records(whole)]) == whole
    places = [n * log.BLOCK + k for n in (1, 2, 5) for k in (-8, -7, -1, 0, 3, 7, 8)]
    for place in places:
        found = list(log.records(whole[:place]))
        assert [end for _, end in found] == [end for end in ends if end <= place]
    for place in places[::5]:
        file.write_bytes(whole[:place])
        theirs = [json.loads(line) for line in read_file(file, check=False).splitlines()]
        steps = [one["history"]["item"]["_step"] for one in theirs if one["type"] == "history"]
        assert log_steps(file) == steps
        assert log.close_interrupted(info.run_dir / "wandb", info.run_id) == steps[-1]
        read_file(file)  # no complaint any more


def test_the_reader_stops_at_damage(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS, "complete")
    (file,) = files(info)
    whole = file.read_bytes()
    ends = [end for _, end in log.records(whole)]
    for place in (ends[3] + 3, ends[3] + 6, ends[3] + 12):  # checksum, kind, content
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        assert [end for _, end in log.records(bytes(damaged))] == ends[:4]
    assert list(log.records(b"")) == list(log.records(b"something else")) == []
    assert [end for _, end in log.records(whole[: ends[3]] + bytes(100))] == ends[:4]


# The server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    real = support.fast_settings

    def faster(*arguments: Any) -> Any:
        settings = real(*arguments)
        settings.x_file_stream_transmit_interval = 1  # seconds; 15 by default
        return settings

    monkeypatch.setattr(support, "fast_settings", faster)
    with WandbServer() as one:
        use_server(monkeypatch, one.port)
        yield one


def sync(server: WandbServer, *words: str) -> str:
    """`wandb sync`, against the server."""
    env = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    env |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_SILENT": "false"}
    command = [sys.executable, "-m", "wandb", "sync", *words]
    where = words[-1]  # it leaves a log in the current folder
    done = subprocess.run(command, env=env, cwd=where, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def check_server(run: Run, exit_codes: list[int]) -> None:
    flat = [dict(row) for row in run.history]
    for row in flat:
        if "hist/act/hidden_1" in row:
            row["hist/act/hidden_1.values"] = row["hist/act/hidden_1"]["values"]
        row.update({key: math.nan for key, value in row.items() if value == "NaN"})
    check_rows(flat)
    assert run.exit_codes == exit_codes
    wanted = {"state": "complete", "test_accuracy": 0.75, "exact_start/all": 0.5, **FINAL}
    assert {name: run.summary[name] for name in wanted} == wanted
    assert run.config["act"]["value"] == "relu"
    globs = {one.get("2") for one in run.config["_wandb"]["value"]["m"]}
    assert globs >= {"hist/*", "train/*", "exact_start/*", "test/*", "exact_dead_frac/*"}
    assert (run.group, run.tags) == ("test-sweep", ["a"])


def test_wandb_sync_joins_the_files_of_a_run(tmp_path: Path, server: WandbServer) -> None:
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:5], "running")
    (file,) = files(info)
    os.truncate(file, file.stat().st_size - 3)  # within its exit record
    attempt(resume(info, 20), STEPS[3:8])
    go_on(info, 60)
    out = sync(server, *(str(one.parent) for one in files(info)))
    assert "ERROR" not in out
    check_server(server.runs[info.run_id], [1, 1, 0])
    assert "No runs to sync" in sync(server, str(info.run_dir / "wandb"))


def test_a_file_that_was_cut_short_would_end_the_sync(tmp_path: Path, server: WandbServer) -> None:
    """Why `close_interrupted` cuts: without it the later files of the run are left out."""
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:5], "running")
    (file,) = files(info)
    os.truncate(file, file.stat().st_size - 3)
    attempt(info, STEPS[4:], "complete")
    assert "incomplete record" in sync(server, *(str(one.parent) for one in files(info)))
    assert server.runs[info.run_id].steps == STEPS[:4]


def test_online_the_server_says_what_it_has(tmp_path: Path, server: WandbServer) -> None:
    """The first attempt's connection broke: its own file has more than the server."""
    (info,) = make_members(tmp_path, 1)
    writer = WandbWriter("online", {"project": "actsweep-tests", "tags": ["a"]})
    writer.check([info])
    writer.open([info])
    for step in STEPS[:4]:
        writer.row(0, make_row(step))
    wait_for(lambda: info.run_id in server.runs and bool(server.runs[info.run_id].lines))
    server.fault, server.only = 401, "file_stream"
    for step in STEPS[4:9]:
        writer.row(0, make_row(step))
    writer.finish(0, "preempted", {})
    close(writer, info)
    server.fault = None
    run = server.runs[info.run_id]
    assert 0 < len(run.lines) < len(log_steps(files(info)[0]))
    go_on(info, 50, "online")
    check_server(run, [0])
    assert all(log.is_synced(file) for file in files(info))
    assert "No runs to sync" in sync(server, "--include-online", str(info.run_dir / "wandb"))


@pytest.mark.parametrize("state", ["complete", "preempted"])
def test_what_the_server_lacks_is_uploaded_later(
    tmp_path: Path, server: WandbServer, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each row once, though `wandb sync` sends whole files: the rest has a file of its own."""
    (info,) = make_members(tmp_path, 1)
    writer = WandbWriter("online", {"project": "actsweep-tests", "tags": ["a"]})
    writer.check([info])
    writer.open([info])
    for step in STEPS[:4]:
        writer.row(0, make_row(step))
    wait_for(lambda: info.run_id in server.runs and bool(server.runs[info.run_id].lines))
    server.fault, server.only = 401, "file_stream"
    for step in STEPS[4:9] if state == "preempted" else STEPS[4:]:
        writer.row(0, make_row(step))
    if state == "complete":
        writer.row(0, Row(STEPS[-1], STEPS[-1] / 40, FINAL))
    writer.finish(0, state, {"test_accuracy": 0.75})
    close(writer, info)
    server.fault = None
    before = server.runs[info.run_id].steps
    (line,) = said(caplog)
    assert "1 runs: the server answered 401 Unauthorized" in line
    if state == "preempted":
        server.stop()
        go_on(info, 50, "online")  # falls back to offline
        server.start()
    command = shlex.split(line.partition("with: ")[2])
    assert command[:2] == ["wandb", "sync"]
    sync(server, *sorted(glob.glob(command[2])))
    run = server.runs[info.run_id]
    check_server(run, [0] if state == "complete" else [1, 0])
    assert run.steps[: len(before)] == before != run.steps


def test_online_preempted_twice_then_complete(tmp_path: Path, server: WandbServer) -> None:
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:4], mode="online")
    run = server.runs[info.run_id]
    assert run.preempting
    attempt(resume(info, 20), STEPS[3:9], mode="online")
    go_on(info, 70, "online")
    check_server(run, [1, 1, 0])


def test_offline_goes_on_online(tmp_path: Path, server: WandbServer) -> None:
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:9])
    go_on(info, 50, "online")
    check_server(server.runs[info.run_id], [0])
    assert "No runs to sync" in sync(server, "--include-online", str(info.run_dir / "wandb"))


def test_offline_uploaded_goes_on_online(tmp_path: Path, server: WandbServer) -> None:
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:5])
    sync(server, str(info.run_dir / "wandb"))
    assert server.runs[info.run_id].steps == STEPS[:4]
    go_on(info, 50, "online")
    check_server(server.runs[info.run_id], [1, 0])


def test_online_goes_on_offline(
    tmp_path: Path, server: WandbServer, caplog: pytest.LogCaptureFixture
) -> None:
    (info,) = make_members(tmp_path, 1)
    attempt(info, STEPS[:9], mode="online")
    run = server.runs[info.run_id]
    server.stop()
    time.sleep(1)  # names tell the second
    go_on(info, 50, "online")
    (line,) = said(caplog)
    assert line.startswith("W&B is OFFLINE")
    check_rows(history(info))
    server.start()
    sync(server, str(info.run_dir / "wandb"))
    check_server(run, [1, 0])
