"""The page of all sweeps, and the server that both it and a watched page stand on."""

import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from sweeps_on_disk import sweep_on_disk
from test_page import SIZES, button, look, one, smallest_text, texts

from actsweep.cli.main import main
from actsweep.report.board import Board
from actsweep.report.local_server import address, local_server
from actsweep.runs import run_dir

SWEEPS = ("first", "second", "third")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sweeps: three activations, the same without ReLU, and one with a run that failed."""
    folder = tmp_path_factory.mktemp("outputs")
    sweep_on_disk(folder, "first")
    sweep_on_disk(folder, "second", ("elu", "tanh"), optim={"lr": 0.2})
    runs = sweep_on_disk(folder, "third", ("relu",), 2, init={"name": "he_normal"})
    run_dir.write_status(runs[1], "failed", step=9, epoch=1, cause="ValueError: no good")
    for place, name in enumerate(SWEEPS):  # in this order
        plan = folder / "sweeps" / name / "plan.json"
        text = json.loads(plan.read_text()) | {"submitted": 1.7e9 + place}
        plan.write_text(
            json.dumps(dict(sorted(text.items(), key=lambda item: item[0] != "submitted")))
        )
    return folder


@pytest.fixture(scope="module")
def site(outputs: Path) -> Iterator[str]:
    with local_server(outputs, 0, Board(outputs).respond) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield address(http_server)
        http_server.shutdown()


@pytest.fixture
def opened(browser: webdriver.Chrome, site: str) -> Iterator[webdriver.Chrome]:
    look(browser)
    browser.get(site)
    yield browser
    assert browser.get_log("browser") == []


def column(browser: webdriver.Chrome, title: str) -> list[str]:
    place = texts(browser, "#sweeps th").index(title) + 1
    return texts(browser, f"#sweeps tbody td:nth-child({place})")


def mean(outputs: Path, act: str, sweep: str) -> float:
    summaries = [
        json.loads(path.read_text())
        for path in (outputs / "runs").glob(f"{act}-*/summary.json")
        if json.loads((path.parent / "status.json").read_text())["sweep"] == sweep
    ]
    return float(np.mean([100 * s["test_accuracy"] for s in summaries]))


def test_all_sweeps_are_listed_and_searched(opened: webdriver.Chrome, outputs: Path) -> None:
    assert column(opened, "sweep") == ["third", "second", "first"]
    assert column(opened, "runs") == ["2", "6", "9"]
    assert column(opened, "complete") == ["1", "6", "9"]
    assert column(opened, "failed") == ["1", "0", "0"]
    assert column(opened, "best group")[1:] == ["elu", "relu"]
    expected = [mean(outputs, "elu", "second"), mean(outputs, "relu", "first")]
    assert [float(v) for v in column(opened, "its mean")[1:]] == pytest.approx(expected, rel=1e-3)
    box = one(opened, "#sweeps-filter")
    for text, kept in (
        ("complete > 5", ["second", "first"]),
        ("third", ["third"]),
        ("best == relu or failed > 0", ["third", "first"]),
        ("submitted ~ 2023 and not first", ["third", "second"]),
    ):
        box.clear()
        box.send_keys(text)
        assert column(opened, "sweep") == kept, text


def test_a_sweep_s_page_is_made_when_it_is_opened(opened: webdriver.Chrome, outputs: Path) -> None:
    page = outputs / "sweeps" / "second" / "report" / "index.html"
    assert not page.exists()
    next(a for a in opened.find_elements(By.TAG_NAME, "a") if a.text == "second").click()
    WebDriverWait(opened, 60).until(lambda b: b.find_elements(By.ID, "runs"))
    assert one(opened, "h1").text == "second"
    assert page.exists()
    written = page.stat().st_mtime_ns
    opened.get(f"{opened.current_url.partition('/sweeps')[0]}/report?sweep=second")
    assert page.stat().st_mtime_ns == written  # nothing has happened since


def test_ticked_sweeps_become_one_report(opened: webdriver.Chrome) -> None:
    names = column(opened, "sweep")
    together = button(opened, "Tick two to overlay them")
    assert not together.is_enabled()
    for name in ("first", "second"):
        one(opened, f"#sweeps tbody tr:nth-child({names.index(name) + 1}) input").click()
    button(opened, "One report of 2 sweeps").click()
    WebDriverWait(opened, 60).until(lambda b: b.find_elements(By.ID, "runs"))
    assert one(opened, "h1").text == "first, second"
    assert len(opened.find_elements(By.CSS_SELECTOR, "#runs tbody tr")) == 15


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_fits_and_can_be_read(opened: webdriver.Chrome, width: int, scheme: str) -> None:
    look(opened, width, scheme)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    assert smallest_text(opened) >= 12


def ask(site: str, path: str, **headers: str) -> tuple[int, str]:
    asked = http.client.HTTPConnection(site.split("/")[2], timeout=60)
    asked.request("GET", path, headers={"Host": "localhost", **headers})
    answer = asked.getresponse()
    return answer.status, answer.read().decode()


def test_only_this_machine_and_only_the_folder(site: str, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (outputs / "out").symlink_to(tmp_path)
    assert ask(site, "/board.json")[0] == 200
    assert ask(site, "/board.json", Host="elsewhere.example")[0] == 403
    assert ask(site, "/report?sweep=first", Host="127.0.0.1.elsewhere.example:80")[0] == 403
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert ask(site, "/report?sweep=first", **cross)[0] == 403
    assert ask(site, "/out/secret.txt")[0] == 404
    above = f"/../{tmp_path.name}/secret.txt"
    assert ask(site, above)[0] == 404
    assert ask(site, above.replace("..", "%2e%2e"))[0] == 404
    (outputs / "out").unlink()


@pytest.mark.parametrize("name", ["nobody", "../first", "..%2F..%2Fetc", ""])
def test_a_sweep_that_isn_t_there(site: str, name: str) -> None:
    code, text = ask(site, f"/report?sweep={name}")
    assert code == 404
    assert "no such sweep in " in text
    assert "All sweeps" in text


def test_what_is_typed_wrongly(
    tmp_path: Path, outputs: Path, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = site.rpartition(":")[2].strip("/")
    for words, line in (
        ([str(tmp_path)], f"{tmp_path}/sweeps: no sweep yet; type actsweep train -m act=relu,elu"),
        ([str(outputs), "--port", "70000"], "--port 70000: must be 0 to 65535; type for example"),
        ([str(outputs), "--port", port], f"--port {port}: is in use; type for example --port 0"),
    ):
        assert main(["board", *words, "--no-open"]) == 2
        assert capsys.readouterr().err.startswith(f"error: {line}")


def test_a_sweep_that_can_t_be_read_is_a_row(tmp_path: Path) -> None:
    sweep_on_disk(tmp_path, "good", ("relu",), 1)
    (tmp_path / "sweeps" / "bad").mkdir()
    (tmp_path / "sweeps" / "bad" / "plan.json").write_text("{")
    data = Board(tmp_path).data()
    command = next(c["values"] for c in data["columns"] if c["name"] == "command")
    rows = dict(zip(data["keys"], command, strict=True))
    assert rows["bad"].startswith("can't be read: ")
    assert os.path.basename(str(tmp_path)) not in rows["good"]
