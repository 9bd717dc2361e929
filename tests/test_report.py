"""Tests of the report: in a real browser, its numbers beside the runs', and what may go wrong."""

import contextlib
import csv
import html
import http.client
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import JavascriptException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from actsweep import load_run
from actsweep.cli.main import main
from actsweep.report.design import gather, lay_out, usual_factors, where
from actsweep.report.page import Cell, Column, Table, template
from actsweep.report.series import QUANTITIES
from actsweep.report.watch import LiveReport, server
from actsweep.report.write import ReportRequest, write
from actsweep.sweeps import status as status_module
from actsweep.sweeps.status import take_snapshot

ROOT = Path(__file__).parents[1]
WORDS = (
    *("data=digits", "data.val_size=300", "depth=2", "depth.width=16", "trainer.epochs=3"),
    *("logger.mode=disabled", "trainer.patience=null", "trainer.batch_size=256", "optim.lr=0.1"),
)
FAST = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}  # a report is about what was written
SWEEP = ("act=relu,tanh,leaky_relu", "seed=0,1,2", *WORDS)


def train(outputs: Path, *words: str, report: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "train.py", "-m", *words, f"paths.outputs={outputs}"],
        cwd=ROOT,
        env={**os.environ, **FAST, "ACTSWEEP_REPORT": str(report).lower()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def sweep_of(outputs: Path) -> Path:
    return max((outputs / "sweeps").iterdir())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real sweep, which has written its report."""
    folder = tmp_path_factory.mktemp("outputs")
    done = train(folder, *SWEEP)
    assert done.returncode == 0, done.stderr
    page = sweep_of(folder) / "report" / "index.html"
    assert done.stdout.splitlines()[-1] == f"report: {page}"
    return folder


@pytest.fixture(scope="module")
def report(outputs: Path) -> Path:
    return sweep_of(outputs) / "report"


def test_the_readme_s_first_picture_is_drawn_from_a_sweep(outputs: Path, tmp_path: Path) -> None:
    program = runpy.run_path(str(ROOT / "docs" / "images" / "sweep.py"))
    program["main"](sweep_of(outputs), tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 20_000


@pytest.fixture
def page(browser: webdriver.Chrome, report: Path) -> webdriver.Chrome:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.set_window_size(1100, 900)
    browser.get((report / "index.html").as_uri())
    return browser


def all_drawn(driver: webdriver.Chrome) -> webdriver.Chrome:
    """Scroll to each figure, which draws it."""
    for figure in driver.find_elements(By.CSS_SELECTOR, "figure"):
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
        WebDriverWait(driver, 30).until(
            lambda _, figure=figure: figure.find_elements(By.CSS_SELECTOR, ".chart svg.marks")
        )
    return driver


def texts(driver: webdriver.Chrome, selector: str) -> list[str]:
    return [element.text for element in driver.find_elements(By.CSS_SELECTOR, selector)]


def test_every_figure_is_drawn_and_nothing_complains(page: webdriver.Chrome) -> None:
    figures = all_drawn(page).find_elements(By.CSS_SELECTOR, "figure .chart")
    names = [
        figure_.get_attribute("id") for figure_ in page.find_elements(By.CSS_SELECTOR, "figure")
    ]
    layers = ("activations-hidden_1", "activations-hidden_2")
    assert names == ["scores", "curves", *QUANTITIES, *layers]
    for name, figure in zip(names, figures, strict=True):
        assert figure.size["width"] > 300, name
        assert figure.size["height"] > 100, name
        drawn = page.execute_script(
            "return [...arguments[0].querySelectorAll('svg.marks .background ~ g path')]"
            ".filter(e => e.getBoundingClientRect().width > 0).length",
            figure,
        )
        assert drawn > 10, name
        assert figure.get_attribute("role") == "group"
        assert len(figure.get_attribute("aria-label") or "") > 30
    assert page.get_log("browser") == []
    ids = [element.get_attribute("id") for element in page.find_elements(By.CSS_SELECTOR, "[id]")]
    assert len(ids) == len(set(ids))


def test_a_browser_fetches_nothing_else(page: webdriver.Chrome, report: Path) -> None:
    fetched = page.execute_script("return performance.getEntriesByType('resource').length")
    assert fetched == 0
    text = (report / "index.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text)
    ours = re.sub(r"<script>!?.*?window.vegaEmbed=.*?</script>", "", text, flags=re.S)
    assert len(ours) < len(text) - 5e5
    assert not re.search(r"@import|url\((?!#)", ours.replace("url(#", ""))
    assert len(text) < 5e6


def test_links_lead_to_what_is_there(page: webdriver.Chrome, outputs: Path, report: Path) -> None:
    """Into the page itself, or to a file of which it says that it lies beside it."""
    links = [a.get_dom_attribute("href") or "" for a in page.find_elements(By.TAG_NAME, "a")]
    files = [link for link in links if not link.startswith("#")]
    beside = page.find_elements(By.CSS_SELECTOR, ".beside a")
    assert sorted(files) == sorted(a.get_dom_attribute("href") or "" for a in beside)
    assert len(files) > 10
    assert all((report / link).exists() for link in files)
    runs = {link.removeprefix("#run=") for link in links if link.startswith("#run=")}
    assert runs == {path.name for path in (outputs / "runs").iterdir()}
    anchors = [link[1:] for link in links if link.startswith("#") and "=" not in link]
    assert all(page.find_elements(By.ID, name) for name in anchors)


def test_runs_are_sorted_by_a_click(page: webdriver.Chrome) -> None:
    for title, place in (("test accuracy, %", 5), ("run", 1)):
        head = next(
            button
            for button in page.find_elements(By.CSS_SELECTOR, "#runs th button")
            if button.text == title
        )
        cells = f"#runs tbody td:nth-child({place + 1})"
        before = texts(page, cells)
        head.click()
        numeric = title != "run"
        heading = f"#runs th:nth-child({place + 1}) button"
        key: Any = float if numeric else str
        rising = sorted(before, key=key)
        assert [key(v) for v in texts(page, cells)] == [key(v) for v in rising]
        page.find_element(By.CSS_SELECTOR, heading).send_keys(Keys.ENTER)  # a keyboard will do
        assert [key(v) for v in texts(page, cells)] == [key(v) for v in reversed(rising)]
    assert len(page.find_elements(By.CSS_SELECTOR, "#runs th[aria-sort]")) == 1


@pytest.mark.parametrize(
    ("values", "numeric"),
    [
        (["1e-05", "0.01", "0.05", "0.1", "0.3", "2"], False),
        (["-3.5", "-1", "0", "10", "relu", "tanh"], False),
        (["-0.5", "0.2", "1.5", "–", "nan"], True),
    ],
)
def test_numbers_are_sorted_as_numbers(
    browser: webdriver.Chrome, tmp_path: Path, values: list[str], numeric: bool
) -> None:
    """Also in the columns of what was swept; what is no number comes last both ways."""
    cells = [[Cell(text, None if text == "–" else text)] for text in values[::2] + values[1::2]]
    table = Table("x", [Column("x", "number" if numeric else "")], cells)
    shown = template("table.html").module.table(table)  # type: ignore[attr-defined]
    script = files("actsweep.report").joinpath("page.js").read_text()
    (tmp_path / "x.html").write_text(f"<meta charset=utf-8>{shown}<script>{script}</script>")
    browser.get((tmp_path / "x.html").as_uri())
    head = browser.find_element(By.CSS_SELECTOR, "th button")
    head.click()
    known = [v for v in values if v not in ("–", "nan")]
    assert texts(browser, "tbody td")[: len(known)] == known
    head.click()
    assert texts(browser, "tbody td")[: len(known)] == known[::-1]


def test_runs_are_filtered(page: webdriver.Chrome) -> None:
    box = page.find_element(By.ID, "filter")
    box.send_keys("tanh complete")
    shown = [r for r in page.find_elements(By.CSS_SELECTOR, "#runs tbody tr") if r.is_displayed()]
    assert [row.text.split()[0].split("-")[0] for row in shown] == ["tanh"] * 3
    assert page.find_element(By.ID, "shown").text == "3 of 9 shown"
    box.send_keys(" nowhere")
    assert page.find_element(By.ID, "shown").text == "0 of 9 shown"


def test_a_phone_and_the_dark(page: webdriver.Chrome) -> None:
    metrics = {"mobile": True, "width": 390, "height": 800, "deviceScaleFactor": 2}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    colours = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        all_drawn(page)
        sleep(0.5)  # a figure that is drawn is drawn again
        colours[scheme] = page.execute_script(
            "const t = document.querySelector('.chart .role-axis-label text');"
            "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(t).fill]"
        )
    for back, ink in colours.values():
        assert abs(lightness(back) - lightness(ink)) > 0.6
    assert lightness(colours["light"][0]) > 0.9
    assert lightness(colours["dark"][0]) < 0.15


def chart(driver: webdriver.Chrome, name: str, script: str, *values: Any) -> Any:
    """Evaluate a script of a chart, `c`, which is drawn and in view."""
    figure = driver.find_element(By.ID, name)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    find = f"const c = actsweep.charts.find((chart) => chart.name === '{name}');"
    drawn = "return c.view != null && !c.stale && c.visible"
    WebDriverWait(driver, 30).until(lambda _: driver.execute_script(find + drawn))
    sleep(0.3)
    return driver.execute_script(find + script, *values)


def marks(driver: webdriver.Chrome, name: str, kind: str) -> list[WebElement]:
    return driver.find_elements(By.CSS_SELECTOR, f"#{name} .mark-{kind}.role-mark path")


def choose(driver: webdriver.Chrome, group: str, value: str, *, shift: bool = False) -> None:
    chip = driver.find_element(By.CSS_SELECTOR, f"[aria-label='{group}'] [data-value='{value}']")
    action = ActionChains(driver)
    if shift:
        action.key_down(Keys.SHIFT)
    action.click(chip).key_up(Keys.SHIFT).perform()


def option(driver: webdriver.Chrome, place: str, value: str) -> None:
    driver.execute_script(
        "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('change'))",
        place,
        value,
    )
    sleep(0.5)


def hover(driver: webdriver.Chrome, name: str, row: str) -> str:
    """Point at what shows the first row that meets a condition; return what is then said."""
    place = chart(
        driver,
        name,
        "const at = c.place.querySelector('svg .background').getBoundingClientRect();"
        f"const r = c.view.data('table').find((r) => {row});"
        "const scale = (k) => c.view.scale(`concat_0_${k}`);"
        "return [at.x + scale('x')(r.epoch), at.y + scale('y')(r.value)]",
    )
    pointer = ActionBuilder(driver, mouse=PointerInput("mouse", "mouse"))
    pointer.pointer_action.move_to_location(int(place[0]) - 6, int(place[1]) + 2)
    pointer.pointer_action.move_to_location(round(place[0]), round(place[1]))
    pointer.perform()
    tooltip = driver.find_element(By.ID, "vg-tooltip-element")
    WebDriverWait(driver, 10).until(lambda _: "visible" in (tooltip.get_attribute("class") or ""))
    return tooltip.text


def test_a_curve_says_what_is_pointed_at(page: webdriver.Chrome, report: Path) -> None:
    said = hover(
        page, "curves", "r.group === 'tanh' && r.epoch === 2 && r.metric === 'val/accuracy'"
    )
    (row,) = (
        r
        for r in rows(report / "curves.csv")
        if (r["metric"], r["act"], float(r["epoch"])) == ("val/accuracy", "tanh", 2)
    )
    low, high = (f"{min(max(100 * float(row[end]), 0), 100):.5g}" for end in ("low", "high"))
    assert said.split("\n") == [
        *("group tanh", "epoch 2", f"value {100 * float(row['mean']):.5g}"),
        *(f"95 % {low} to {high}", "runs 3", "double-click: this group alone"),
    ]
    option(page, "select[name=mode]", "runs")
    said = hover(page, "curves", "r.group === 'relu' && r.seed === 1 && r.epoch === 3")
    names = dict(line.split(" ", 1) for line in said.split("\n"))
    assert names["run"].startswith("relu-")
    assert (names["seed"], names["epoch"]) == ("1", "3")
    assert "runs" not in names
    assert said.endswith("double-click: this run alone")


def test_a_group_is_isolated_in_all_figures(page: webdriver.Chrome) -> None:
    shown = "return [...new Set(c.view.data('table').map((row) => row.group))].sort()"
    names = ("scores", "curves", "dead_frac", "activations-hidden_1")
    everything = ["leaky_relu", "relu", "tanh"]
    assert [chart(page, name, shown) for name in names] == [everything] * 4
    assert len(marks(page, "curves", "line")) == 9
    choose(page, "groups", "tanh")
    assert [chart(page, name, shown) for name in names] == [["tanh"]] * 4
    chart(page, "curves", "")
    assert len([m for m in marks(page, "curves", "line") if m.get_attribute("d")]) == 3
    choose(page, "groups", "relu", shift=True)
    assert [chart(page, name, shown) for name in names] == [["relu", "tanh"]] * 4
    assert page.execute_script("return actsweep.selection.groups") == ["tanh", "relu"]
    page.find_element(By.XPATH, "//button[.='show all']").click()
    assert [chart(page, name, shown) for name in names] == [everything] * 4


def test_a_run_is_seen_alone_and_seeds_and_layers_are_chosen(
    page: webdriver.Chrome, outputs: Path
) -> None:
    option(page, "select[name=mode]", "runs")
    hover(page, "curves", "r.group === 'relu' && r.seed === 2 && r.epoch === 3")
    ActionChains(page).double_click().perform()
    (run_id,) = page.execute_script("return actsweep.selection.runs")
    assert load_run(outputs / "runs" / run_id).summary["seed"] == 2
    its_page = page.find_element(By.LINK_TEXT, "its own page").get_dom_attribute("href")
    assert its_page == f"#run={run_id}"
    values = "return c.view.data('table').map((r) => [r.run_id, r.layer, r.epoch, r.value])"
    assert {row[0] for row in chart(page, "grad_norm", values)} == {run_id}
    page.execute_script(f"actsweep.select({{runs: ['{run_id}', 'not-compared']}})")
    said = chart(page, "curves", "return c.rest.hidden ? '' : c.rest.textContent")
    assert said.startswith("1 of 2 ticked runs aren't drawn here")
    page.execute_script("actsweep.select({runs: null, layers: ['hidden_2'], seeds: [0]})")
    assert chart(page, "curves", "return c.rest.hidden")
    drawn = chart(page, "grad_norm", values)
    assert {(row[1], row[0][-8:] != "") for row in drawn} == {("hidden_2", True)}
    assert len({row[0] for row in drawn}) == 3  # a run of each group
    for run_id, layer, epoch, value in drawn:
        known = load_run(outputs / "runs" / run_id).metrics()
        at = (known["epoch"] == epoch) & ~np.isnan(known[f"grad_norm/{layer}"])
        assert value == pytest.approx(known[f"grad_norm/{layer}"][at][-1], rel=1e-5)
    page.execute_script("actsweep.select({seeds: null, layers: null, epochs: [1, 2]})")
    assert {row[2] for row in chart(page, "grad_norm", values)} <= {1, 2}
    with pytest.raises(JavascriptException, match="no akt in a selection"):
        page.execute_script("actsweep.select({akt: null})")


def caption(driver: webdriver.Chrome, name: str) -> str:
    """What is said under a figure, and to who can't see it."""
    chart(driver, name, "")
    said = driver.find_element(By.CSS_SELECTOR, f"#{name} figcaption").text
    label = driver.find_element(By.CSS_SELECTOR, f"#{name} .chart").get_attribute("aria-label")
    assert (label or "").endswith(said)
    return said


def test_captions_say_what_is_drawn(page: webdriver.Chrome) -> None:
    drawn = {name: caption(page, name) for name in ("scores", "curves", "grad_norm")}
    assert drawn["scores"].startswith("A dot a seed. The bar is the mean")
    assert drawn["curves"].startswith("Means over seeds, shaded")
    assert drawn["grad_norm"].endswith("Means over seeds.")
    option(page, "select[name=mode]", "runs")
    assert caption(page, "curves") == "A thin line a run."
    option(page, "select[name=mode]", "both")
    assert caption(page, "curves").startswith("A thin line a run. Means over seeds")
    choose(page, "groups", "tanh")
    for name in drawn:
        left = "Drawn: tanh (not relu, leaky_relu)."
        assert caption(page, name).replace("leaky_relu, relu", "relu, leaky_relu").endswith(left)
    page.execute_script("actsweep.select({groups: null, seeds: [2, 0], epochs: [1, 2]})")
    assert caption(page, "scores") == "A dot a seed. Drawn: seeds 0, 2."
    assert caption(page, "curves") == "A thin line a run. Drawn: seeds 0, 2; epochs 1 to 2."
    assert caption(page, "grad_norm").endswith(
        "Of each group the mean over the runs that are chosen. Drawn: seeds 0, 2; epochs 1 to 2."
    )
    assert "not for the answer" in page.find_element(By.ID, "chosen").text


def test_distributions_are_those_of_the_seed_that_is_chosen(
    page: webdriver.Chrome, outputs: Path
) -> None:
    name = "activations-hidden_1"
    shown = (
        "return c.view.data('table').map((r) => [r.run_id, r.epoch, r.activation, r.top - r.base])"
    )
    runs = {path.name: load_run(path) for path in (outputs / "runs").iterdir()}

    def check(seed: int) -> None:
        rows = chart(page, name, shown)
        drawn = {run_id for run_id, *_ in rows}
        assert len(drawn) == 3
        for run_id in drawn:
            assert runs[run_id].summary["seed"] == seed
            series = runs[run_id].histograms()["hist/act/hidden_1"]
            density = series.counts[-1, 1:-1] / np.diff(series.edges)
            heights = dict(
                zip(series.edges[:-1], 1.6 * np.sqrt(density / density.max()), strict=True)
            )
            last = {x: height for run, epoch, x, height in rows if (run, epoch) == (run_id, 3)}
            known = {x: v for x, v in last.items() if any(np.isclose(x, e) for e in heights)}
            assert len(known) > 5
            nearest = [min(heights, key=lambda e, x=x: abs(e - x)) for x in known]
            np.testing.assert_allclose([*known.values()], [heights[e] for e in nearest], atol=2e-4)
        assert caption(page, name).endswith(f"One run of each group. Drawn: seed {seed}.")

    check(0)
    option(page, f"#{name} select[name=seed]", "2")
    check(2)
    page.execute_script("actsweep.select({seeds: [1]})")
    check(1)
    assert not page.find_element(By.CSS_SELECTOR, f"#{name} select[name=seed]").is_enabled()
    page.execute_script("actsweep.select({seeds: null})")
    check(2)


def test_axes_zoom_start_at_zero_and_are_logarithmic(page: webdriver.Chrome) -> None:
    ends = "return ['x', 'y'].map((k) => c.view.scale(`concat_0_${k}`).domain())"
    (left, right), (low, high) = chart(page, "curves", ends)
    assert (left, right) == (0, 3)
    assert high <= 100
    panel = page.find_element(By.CSS_SELECTOR, "#curves svg .background")
    wheel = {"deltaX": 0, "deltaY": -240, "modifiers": 2, "type": "mouseWheel"}
    box = page.execute_script("return arguments[0].getBoundingClientRect()", panel)
    where = {"x": box["x"] + 80, "y": box["y"] + 80}
    page.execute_cdp_cmd("Input.dispatchMouseEvent", {**wheel, **where})
    (zoomed_left, zoomed_right), _ = chart(page, "curves", ends)
    assert zoomed_right - zoomed_left < 0.9 * (right - left)
    page.find_element(By.CSS_SELECTOR, "#curves .tools [title^=Undo]").click()
    assert chart(page, "curves", ends) == [[left, right], [low, high]]
    option(page, "#curves select[name=scale]", "zero")
    assert chart(page, "curves", ends)[1] == [0, high]
    option(page, "#curves select[name=scale]", "log")
    assert chart(page, "curves", "return c.view.scale('concat_0_y').type") == "log"


def test_curves_are_smoothed_on_request(page: webdriver.Chrome) -> None:
    """By the recursion of an exponential mean whose start is corrected."""
    values = (
        "return c.view.data('table').filter((r) => r.group === 'tanh')"
        ".filter((r) => r.metric === 'val/accuracy').map((r) => r.value)"
    )
    raw = chart(page, "curves", values)
    page.execute_script(
        "const s = [...document.querySelectorAll('#chooser label')].find((l) => "
        "l.textContent.startsWith('smoothing')).querySelector('input');"
        "s.value = 0.5; s.dispatchEvent(new Event('input'))"
    )
    weights = [[0.5 ** (i - k) for k in range(i + 1)] for i in range(len(raw))]
    expected = [np.average(raw[: i + 1], weights=w) for i, w in enumerate(weights)]
    assert chart(page, "curves", values) == pytest.approx(expected)


def test_the_slider_shows_an_epoch(page: webdriver.Chrome) -> None:
    shown = "return c.view.signal('shown')"
    assert chart(page, "activations-hidden_1", shown) == 3
    before = [m.get_attribute("d") for m in marks(page, "activations-hidden_1", "area")]
    slider = page.find_element(By.CSS_SELECTOR, "#activations-hidden_1 input[type=range]")
    slider.send_keys(Keys.HOME)
    assert chart(page, "activations-hidden_1", shown) == 0
    assert page.find_element(By.CSS_SELECTOR, "#activations-hidden_1 output").text == "0"
    assert [m.get_attribute("d") for m in marks(page, "activations-hidden_1", "area")] != before


def test_a_slider_stays_where_it_was_put(page: webdriver.Chrome) -> None:
    """Figures that are drawn anew, as while a sweep is watched, show the epoch that was chosen."""
    shown = "return c.view.signal('shown')"
    assert chart(page, "activations-hidden_1", shown) == 3
    slider = "#activations-hidden_1 input[type=range]"
    page.find_element(By.CSS_SELECTOR, slider).send_keys(Keys.HOME)
    page.execute_script(
        "actsweep.keeping(document.body, () => {"
        "  for (const old of document.querySelectorAll('figure .tools, .chart > *, #chooser > *'))"
        "    old.remove();"
        "  document.dispatchEvent(new CustomEvent('actsweep:data'));"
        "});"
    )
    assert chart(page, "activations-hidden_1", shown) == 0
    again = page.find_element(By.CSS_SELECTOR, slider)
    assert again.get_attribute("value") == "0"
    assert page.switch_to.active_element == again
    others = page.find_elements(By.CSS_SELECTOR, "#activations-hidden_2 input[type=range]")
    assert [other.get_attribute("value") for other in others] == [again.get_attribute("max")]


def test_a_chart_s_rows_are_saved(page: webdriver.Chrome, report: Path, tmp_path: Path) -> None:
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    chart(page, "curves", "")
    page.find_element(By.CSS_SELECTOR, "#curves .tools [title='The rows that are drawn']").click()
    saved = tmp_path / "curves.csv"
    WebDriverWait(page, 20).until(lambda _: saved.exists())
    value = "value (val/accuracy: %)"
    found = {(r["metric"], r["group"], float(r["epoch"])): float(r[value]) for r in rows(saved)}
    expected = {
        (r["metric"], r["act"], float(r["epoch"])): float(r["mean"])
        * (100 if r["metric"] == "val/accuracy" else 1)
        for r in rows(report / "curves.csv")
    }
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_charts_fit_the_screen(page: webdriver.Chrome, width: int, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    screen = {"mobile": width < 600, "width": width, "height": 900, "deviceScaleFactor": 1}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.refresh()
    all_drawn(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    for svg in page.find_elements(By.CSS_SELECTOR, ".chart svg.marks"):
        assert svg.size["width"] <= min(width, 1100) - 30
        assert svg.size["width"] > 0.6 * min(width, 1056)
    sizes = page.execute_script(
        "return [...document.querySelectorAll('.chart text')].map((t) => parseFloat("
        "getComputedStyle(t).fontSize))"
    )
    assert min(sizes) >= 12
    assert page.get_log("browser") == []


def lightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_and_table_is_a_file(report: Path) -> None:
    figures = re.findall(r'<figure id="([^"]+)"', (report / "index.html").read_text())
    for name in figures:
        with Image.open(report / f"{name}.png") as image:
            assert len(image.convert("L").getcolors() or []) > 5
        assert rows(report / f"{name}.csv")
    assert all(rows(report / f"{name}.csv") for name in ("groups", "pairs", "runs"))


def test_the_numbers_are_those_of_the_runs(outputs: Path, report: Path) -> None:
    """Means by NumPy from each run's own files."""
    runs = [load_run(path) for path in sorted((outputs / "runs").glob("tanh-*"))]
    known = [run.metrics() for run in runs]
    for epoch in (0.0, 3.0):
        at = [
            m["val/accuracy"][(m["epoch"] == epoch) & ~np.isnan(m["val/accuracy"])] for m in known
        ]
        (row,) = [
            r
            for r in rows(report / "curves.csv")
            if (r["metric"], r["act"], float(r["epoch"])) == ("val/accuracy", "tanh", epoch)
        ]
        assert float(row["mean"]) == pytest.approx(np.mean(at), rel=1e-9)
    norms = [m["grad_norm/hidden_2"][(m["epoch"] == 3.0)] for m in known]
    last = np.mean([norm[~np.isnan(norm)][-1] for norm in norms])
    (row,) = [
        r
        for r in rows(report / "grad_norm.csv")
        if (r["group"], r["layer"], float(r["epoch"])) == ("tanh", "hidden_2", 3.0)
    ]
    assert float(row["grad_norm"]) == pytest.approx(last, rel=1e-6)
    scores = {run.summary["run_id"]: run.summary["test_accuracy"] for run in runs}
    table = {row["run_id"]: row for row in rows(report / "runs.csv")}
    assert len(table) == 9
    assert {k: float(table[k]["test_accuracy"]) for k in scores} == pytest.approx(scores)
    (group,) = [row for row in rows(report / "groups.csv") if row["act"] == "tanh"]
    assert float(group["mean"]) == pytest.approx(np.mean(list(scores.values())))
    series = runs[0].histograms()["hist/act/hidden_2"]
    density = series.counts[-1, 1:-1] / np.diff(series.edges)
    drawn = [
        r for r in rows(report / "activations-hidden_2.csv") if r["run"] == runs[0].folder.run_id
    ]
    assert [float(r["density"]) for r in drawn[-len(density) :]] == pytest.approx(
        density / density.max()
    )


def test_it_says_how_to_reproduce_it(report: Path) -> None:
    text = (report / "index.html").read_text()
    assert f"python train.py -m {SWEEP[0]}" in text
    assert "git " in text
    assert "jax 0." in text


@pytest.fixture
def copied(outputs: Path, tmp_path: Path) -> Path:
    shutil.copytree(outputs, tmp_path / "outputs", symlinks=True)
    return tmp_path / "outputs"


def test_damage_leaves_out_only_the_damaged_run(copied: Path) -> None:
    hurt = sorted((copied / "runs").iterdir())
    (hurt[0] / "metrics.jsonl").write_text("{no row}\n")
    (hurt[3] / "metrics.jsonl").unlink()
    (hurt[4] / "metrics.jsonl").write_text("")
    (hurt[6] / "histograms.npz").write_bytes(b"no archive")
    (hurt[7] / "summary.json").unlink()
    to = copied / "again"
    text = write([sweep_of(copied)], to).read_text()
    assert "metrics.jsonl, line 1: not a row of metrics" in text
    assert f"left out: {hurt[3] / 'metrics.jsonl'}" in text
    assert f"left out: {hurt[4] / 'metrics.jsonl'}: it is empty" in text
    assert f"left out: {hurt[6] / 'histograms.npz'}" in text
    assert f"not counted: {hurt[7].name} without test/accuracy" in text
    assert {row["runs"] for row in rows(to / "curves.csv")} == {"1", "2", "3"}


def test_failures_are_shown(copied: Path) -> None:
    first, second = sorted((copied / "runs").iterdir())[:2]
    for run, state in ((first, "failed"), (second, "diverged")):
        status = json.loads((run / "status.json").read_text())
        status |= {"state": state, "cause": "ValueError: <b>so it was</b>"}
        (run / "status.json").write_text(json.dumps(status))
    text = write([sweep_of(copied)], copied / "again").read_text()
    failures = text.split('<h2 id="failures">')[1].split("<h2")[0]
    assert first.name in failures
    assert "&lt;b&gt;so it was" in failures
    assert "<b>" not in failures
    assert f"{second.name} diverged: without a value, see seeds" in text
    assert "9 runs: 7 complete" in text


def test_nothing_complete(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (copied / "runs").iterdir():
        status = json.loads((run / "status.json").read_text())
        (run / "status.json").write_text(json.dumps(status | {"state": "running"}))
    assert main(["report", "--outputs", str(copied)]) == 2
    assert capsys.readouterr().err == (
        "error: nothing to compare: no run is complete (they are: interrupted)\n"
    )
    text = write([sweep_of(copied)], copied / "again", allow_incomplete=True).read_text()
    assert "nothing to compare" in text
    assert '<figure id="curves">' in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--by", "akt"], "--by akt: no such factor; did you mean act?"),
        (["--metric", "test/acuracy"], "did you mean test/accuracy?"),
        (["--where", "act=mish"], "--where act=mish: no run has it"),
        (["2020"], "2020: no such sweep"),
    ],
)
def test_bad_input(
    words: Sequence[str], line: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("report", "compare"):
        assert main([command, *words, "--outputs", str(outputs)]) == 2
        message = capsys.readouterr().err
        assert line in message
        assert message.count("\n") == 1


def test_a_damaged_metrics_file_is_one_line_when_its_metric_is_asked_for(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hurt = min((copied / "runs").iterdir())
    (hurt / "metrics.jsonl").write_text("{no row}\n")
    assert main(["compare", "--metric", "grad_norm/head", "--outputs", str(copied)]) == 2
    message = capsys.readouterr().err
    assert f"{hurt / 'metrics.jsonl'}, line 1: not a row of metrics" in message
    assert message.count("\n") == 1


def test_compare_prints_the_answer(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--outputs", str(outputs)]) == 0
    shown = capsys.readouterr().out
    assert "best mean test/accuracy: " in shown
    assert shown.count("\n") > 8


def test_one_look_is_said_in_the_answer_and_on_the_page(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        ([], "however often you look"),
        (["--one-look"], "for one look, at a number"),
    ):
        assert main(["compare", *words, "--outputs", str(outputs)]) == 0
        assert said in " ".join(capsys.readouterr().out.split())
        assert main(["report", *words, "--to", str(tmp_path), "--outputs", str(outputs)]) == 0
        page = (tmp_path / "index.html").read_text()
        assert said in page
        assert all(title in page for title in ("p (any time)", "p (t, Holm)", "a ahead, new seed"))
        pairs = rows(tmp_path / "pairs.csv")
        assert {"p_anytime", "p_holm", "p_equivalent_anytime", "ahead_next"} <= pairs[0].keys()
        bounded = {pair["high"] != "" for pair in pairs}
        assert bounded == {bool(words)}  # three seeds are enough for Student's interval alone


def test_a_report_that_fails_fails_nothing(tmp_path: Path) -> None:
    """The folder of the report can't be made: it says so, and the sweep is complete."""
    words = SWEEP  # compiled before
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    (folder / "report").write_text("in the way")
    done = train(tmp_path / "outputs", *words, f"hydra.sweep.dir={folder}")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("report: none (FileExistsError: ")
    assert last.endswith(f"); to try again: actsweep report {folder}")


def test_no_report_if_it_is_switched_off(tmp_path: Path) -> None:
    done = train(tmp_path, "act=relu", "seed=0,1,2", *WORDS, "logger.report=false")
    assert done.returncode == 0, done.stderr
    assert "report:" not in done.stdout
    assert not (sweep_of(tmp_path) / "report").exists()
    alone = train(tmp_path, "act=relu", "seed=0", *WORDS)  # one run compares nothing
    assert "report:" not in alone.stdout


def test_watch_serves_the_folder_and_nothing_beyond(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (copied / "out").symlink_to(tmp_path)
    (copied / "in.txt").write_text("ours")
    live_report = LiveReport(sweep_of(copied), ReportRequest())
    with server(live_report, 0) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        port = http_server.server_address[1]

        def ask(path: str, host: str) -> int:
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            asked.request("GET", path, headers={"Host": host})
            return asked.getresponse().status

        assert ask("/in.txt", "localhost") == 200  # without a port
        assert ask("/in.txt", f"127.0.0.1:{port}") == 200
        assert ask("/out/secret.txt", "localhost") == 404
        assert ask("/%00", "localhost") == 404
        assert ask("/in.txt", "elsewhere.example") == 403
        http_server.shutdown()


def test_watch_serves_what_is_new(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(copied)
    sweep = sweep.rename(sweep.with_name("ü # 1"))
    live_report = LiveReport(sweep, ReportRequest())
    assert live_report.refresh()
    assert not live_report.refresh()
    with server(live_report, 0) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{http_server.server_address[1]}"
        first = fetch(f"{at}/")
        assert '<meta name="actsweep-live" content="2 1">' in first
        assert '<meta name="actsweep-live' not in (sweep / "report" / "index.html").read_text()
        assert "9 runs: 9 complete" in first
        run = min((copied / "runs").iterdir())
        (run / "status.json").write_text("{}")
        assert live_report.refresh()
        assert "8 complete" in fetch(f"{at}/")
        assert fetch(f"{at}/runs/{run.name}/summary.json") == (run / "summary.json").read_text()
        assert fetch(f"{at}/?again") == fetch(f"{at}/")
        for path in ("/", "/runs/"):
            asked = urllib.request.Request(f"{at}{path}", headers={"Host": "elsewhere.example:80"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(asked, timeout=10)
        assert main(["watch", "--outputs", str(copied), "--port", at.rpartition(":")[2]]) == 2
        before = take_snapshot(sweep)
        gone = replace(
            before, runs=[replace(run_status, state="interrupted") for run_status in before.runs]
        )
        # A kill changes no file.
        monkeypatch.setattr(status_module, "take_snapshot", lambda _: gone)
        monkeypatch.setattr("actsweep.report.design.take_snapshot", lambda _: gone)
        assert live_report.refresh()
        assert "9 runs: 9 interrupted" in fetch(f"{at}/")
        http_server.shutdown()


def fetch(url: str) -> str:
    with contextlib.closing(urllib.request.urlopen(url, timeout=10)) as answer:
        return answer.read().decode()


def test_two_factors_and_what_was_tuned(tmp_path: Path) -> None:
    """Act by depth as a table of colours; a learning rate's curve, chosen in validation."""
    words = ("act=relu,tanh", "depth=2,3", "optim.lr=0.01,0.1,0.3", "seed=0,1", *WORDS[:2])
    rest = ("depth.width=8", "trainer.epochs=2", "logger.mode=disabled", "callbacks=none")
    done = train(tmp_path, *words, *rest, report=False)
    assert done.returncode == 0, done.stderr
    sweep = sweep_of(tmp_path)
    assert usual_factors(gather([sweep])) == ["act", "depth"]
    text = write([sweep], tmp_path / "r").read_text()
    alike = where(gather([sweep]), ["act=relu", "lr=0.1"])
    assert usual_factors(alike) == ["depth"]
    assert lay_out(alike, ["depth"]).averaged == []
    assert "test/accuracy, % by act and depth" in text
    assert "lr: each group's best in validation" in html.unescape(text)
    groups = rows(tmp_path / "r" / "groups.csv")
    assert {(row["act"], row["depth"]) for row in groups} == {
        (act, depth) for act in ("relu", "tanh") for depth in ("2", "3")
    }
    runs = rows(tmp_path / "r" / "runs.csv")
    for row in groups:
        group_runs = [r for r in runs if (r["act"], r["depth"]) == (row["act"], row["depth"])]
        best: dict[str, float] = {}
        for lr in ("0.01", "0.1", "0.3"):
            best[lr] = np.mean([float(r["best_val_accuracy"]) for r in group_runs if r["lr"] == lr])
        assert row["lr"] == max(best, key=lambda lr: best[lr])
    curve = rows(tmp_path / "r" / "sensitivity-lr.csv")
    assert [float(r["lr"]) for r in curve if r["group"] == "relu"] == [0.01, 0.1, 0.3]
