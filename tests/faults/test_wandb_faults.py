"""W&B fails in every way, under the genuine client: training goes on, and no row is lost."""

import glob
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sweeping import Outcome
from test_wandb import clean_environment, core_pid, said, use_server  # noqa: F401 (a fixture)
from test_wandb_resume import server, sync, wait_for  # noqa: F401 (a fixture)
from test_writers import make_members
from wandb_server import KEY, Fault, Run, WandbServer

from actsweep.loggers import wandb_log as log
from actsweep.loggers import wandb_support as support
from actsweep.loggers.base import Writers
from actsweep.loggers.wandb_writer import WandbWriter
from actsweep.runs.metrics_file import MetricsFile, read_metrics
from actsweep.runs.rows import MemberInfo, Row

STEPS = list(range(40))
CLOSE_SECONDS = 10.0
WORDS: dict[Fault, str] = {
    401: "answers 401",
    500: "answers 500",
    429: "answers 429",
    "silent": "accepts and never answers",
    "close": "hangs up on every request",
    "down": "is down",
}
FAULTS = [
    401,
    "silent",
    *(pytest.param(one, marks=pytest.mark.slow) for one in (500, 429, "close", "down")),
]
ONE_LINE = "one line names the wandb sync that uploads every row once"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits, in fewer seconds."""
    monkeypatch.setattr(support, "PREFLIGHT_SECONDS", 0.5)
    monkeypatch.setattr(support, "INIT_SECONDS", 1.5)
    monkeypatch.setattr(support, "FINISH_SECONDS", 1.5)


@dataclass(frozen=True)
class Trained:
    """What the side that trains saw."""

    writer: WandbWriter
    opened: float
    slowest_row: float
    closed: float
    """Seconds."""


def train(
    infos: list[MemberInfo],
    middle: Callable[[], None] = lambda: None,
    mode: str = "online",
    close_seconds: float = CLOSE_SECONDS,
) -> Trained:
    """Write rows as a training does; `middle` happens in the middle."""
    writer = WandbWriter(mode, {"project": "actsweep-tests"}, close_seconds=close_seconds)
    writers = Writers([MetricsFile(), writer])
    start = time.monotonic()
    writers.check(infos)
    writers.open(infos)
    opened, slowest = time.monotonic() - start, 0.0
    for step in STEPS:
        if step == len(STEPS) // 2:
            middle()
        for member in range(len(infos)):
            start = time.monotonic()
            writers.row(member, Row(step, step / 10, {"train/loss": 1 / (step + 1)}))
            slowest = max(slowest, time.monotonic() - start)
    start = time.monotonic()
    for member in range(len(infos)):
        writers.finish(member, "complete", {"test_loss": 0.1})
    writers.close()
    return Trained(writer, opened, slowest, time.monotonic() - start)


def check(trained: Trained, infos: list[MemberInfo]) -> None:
    """Nothing waited, and every row is on disk; in W&B's files, too."""
    assert trained.opened < 3  # the preflight, at most
    assert trained.slowest_row < 0.5  # a busy machine may stall once
    assert trained.closed < CLOSE_SECONDS + 6
    for info in infos:
        assert read_metrics(info.run_dir / "metrics.jsonl")["step"].tolist() == STEPS
        assert json.loads((info.run_dir / "summary.json").read_text())["state"] == "complete"
        wait_for(lambda info=info: w_and_b(info) == STEPS)  # wandb-core writes for a moment more
        assert w_and_b(info) == STEPS


def w_and_b(info: MemberInfo) -> list[int]:
    """The steps that W&B's files hold."""
    files = log.fragments(info.run_dir / "wandb", info.run_id)
    return sorted({step for file in files for step in log.read(file).steps})


def upload(server: WandbServer, line: str, infos: list[MemberInfo]) -> None:  # noqa: F811
    """Do what the line says, with a server that is well again; then it has each row once."""
    server.fault = None
    if server.stopped:
        server.start()
    program, command, *patterns = shlex.split(line.partition("with: ")[2])
    assert (program, command) == ("wandb", "sync")
    folders = [folder for pattern in patterns for folder in sorted(glob.glob(pattern))]
    assert "ERROR" not in sync(server, *folders)
    for info in infos:
        run = server.runs[info.run_id]
        assert run.steps == STEPS
        assert run.exit_codes[-1] == 0
        assert (run.summary["state"], run.summary["test_loss"]) == ("complete", 0.1)


def known(server: WandbServer, info: MemberInfo) -> Run:  # noqa: F811
    return server.runs.get(info.run_id, Run())


def break_(server: WandbServer, fault: Fault) -> None:  # noqa: F811
    if fault == "down":
        server.stop()
    else:
        server.fault = fault


@pytest.mark.parametrize("fault", FAULTS)
def test_at_the_start(
    tmp_path: Path,
    server: WandbServer,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    outcome: Outcome,
) -> None:
    break_(server, fault)
    infos = make_members(tmp_path, 2)
    trained = train(infos)
    check(trained, infos)
    (line,) = said(caplog)
    assert line.startswith("W&B is OFFLINE: ")
    assert trained.writer.lost_rows == 0
    if fault == "down":
        upload(server, line, infos)
    outcome(f"W&B {WORDS[fault]} at the start", f"trains on, offline; {ONE_LINE}")


@pytest.mark.parametrize("fault", FAULTS)
def test_after_the_preflight(
    tmp_path: Path,
    server: WandbServer,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    outcome: Outcome,
) -> None:
    """The first question is answered; the runs themselves can't be opened."""
    real = support.preflight

    def preflight() -> str | None:
        answer = real()
        break_(server, fault)
        return answer

    monkeypatch.setattr(support, "preflight", preflight)
    infos = make_members(tmp_path, 2)
    trained = train(infos)
    check(trained, infos)
    (line,) = said(caplog)
    assert line.startswith("W&B is OFFLINE: ")
    assert trained.writer.lost_rows == 0
    if fault == 500:
        upload(server, line, infos)
    outcome(f"W&B {WORDS[fault]} when the runs open", f"trains on, offline; {ONE_LINE}")


@pytest.mark.parametrize("fault", FAULTS)
def test_from_the_middle_on(
    tmp_path: Path,
    server: WandbServer,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    outcome: Outcome,
) -> None:
    infos = make_members(tmp_path, 2)

    def middle() -> None:
        wait_for(
            lambda: all(i.run_id in server.runs and server.runs[i.run_id].lines for i in infos)
        )
        break_(server, fault)

    trained = train(infos, middle)
    assert all(0 < len(server.runs[info.run_id].lines) < len(STEPS) for info in infos)
    check(trained, infos)
    (line,) = said(caplog)
    assert line.startswith("W&B lacks rows of 2 runs: the server ")
    assert ("401" in line) == (fault == 401)
    assert trained.writer.lost_rows == 0
    upload(server, line, infos)
    outcome(f"W&B {WORDS[fault]} from the middle on", f"trains on; {ONE_LINE}")


def test_the_end_takes_too_long(
    tmp_path: Path,
    server: WandbServer,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    """More runs than can say good-bye within `close_seconds`."""
    monkeypatch.setattr(support, "FINISH_SECONDS", 60.0)
    infos = make_members(tmp_path, 2)

    def middle() -> None:
        wait_for(lambda: all(known(server, info).lines for info in infos))
        server.fault = "silent"

    trained = train(infos, middle, close_seconds=1.0)
    check(trained, infos)
    assert trained.closed < 7
    (line,) = said(caplog)
    assert "did not finish within 1 s" in line
    upload(server, line.replace("type: ", "with: "), infos)
    outcome("W&B's good-bye takes longer than close_seconds", f"ends in time; {ONE_LINE}")


def test_a_server_that_recovers(
    tmp_path: Path,
    server: WandbServer,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    monkeypatch.setattr(support, "FINISH_SECONDS", 8.0)  # wandb waits seconds before it retries
    infos = make_members(tmp_path, 2)

    def middle() -> None:
        wait_for(
            lambda: all(i.run_id in server.runs and server.runs[i.run_id].lines for i in infos)
        )
        server.fault, server.only = 500, "file_stream"
        broken = len(server.asked)
        wait_for(lambda: len(server.asked) > broken + 1)
        server.fault = None

    trained = train(infos, middle)
    check(trained, infos)
    assert not said(caplog)
    for info in infos:
        assert server.runs[info.run_id].steps == STEPS
        assert server.runs[info.run_id].exit_codes == [0]
    outcome("W&B answers 500 for a while", "trains on; every row arrives, nothing is said")


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_wandb_core_is_killed(
    tmp_path: Path,
    server: WandbServer,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    mode: str,
    outcome: Outcome,
) -> None:
    infos = make_members(tmp_path, 2)

    def middle() -> None:
        wait_for(lambda: all(len(w_and_b(info)) > 10 for info in infos))
        os.kill(core_pid(), signal.SIGKILL)
        for info in infos:
            (file,) = log.fragments(info.run_dir / "wandb", info.run_id)
            os.truncate(file, file.stat().st_size - 3)  # as when it dies while it writes a block

    trained = train(infos, middle, mode)
    for info in infos:
        assert read_metrics(info.run_dir / "metrics.jsonl")["step"].tolist() == STEPS
        assert 10 < len(w_and_b(info)) < len(STEPS)
    assert trained.closed < CLOSE_SECONDS + 6
    line, count = said(caplog)
    assert "metrics.jsonl has every row" in line
    assert count == f"W&B lacks {trained.writer.lost_rows} rows; metrics.jsonl has them"
    patterns = shlex.split(line.rpartition(": ")[2])[2:]
    assert "ERROR" not in sync(server, *(folder for one in patterns for folder in glob.glob(one)))
    for info in infos:
        assert server.runs[info.run_id].steps == w_and_b(info)
    outcome(
        f"wandb-core is killed, {mode}",
        "trains on; one line names the wandb sync for what it had taken, one counts the rest",
    )


QUIET = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/faults"]
from test_writers import make_members
from test_wandb_faults import train
train(make_members(Path(sys.argv[2]), 1), lambda: time.sleep(1))
"""


def test_ours_is_the_only_line(tmp_path: Path, server: WandbServer) -> None:  # noqa: F811
    """wandb's own advice names a `wandb sync` that would pass over the run."""
    server.fault, server.only = 401, "file_stream"
    own = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    own |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    command = [sys.executable, "-c", QUIET, str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=True)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith("W&B lacks rows of 1 runs: the server answered 401 Unauthorized")


FEW_FILES = """
import json, resource, sys
from pathlib import Path
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/faults"]
from test_writers import make_members
from test_wandb_faults import train
trained = train(make_members(Path(sys.argv[2]), 30), mode="offline")
print(json.dumps([trained.slowest_row, trained.closed, trained.writer.lost_rows]))
"""


def test_few_open_files(
    tmp_path: Path,
    outcome: Outcome,
) -> None:
    """W&B takes as many runs as there are files for, and loses nothing of those."""
    limit = 140
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    command = [sys.executable, "-c", FEW_FILES, str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(
        [*command, str(limit)], env=own, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    slowest, closed, lost = json.loads(done.stdout)
    assert (slowest < 0.5, closed < CLOSE_SECONDS, lost) == (True, True, 0)
    (line,) = [one for one in done.stderr.splitlines() if "W&B" in one]
    assert line.startswith("W&B takes the first ")
    taken = int(line.split()[4])
    assert 10 < taken < 30
    infos = make_members(tmp_path, 30)
    for info in infos:
        assert read_metrics(info.run_dir / "metrics.jsonl")["step"].tolist() == STEPS
    for info in infos[:taken]:
        assert w_and_b(info) == STEPS
    assert not (infos[taken].run_dir / "wandb").exists()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > limit
    outcome(
        "ulimit -n is too low for W&B's files",
        "trains on; all rows in metrics.jsonl; one line says how many runs W&B takes",
    )
