"""A sweep that is watched: how far it is, a page that keeps itself up to date, and the end."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from sweeps_on_disk import EPOCHS, sweep_on_disk, write_run
from test_page import column, look, one, type_filter

from actsweep.report.local_server import address, announce, local_server
from actsweep.report.watch import LiveReport, server
from actsweep.report.write import ReportRequest
from actsweep.runs import run_dir
from actsweep.runs.leases import Leases
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps.progress import progress
from actsweep.sweeps.status import take_snapshot

ROOT = Path(__file__).parents[1]


def half_done(run: RunDir, sweep: str, seconds: float) -> None:
    """Make a complete run one that has trained half of its epochs in this time, until now."""
    rows = run.metrics.read_text().splitlines()[: EPOCHS // 2 + 1]
    run.metrics.write_text("".join(f"{row}\n" for row in rows))
    run.summary.unlink()
    since = {"time": (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(), "epoch": 0}
    run_dir.write_status(run, "running", step=0, epoch=0, sweep=sweep, attempt=1, since=since)


def test_how_far_a_sweep_is(tmp_path: Path) -> None:
    """One run in training: 4 epochs of 40 steps in 20 s; one killed before; one complete."""
    complete, killed, running = sweep_on_disk(tmp_path, "s", ("relu",), 3)
    half_done(running, "s", 20)
    half_done(killed, "s", 20)
    status = json.loads(complete.status.read_text())
    begun = datetime.now(UTC) - timedelta(seconds=60)
    status |= {"since": {"time": begun.isoformat(), "epoch": 0}}
    complete.status.write_text(json.dumps(status))
    with Leases(tmp_path, "s") as leases:
        leases.take([running.run_id])
        now = progress(take_snapshot(tmp_path / "sweeps" / "s"))
    assert (now.counts, now.ended, now.supervised) == (
        "1 complete, 1 running, 1 interrupted",
        False,
        True,
    )
    assert now.share == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert [run.run for run in now.runs] == [running.run_id, killed.run_id]
    run = now.runs[0]
    assert run.steps_per_second == pytest.approx(4 * 40 / 20, rel=0.1)
    assert run.seconds_left == pytest.approx(20, rel=0.1)
    assert (run.epoch, run.epochs) == (4, 8)
    assert run.now.startswith(f"on {os.uname().nodename}, process {os.getpid()}, train/loss 0.")
    worth = 0.5 + 20 / 60  # in the last 20 seconds: half a run, and a third of one of 60 s
    assert now.runs_per_hour == pytest.approx(3600 * worth / 20, rel=0.1)
    assert now.seconds_left == pytest.approx(20 / worth, rel=0.1)  # one run's worth is left
    assert now.runs[1].steps_per_second is None
    after = progress(take_snapshot(tmp_path / "sweeps" / "s"))  # its owner has gone
    assert not after.supervised
    assert after.seconds_left is None


def test_an_open_page_keeps_itself_up_to_date(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Filter, sort, ticks, columns and scroll stay; what is new appears where it stands."""
    runs = sweep_on_disk(tmp_path, "s", ("relu", "tanh"), 4)
    half_done(runs[0], "s", 20)
    live_report = LiveReport(tmp_path / "sweeps" / "s", ReportRequest())
    with Leases(tmp_path, "s") as leases, server(live_report, 0) as http_server:
        leases.take([runs[0].run_id])
        live_report.refresh()
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        look(browser)
        browser.get(address(http_server))
        WebDriverWait(browser, 20).until(lambda b: "1 running" in one(b, "#progress").text)
        assert "steps/s" in one(browser, "#progress").text
        assert "left" in one(browser, "#progress").text
        type_filter(browser, "act == relu")
        one(browser, "#runs th:nth-child(6) button").click()
        one(browser, "#runs tbody tr:nth-child(2) input").click()
        before = column(browser, "run")
        assert before[-1] == runs[0].run_id  # without a score: last
        browser.execute_script("document.getElementById('curves').scrollIntoView()")
        browser.execute_script(
            "document.querySelector('#chooser details').open = true;"
            "document.querySelector('#chooser [data-value=tanh]').focus({ preventScroll: true });"
        )
        unfolded = "return document.querySelector('#chooser details').open"
        focused = "return document.activeElement.dataset.value"
        assert browser.execute_script(focused) == "tanh"
        place = "return document.getElementById('curves').getBoundingClientRect().top"
        top = browser.execute_script(place)
        write_run(runs[0], "s", "relu", 0)
        live_report.refresh()
        done = lambda b: column(b, "state") == ["complete"] * 4  # noqa: E731
        WebDriverWait(browser, 20).until(done)
        scores = [float(text) for text in column(browser, "test accuracy, %")]
        assert scores == sorted(scores)
        assert set(column(browser, "run")) == set(before)
        assert "8 complete" in one(browser, "[data-live=counts]").text
        assert one(browser, f"tr[data-key='{before[1]}'] input").is_selected()
        assert browser.execute_script(place) == pytest.approx(top, abs=2)
        assert browser.execute_script(unfolded)
        assert browser.execute_script(focused) == "tanh"
        assert browser.get_log("browser") == []
        http_server.shutdown()


def test_a_sweep_that_trains_is_watched_until_it_ends(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    """The command and the page both say that it has ended."""
    words = ["act=relu,tanh", "seed=0,1", "data=digits", "data.val_size=300", "depth=2"]
    words += ["depth.width=16", "trainer.epochs=150", "logger.mode=disabled", "pack.size=2"]
    words += ["trainer.patience=null", "callbacks=light", f"paths.outputs={tmp_path}"]
    command = [sys.executable, "train.py", "-m", *words]
    trained = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    watched = None
    try:
        begun = lambda _: [*tmp_path.glob("runs/*/metrics.jsonl")]  # noqa: E731
        WebDriverWait(browser, 120, 0.2).until(begun)
        options = ["--every", "1", "--port", "0", "--no-open", "--outputs", str(tmp_path)]
        command = [sys.executable, "-m", "actsweep", "watch", "last", *options]
        watched = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert watched.stdout is not None
        site = re.match(r"(http://127\.0\.0\.1:\d+/) ", watched.stdout.readline())
        assert site
        look(browser, 390, "dark")
        browser.get(site[1])
        type_filter(browser, "act == tanh")
        ended = "the sweep has ended: this page is final"
        WebDriverWait(browser, 240).until(lambda b: ended in one(b, "#progress").text)
        assert column(browser, "state") == ["complete"] * 2
        assert "4 complete" in one(browser, "#progress").text
        assert watched.wait(60) == 0
        assert "has ended: 4 complete; its page: " in watched.stdout.read()
        assert trained.wait(120) == 0
        browser.find_element(By.CSS_SELECTOR, "#runs tbody a").click()  # still of use
        assert len(browser.find_elements(By.CSS_SELECTOR, "#run polyline")) == 4
    finally:
        for process in filter(None, (trained, watched)):
            process.kill()
            process.communicate()


def test_a_sweep_that_had_ended_before_is_served_until_ctrl_c(tmp_path: Path) -> None:
    sweep_on_disk(tmp_path, "s", ("relu",), 2)
    options = ["--every", "1", "--port", "0", "--no-open", "--outputs", str(tmp_path)]
    command = [sys.executable, "-m", "actsweep", "watch", "s", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watched:
        assert watched.stdout is not None
        assert watched.stdout.readline().startswith("http://127.0.0.1:")
        page = tmp_path / "sweeps" / "s" / "report" / "index.html"
        assert watched.stdout.readline() == f"s has ended: 2 complete; its page: {page}\n"
        with pytest.raises(subprocess.TimeoutExpired):
            watched.wait(3)
        watched.send_signal(signal.SIGINT)
        assert watched.wait(20) == 130


@pytest.mark.parametrize(("display", "asked"), [("", True), (":0", False), (":0", True)])
def test_a_browser_is_opened_where_there_is_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: str, asked: bool
) -> None:
    opened = queue.Queue[str]()
    monkeypatch.setattr("webbrowser.open", opened.put)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    with local_server(tmp_path, 0, lambda path, query: None) as http_server:
        announce(http_server, open_browser=asked)
        if display and asked:
            assert opened.get(timeout=5) == address(http_server)
        else:
            assert opened.empty()
