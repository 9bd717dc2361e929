"""The metrics file, the console and the fan-out."""

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actsweep.loggers.base import Writers
from actsweep.loggers.console import Console
from actsweep.runs import metrics_file
from actsweep.runs.metrics_file import MetricsFile, read_histograms, read_metrics
from actsweep.runs.rows import MemberInfo, MetricsError, Row
from actsweep.stats.histogram import Histogram
from actsweep.utils.errors import UserError


def make_members(folder: Path, count: int, epochs: int = 4) -> list[MemberInfo]:
    members = []
    for seed in range(count):
        run_id = f"relu-mlp4-torch-s{seed}-3fa9c1d{seed}"
        (folder / run_id).mkdir(parents=True, exist_ok=True)
        names = {"act": "relu", "init": "torch_uniform", "model": "mlp", "data": "digits"}
        members.append(
            MemberInfo(
                **names,
                run_id=run_id,
                run_dir=folder / run_id,
                config={"optim": {"lr": 0.01}, "depth": {"widths": [8, 8, 8, 8]}},
                depth=4,
                seed=seed,
                lr=0.01,
                sweep="test-sweep",
                total_epochs=epochs,
            )
        )
    return members


def make_histogram(shift: int) -> Histogram:
    counts = np.arange(6, dtype=np.int64) + shift
    return Histogram(counts, np.linspace(-2.0, 2.0, 5))


def make_rows(seed: int = 0, count: int = 5) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        scalars = {f"train/{name}": float(np.float32(rng.normal())) for name in ("loss", "x")}
        rows.append(
            Row(10 * index, index / 3, scalars, {"hist/act/hidden_1": make_histogram(index)})
        )
    return rows


def write(members: list[MemberInfo], rows: list[Row]) -> None:
    writer = MetricsFile()
    writer.open(members)
    for row in rows:
        for member in range(len(members)):
            writer.row(member, row)
    for member in range(len(members)):
        writer.finish(member, "complete", {"test_loss": float("nan"), "epochs": 3})
    writer.close()


# metrics.jsonl


def test_metrics_round_trip_exactly(tmp_path: Path) -> None:
    members = make_members(tmp_path, 2)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    values = [float(v) for v in bits[np.isfinite(bits)]]
    values += [0.0, -0.0, 1.0, 0.1, 1e300, 1 / 3, 5e-324, float(np.float32(1e-45))]
    write(members, [Row(step, step / 7, {"v": value}) for step, value in enumerate(values)])
    for info in members:
        columns = read_metrics(info.run_dir / "metrics.jsonl")
        assert list(columns) == ["step", "epoch", "v"]
        assert np.array_equal(columns["step"], np.arange(len(values)))
        assert np.array_equal(columns["epoch"], np.arange(len(values)) / 7)
        for read, value in zip(columns["v"], values, strict=True):
            if abs(value) < 1e39 and float(np.float32(value)) == value:
                assert np.float32(read) == np.float32(value)
            else:
                assert read == value


def test_nan_and_infinity_are_null_and_missing_columns_nan(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    nan, inf = float("nan"), float("inf")
    write([info], [Row(0, 0, {"a": nan, "b": 1.0}), Row(1, 1, {"a": inf}), Row(2, 2, {"c": -inf})])
    text = (info.run_dir / "metrics.jsonl").read_text()
    assert text.splitlines()[:2] == [
        '{"step":0,"epoch":0.0,"a":null,"b":1.0}',
        '{"step":1,"epoch":1.0,"a":null}',
    ]
    columns = read_metrics(info.run_dir / "metrics.jsonl")
    np.testing.assert_array_equal(columns["a"], [nan, nan, nan])
    np.testing.assert_array_equal(columns["b"], [1.0, nan, nan])


def test_row_wins_over_scalars_named_step(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    write([info], [Row(3, 0.5, {"step": 99.0, "epoch": 99.0})])
    assert (info.run_dir / "metrics.jsonl").read_text() == '{"step":3,"epoch":0.5}\n'


def test_same_training_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(make_members(tmp_path / name, 2), make_rows())
    for file in sorted((tmp_path / "first").rglob("*.*")):
        twin = tmp_path / "second" / file.relative_to(tmp_path / "first")
        assert file.read_bytes() == twin.read_bytes(), file.name


def test_every_row_is_on_disk_at_once(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    writer = MetricsFile()
    writer.open([info])
    for count, row in enumerate(make_rows(), start=1):
        writer.row(0, row)
        assert len((info.run_dir / "metrics.jsonl").read_bytes().splitlines()) == count
    writer.close()


def test_cut_last_line_is_left_out(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    write([info], make_rows())
    path = info.run_dir / "metrics.jsonl"
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert len(read_metrics(path)["step"]) == 4, end
    path.write_bytes(b"")
    assert read_metrics(path) == {}


@pytest.mark.parametrize("bad", ['{"step":1', "[1]", "", '{"step":"x"}', '{"a":[1]}', "\xff"])
def test_damaged_line_is_named(tmp_path: Path, bad: str) -> None:
    (info,) = make_members(tmp_path, 1)
    write([info], make_rows())
    path = info.run_dir / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    lines[2] = bad.encode("latin-1")
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(UserError, match=re.escape(f"{path}, line 3:")):
        read_metrics(path)


def test_summary_and_messages(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    writer = MetricsFile()
    writer.open([info])
    writer.message(0, "hidden_3: 97 % of the units\nare dead")
    writer.finish(0, "diverged", {"test_loss": float("nan"), "epochs": np.int64(3)})
    writer.message(0, "late")
    writer.close()
    summary = json.loads((info.run_dir / "summary.json").read_text())
    assert summary == {"test_loss": None, "epochs": 3, "state": "diverged"}
    lines = (info.run_dir / "messages.log").read_text().splitlines()
    assert lines == ["hidden_3: 97 % of the units are dead", "late"]


# histograms.npz


def test_histograms_round_trip(tmp_path: Path) -> None:
    members = make_members(tmp_path, 2)
    write(members, make_rows())
    for info in members:
        series = read_histograms(info.run_dir / "histograms.npz")
        assert list(series) == ["hist/act/hidden_1"]
        one = series["hist/act/hidden_1"]
        assert (one.counts.dtype, one.edges.dtype, one.steps.dtype) == ("int64", "float64", "int64")
        assert np.array_equal(one.counts, [np.arange(6) + shift for shift in range(5)])
        assert np.array_equal(one.edges, np.linspace(-2.0, 2.0, 5))
        assert np.array_equal(one.steps, [0, 10, 20, 30, 40])


def test_histograms_are_saved_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (info,) = make_members(tmp_path, 1)
    clock = [0.0]
    monkeypatch.setattr(metrics_file.time, "monotonic", lambda: clock[0])
    writer = MetricsFile()
    writer.open([info])
    path = info.run_dir / "histograms.npz"
    saved = []
    for seconds, row in zip((0.0, 9.9, 10.1, 12.0, 21.0), make_rows(), strict=True):
        clock[0] = seconds
        writer.row(0, row)
        saved.append(len(read_histograms(path)["hist/act/hidden_1"].steps) if path.exists() else 0)
    assert saved == [0, 0, 3, 3, 5]
    writer.close()


def test_reused_buffers_are_copied(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path, 1)
    writer = MetricsFile()
    writer.open([info])
    buffer = np.zeros(6, np.int64)
    for step in range(3):
        buffer[:] = step
        writer.row(0, Row(step, 0, {}, {"h": Histogram(buffer, np.arange(5.0))}))
    writer.close()
    assert read_histograms(info.run_dir / "histograms.npz")["h"].counts[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("counts", [4, 5, 7])
def test_wrong_histogram_shape_raises(tmp_path: Path, counts: int) -> None:
    (info,) = make_members(tmp_path, 1)
    writer = MetricsFile()
    writer.open([info])
    with pytest.raises(MetricsError, match="5 edges need 6 counts"):
        writer.row(0, Row(0, 0, {}, {"h": Histogram(np.zeros(counts), np.arange(5.0))}))
    writer.row(0, Row(1, 0, {}, {"h": make_histogram(0)}))
    with pytest.raises(MetricsError, match="h: its edges changed at step 2"):
        writer.row(0, Row(2, 0, {}, {"h": Histogram(np.zeros(6), np.arange(5.0))}))
    writer.close()


# A full disk


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_names_the_member(tmp_path: Path) -> None:
    members = make_members(tmp_path, 2)
    with tiny_disk(tmp_path / "disk") as disk:
        members[1] = make_members(disk, 2)[1]
        writers = Writers([MetricsFile()])
        writers.open(members)

        def train() -> None:
            for step in range(10_000):
                writers.row(0, Row(step, 0, {"a": 1.0}))
                writers.row(1, Row(step, 0, {f"metric/{i}": 0.123 for i in range(50)}))

        with pytest.raises(MetricsError, match="No space left on device") as caught:
            train()
        assert caught.value.member == 1
        assert caught.value.run_id == members[1].run_id
        writers.row(0, Row(99_999, 0, {"a": 1.0}))
        writers.finish(0, "complete", {})
        with pytest.raises(MetricsError):
            writers.finish(1, "failed", {})
        writers.close()
    assert read_metrics(members[0].run_dir / "metrics.jsonl")["step"][-1] == 99_999


def test_missing_folder_names_the_member(tmp_path: Path) -> None:
    members = make_members(tmp_path, 2)
    members[1].run_dir.rmdir()
    with pytest.raises(MetricsError, match=members[1].run_id) as caught:
        Writers([MetricsFile()]).open(members)
    assert caught.value.member == 1


# The fan-out


class Recorder:
    """Writes down its calls and raises where told."""

    name = "Recorder"

    def __init__(self, fail_at: str = "", error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._fail_at = fail_at
        self._error = error or RuntimeError("broken")

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> None:
            self.calls.append(name)
            if name == self._fail_at:
                raise self._error

        return call


ALL = ["open", "row", "message", "row", "finish", "close"]


def drive(writers: Writers) -> None:
    writers.open([])
    writers.row(0, Row(0, 0))
    writers.message(0, "x")
    writers.row(0, Row(1, 0))
    writers.finish(0, "complete", {})
    writers.close()


@pytest.mark.parametrize("where", sorted(set(ALL)))
def test_failing_writer_is_dropped_and_named_once(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, bad, last = Recorder(), Recorder(fail_at=where), Recorder()
    drive(Writers([first, bad, last]))
    assert first.calls == last.calls == ALL
    until = ALL[: ALL.index(where) + 1]
    assert bad.calls == [*until, "close"]
    (record,) = caplog.records
    assert f"Recorder is switched off, since it failed in {where}: " in record.getMessage()


def test_refusal_to_start_passes_and_closes_the_others() -> None:
    first, bad, last = Recorder(), Recorder("open", UserError("no")), Recorder()
    with pytest.raises(UserError, match="no"):
        Writers([first, bad, last]).open([])
    assert first.calls == last.calls == ["open", "close"]


def test_metrics_error_reaches_the_caller_after_the_others() -> None:
    error = MetricsError(3, "run", Path("x"), "full")
    bad, last = Recorder("row", error), Recorder()
    writers = Writers([bad, last])
    with pytest.raises(MetricsError):
        writers.row(3, Row(0, 0))
    assert last.calls == ["row"]


# The console


def test_plain_lines_are_first_then_rare_then_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("actsweep.loggers.console.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    console = Console(run_offset=3, total_runs=9, stream=stream)
    console.open(make_members(tmp_path, 2, epochs=20))
    for epoch in range(1, 21):
        clock[0] += 1.0
        for member in range(2):
            loss = 1 / epoch + member if epoch != 7 else float("nan")
            console.row(member, Row(epoch, epoch, {"train/loss": loss, "val/accuracy": 0.25}))
    console.message(1, "hidden_3 is dead")
    console.finish(0, "complete", {})
    console.finish(1, "diverged", {})
    console.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == (
        "[3/9 runs] relu mlp4  seed 0,1  epoch 1/20  loss 1.5000  val acc 0.2500  0:59 left"
    )
    assert [line.split("epoch ")[1].split()[0] for line in lines[1:4]] == ["6/20", "11/20", "16/20"]
    assert lines[4] == "relu-mlp4-torch-s1-3fa9c1d1: hidden_3 is dead"
    assert lines[5].startswith(
        "[5/9 runs] relu mlp4  seed 0,1  epoch 20/20  1 complete, 1 diverged"
    )


@pytest.mark.parametrize(
    ("rates", "title"),
    [
        (["0.1", "0.01"], "relu mlp4  optim.lr 0.01,0.1  seed 0,1"),
        (["1", "0.5", "0.02", "1e-3"], "relu mlp4  optim.lr 1e-3..1  seed 0..3"),
        (["0.1", "0.1"], "relu mlp4  optim.lr 0.1  seed 0,1"),  # another pack has another one
        ([], "relu mlp4  seed 0,1"),
    ],
)
def test_the_title_names_what_differs(tmp_path: Path, rates: list[str], title: str) -> None:
    infos = make_members(tmp_path, len(rates) or 2)
    differing = {
        info.run_id: {"act": "relu", "seed": str(info.seed), "optim.lr": rate}
        for info, rate in zip(infos, rates, strict=False)
    }
    stream = io.StringIO()
    console = Console(stream=stream, differing=differing)
    console.open(infos)
    console.close()
    assert stream.getvalue().startswith(f"[0/{len(infos)} runs] {title}  epoch 0/")


def test_a_long_epoch_has_a_line_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("actsweep.loggers.console.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    console = Console(stream=stream)
    console.open(make_members(tmp_path, 1, epochs=2))
    printed = []
    for step in range(1, 26):
        clock[0] += 10.0
        before = stream.tell()
        console.row(0, Row(step, step / 20, {"train/loss": 1.0}))
        printed += [clock[0]] if stream.tell() > before else []
    console.close()
    assert printed == [10, 70, 130, 190, 200]  # at 200 s a new epoch begins


def test_console_means_only_live_members(tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.open(make_members(tmp_path, 2))
    console.row(0, Row(1, 0.5, {"train/loss": 5.0}))
    console.finish(0, "diverged", {})
    console.row(1, Row(1, 1.0, {"train/loss": 1.0}))
    assert "loss 1.0000" in stream.getvalue().splitlines()[-1]
    console.close()
    assert "interrupted" not in stream.getvalue()
    assert "1 diverged" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("members", [0, 1, 30])
def test_console_without_rows(tmp_path: Path, members: int) -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.open(make_members(tmp_path, members) if members < 10 else [])
    console.close()
    assert len(stream.getvalue().splitlines()) == (members == 1)


DRIVER = """
import logging, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_writers import make_members, Row
from actsweep.loggers.console import Console
logging.basicConfig(stream=sys.stderr, format="LOG %(message)s")
console = Console(1, 5)
console.open(make_members(Path(sys.argv[2]), 3))
for epoch in range(1, 5):
    for member in range(3):
        console.row(member, Row(epoch, epoch, {"train/loss": 1.0, "val/accuracy": 0.5}))
    logging.warning("epoch %d", epoch)
    print("TABLE", epoch, flush=True)
    console.message(0, "[bold]not markup[/]")
    time.sleep(0.05)
for member in range(3):
    console.finish(member, "complete", {})
console.close()
logging.warning("after")
"""


@pytest.mark.parametrize("columns", ["20", "100"])
def test_live_display_in_a_terminal(tmp_path: Path, columns: str) -> None:
    """stderr is a terminal, stdout a pipe: the bars and the log share the one, not the other."""
    main, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": columns, "TERM": "xterm", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, env=environment)
    os.close(side)
    chunks: list[bytes] = []

    def drain() -> None:
        try:
            while chunk := os.read(main, 65536):
                chunks.append(chunk)
        except OSError:
            pass  # the other side is closed

    reader = threading.Thread(target=drain)
    reader.start()
    stdout, _ = process.communicate(timeout=30)
    reader.join()
    os.close(main)
    seen = b"".join(chunks).decode()
    assert process.returncode == 0, seen
    assert stdout.decode().splitlines() == [f"TABLE {epoch}" for epoch in range(1, 5)]
    assert "Traceback" not in seen
    assert "\x1b[?25h" in seen, "the cursor comes back"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    for epoch in range(1, 5):
        assert f"LOG epoch {epoch}" in lines, "a log line stands alone"
    assert "LOG after" in lines
    flat = "".join(lines)
    assert flat.count("[bold]not markup[/]") == 4
    assert "3 complete" in flat
    if columns == "100":
        assert "of 5 runs" in text
        assert "val acc 0.5000" in text


def test_live_display_gives_the_handlers_back(tmp_path: Path) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        console = Console(stream=io.StringIO(), live=True)
        console.open(make_members(tmp_path, 1))
        console.row(0, Row(1, 1.0, {"train/loss": 1.0}))
        console.close()
        assert handler.stream is sys.stderr
    finally:
        logging.getLogger().removeHandler(handler)
