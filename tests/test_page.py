"""What a person does with the page: filter, sort, tick, open a run, save; and what it must bear."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from sweeps_on_disk import EPOCHS, sweep_on_disk
from test_compare import NOISE, entry

from actsweep.report.compare import compare
from actsweep.report.design import Entry, gather, where
from actsweep.report.expressions import parse
from actsweep.report.page import Reproduction, page
from actsweep.report.page_data import page_data, script_json
from actsweep.report.run_columns import run_columns
from actsweep.report.run_details import POINTS
from actsweep.runs.metrics_file import read_metrics
from actsweep.runs.run_dir import RunDir

SIZES = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


def write_page(to: Path, entries: Sequence[Entry], by: Sequence[str] = ("act",)) -> Path:
    """Write a report without figures, which take seconds to draw."""
    comparison = compare(entries, by)
    words = {e.run.run_id: [f"act={e.config['act']['name']}"] for e in entries}
    data = page_data(comparison.design, words)
    again = [Reproduction("python train.py -m act=relu", ["jax 0.1"], ["git abc"])]
    to.write_text(page("mine", comparison.design, comparison, [], {}, [], again, data))
    return to


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Nine runs of three activations, the last of which has failed."""
    outputs = tmp_path_factory.mktemp("outputs")
    sweep_on_disk(outputs, "mine")
    *others, last = gather([outputs / "sweeps" / "mine"])
    return [*others, replace(last, state="failed", summary={}, cause="ValueError: no good")]


@pytest.fixture(scope="module")
def written(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page") / "index.html", entries)


def look(browser: webdriver.Chrome, width: int = 1440, scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    screen = {"mobile": width < 600, "width": width, "height": 800, "deviceScaleFactor": 1}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


@pytest.fixture
def opened(browser: webdriver.Chrome, written: Path) -> Iterator[webdriver.Chrome]:
    """The page in a browser, in which nothing may complain."""
    look(browser)
    browser.get("about:blank")
    browser.get(written.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def one(browser: webdriver.Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText.trim())"
    return list(browser.execute_script(script, selector))  # at one moment


def button(browser: webdriver.Chrome, text: str) -> WebElement:
    return next(b for b in browser.find_elements(By.TAG_NAME, "button") if b.text == text)


def column(browser: webdriver.Chrome, title: str) -> list[str]:
    place = texts(browser, "#runs th").index(title) + 1
    return texts(browser, f"#runs tbody td:nth-child({place})")


def type_filter(browser: webdriver.Chrome, text: str) -> None:
    box = one(browser, "#filter")
    box.clear()
    box.send_keys(text)


def selection(browser: webdriver.Chrome) -> dict[str, Any]:
    return dict(browser.execute_script("return actsweep.selection"))


def test_runs_are_filtered_sorted_and_given_columns(
    opened: webdriver.Chrome, entries: list[Entry]
) -> None:
    scores = {e.run.run_id: 100 * e.summary["test_accuracy"] for e in entries if e.summary}
    type_filter(opened, "act == elu or test_accuracy > 86")
    kept = {k for k, v in scores.items() if k.startswith("elu-") or v > 86}
    assert set(column(opened, "run")) == kept
    assert 3 < len(kept) < 8
    button(opened, "test accuracy, %").click()
    assert column(opened, "run") == sorted(kept, key=lambda run: scores[run])
    button(opened, "test accuracy, %").click()
    assert column(opened, "run") == sorted(kept, key=lambda run: -scores[run])
    one(opened, ".columns summary").click()
    one(opened, ".columns input[type=search]").send_keys("optim.mom")
    (choice,) = opened.find_elements(By.CSS_SELECTOR, ".choices label")
    choice.click()
    assert column(opened, "optim.momentum") == ["0.9"] * len(kept)
    assert column(opened, "run") == sorted(kept, key=lambda run: -scores[run])
    choice.click()
    assert "optim.momentum" not in texts(opened, "#runs th")
    type_filter(opened, "relu")
    assert {run.split("-")[0] for run in column(opened, "run")} == {"relu"}
    type_filter(opened, "state == failed")
    assert column(opened, "test accuracy, %") == ["–"]


def test_a_number_is_filtered_by_as_it_is_shown(
    opened: webdriver.Chrome, entries: list[Entry]
) -> None:
    """On the page and by --where: the same unit, and the digits of the column are enough."""
    for name, title in (("dead_frac", "dead units, %"), ("test_accuracy", "test accuracy, %")):
        shown = dict(zip(column(opened, "run"), column(opened, title), strict=True))
        for run, text in [*shown.items()][1:3]:
            for expression in (f"{name} == {text}", f'"{title}" == {text}', f"{name} > {text}"):
                type_filter(opened, expression)
                kept = [e.run.run_id for e in where(entries, [expression])]
                assert column(opened, "run") == kept
                assert run in kept or ">" in expression
            type_filter(opened, "")
    shares = {e.run.run_id: e.summary["dead_frac"] for e in entries if e.summary}
    kept = {e.run.run_id for e in where(entries, ["dead_frac > 3"])}
    assert kept == {run for run, share in shares.items() if share > 0.03 + 1e-9}


def test_keys_stay_where_they_are(opened: webdriver.Chrome) -> None:
    """Whoever sorts and ticks by the keyboard goes on from there, though rows are drawn anew."""
    button(opened, "act").send_keys(Keys.ENTER)
    assert opened.switch_to.active_element.text == "act"
    run = column(opened, "run")[3]
    one(opened, f"tr[data-key='{run}'] input").send_keys(Keys.SPACE)
    assert selection(opened)["runs"] == [run]
    assert opened.switch_to.active_element.get_attribute("aria-label") == f"tick {run}"
    opened.switch_to.active_element.send_keys(Keys.SPACE)
    assert selection(opened)["runs"] is None


def test_a_mistake_is_a_line_under_the_box(opened: webdriver.Chrome) -> None:
    type_filter(opened, "relu")
    type_filter(opened, "akt == relu")
    line = one(opened, "#runs-error").text
    assert line.startswith("akt: no such column; there are run, state, act, seed, test_accuracy, ")
    assert "\n" not in line
    type_filter(opened, "seed == 0")
    assert one(opened, "#runs-error").text == ""
    assert column(opened, "seed") == ["0"] * 3


def test_rows_that_are_ticked_are_selected(opened: webdriver.Chrome) -> None:
    runs = column(opened, "run")
    for row in (2, 5):
        one(opened, f"#runs tbody tr:nth-child({row}) td:nth-child(3)").click()
    assert selection(opened)["runs"] == [runs[1], runs[4]]
    button(opened, "Only ticked").click()
    assert column(opened, "run") == [runs[1], runs[4]]
    one(opened, "#runs tbody tr:nth-child(1) input").click()
    assert selection(opened)["runs"] == [runs[4]]
    button(opened, "Untick all").click()
    assert selection(opened)["runs"] is None
    assert column(opened, "run") == runs


def test_the_table_follows_what_is_selected_elsewhere(opened: webdriver.Chrome) -> None:
    runs = column(opened, "run")
    opened.execute_script("actsweep.select({groups: ['elu', 'tanh'], seeds: [1]})")
    assert column(opened, "act") == ["elu", "tanh"]
    assert column(opened, "seed") == ["1", "1"]
    assert one(opened, "#shown").text == "2 of 9 shown (groups elu, tanh; seeds 1)"
    opened.execute_script(
        "actsweep.select({groups: null, seeds: null, runs: [arguments[0]]})", runs[3]
    )
    assert column(opened, "run") == [runs[3]]
    assert one(opened, "#runs tbody input").is_selected()
    opened.execute_script("actsweep.select({runs: null})")
    assert column(opened, "run") == runs


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_run_has_a_page(
    opened: webdriver.Chrome, entries: list[Entry], width: int, scheme: str
) -> None:
    look(opened, width, scheme)
    type_filter(opened, "act == elu")
    link = one(opened, "#runs tbody tr:nth-child(2) a")
    run = next(e for e in entries if e.run.run_id == link.text)
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    before = opened.execute_script("return scrollY")
    link.click()
    WebDriverWait(opened, 5).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#run h2"))
    assert one(opened, "#run h2").text == run.run.run_id
    assert not one(opened, "#report").is_displayed()
    metrics = read_metrics(run.run.metrics)
    lines = opened.execute_script(
        "return [...document.querySelectorAll('#run polyline')].map((line) =>"
        "[...line.points].map((point) => [point.x, point.y]))"
    )
    assert [len(line) for line in lines] == [EPOCHS, EPOCHS + 1] * 2  # train, val; loss, accuracy
    heights = -np.array(lines[1])[:, 1]
    loss = metrics["val/loss"]
    drawn = (heights - heights.min()) / np.ptp(heights)
    both = np.concatenate([metrics["val/loss"], metrics["train/loss"][1:]])
    np.testing.assert_allclose(drawn, (loss - loss.min()) / np.ptp(loss), atol=1e-3)
    assert len(both) == 2 * EPOCHS + 1
    cells = texts(opened, "#run [aria-label=Layers] td")
    layer = {q: f"{metrics[f'{q}/hidden_2'][-1]:.4g}" for q in ("act_mean", "grad_norm")}
    assert cells[3:6] == ["hidden_2", layer["act_mean"], layer["grad_norm"]]
    own = texts(opened, "#run [aria-label=Settings] td")
    assert dict(zip(own[::2], own[1::2], strict=True)) == {
        "act.name": "elu",
        "seed": "1",
        "trainer.epochs": str(EPOCHS),
        "paths.outputs": str(run.run.root),
    }
    shown = one(opened, "#run").text
    assert f'run = actsweep.load_run("{run.run.path}")' in shown
    assert f"actsweep rerun {run.run.path}\npython train.py act=elu" in shown
    assert "step 20: hidden_1 has 4 dead units" in shown
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    assert smallest_text(opened) >= 12
    opened.back()
    assert one(opened, "#report").is_displayed()
    assert set(column(opened, "act")) == {"elu"}
    assert abs(opened.execute_script("return scrollY") - before) < 2


def test_a_phone_keeps_the_first_column_in_sight(opened: webdriver.Chrome) -> None:
    """However far a table is moved: of runs their names, not the boxes to tick them by."""
    look(opened, 390)
    opened.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    places = opened.execute_script(
        "return [...document.querySelectorAll('.wide')].map((box) => {"
        "  const cell = box.querySelector('tbody td:not(.tick)');"
        "  cell.scrollIntoView({block: 'center'});"
        "  box.scrollLeft = 150;"
        "  const {left, top, width, height} = cell.getBoundingClientRect();"
        "  const seen = document.elementFromPoint(left + width / 2, top + height / 2);"
        "  return [box.scrollLeft, left - box.getBoundingClientRect().left, width,"
        "          cell.contains(seen)];"
        "})"
    )
    assert sum(moved > 50 for moved, *_ in places) >= 3
    for moved, left, width, seen in places:
        assert left >= 0, moved
        assert width < 200
        assert seen
    hint = texts(opened, "#runs-title + p")[0]
    assert "A click on a run's name opens its own page" in hint


def test_a_run_that_failed_says_why(opened: webdriver.Chrome, entries: list[Entry]) -> None:
    opened.execute_script("location.hash = `run=${arguments[0]}`", entries[-1].run.run_id)
    WebDriverWait(opened, 5).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#run h2"))
    assert "failed: ValueError: no good" in one(opened, "#run").text
    opened.execute_script("location.hash = 'run=nobody'")
    WebDriverWait(opened, 5).until(lambda b: "No run of this page" in one(b, "#run").text)


def smallest_text(browser: webdriver.Chrome) -> float:
    return float(
        browser.execute_script(
            "return Math.min(...[...document.querySelectorAll('body *')].filter((e) =>"
            "e.checkVisibility() &&"
            "[...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))"
            ".map((e) => parseFloat(getComputedStyle(e).fontSize)))"
        )
    )


WIDER = """
return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.wide, pre')
  && e.getBoundingClientRect().right > arguments[0] + 1).map((e) => e.outerHTML.slice(0, 200))
"""


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_fits_and_can_be_read(opened: webdriver.Chrome, width: int, scheme: str) -> None:
    look(opened, width, scheme)
    one(opened, ".columns summary").click()
    assert opened.execute_script(WIDER, width) == []
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    assert smallest_text(opened) >= 12
    colours = opened.execute_script(
        "return ['#runs td', '#runs a', '#filter', '#shown'].map((s) => document.querySelector(s))"
        ".flatMap((e) => getComputedStyle(e).color)"
    )
    back = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert all(contrast(colour, back) > 4.5 for colour in colours)


def contrast(one_colour: str, other: str) -> float:
    """WCAG 2's contrast of two colours."""

    def luminance(colour: str) -> float:
        parts = np.array([int(n) for n in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(one_colour), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def saved(browser: webdriver.Chrome, folder: Path, name: str) -> list[list[str]]:
    path = folder / name
    WebDriverWait(browser, 10).until(lambda _: path.exists() and path.stat().st_size)
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_tables_are_saved_as_csv(
    opened: webdriver.Chrome, entries: list[Entry], tmp_path: Path
) -> None:
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    opened.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    type_filter(opened, "act == tanh")
    button(opened, "Save as CSV").click()
    head, *rows = saved(opened, tmp_path, "runs.csv")
    assert head == texts(opened, "#runs th")[1:]
    assert {"run", "act", "test accuracy, %", "dead units, %"} <= {*head}
    columns = {c.title: c for c in run_columns(entries)}
    for name in head:  # a filter takes each name, and its numbers
        value = rows[0][head.index(name)]
        test = parse(f'"{name}" == "{value or "–"}"', [*columns.values()])
        tanh = [place for place, e in enumerate(entries) if e.config["act"]["name"] == "tanh"]
        assert test(tanh[0]), name
    table = [dict(zip(head, row, strict=True)) for row in rows]
    runs = [e for e in entries if e.config["act"]["name"] == "tanh"]
    assert [row["run"] for row in table] == [e.run.run_id for e in runs]
    for key, title in (("test_accuracy", "test accuracy, %"), ("dead_frac", "dead units, %")):
        known = [100 * e.summary[key] if e.summary else None for e in runs]
        assert [float(row[title]) if row[title] else None for row in table] == known


def test_groups_and_pairs_are_saved_as_they_are_shown(
    opened: webdriver.Chrome, entries: list[Entry], tmp_path: Path
) -> None:
    """By titles, in their units; numbers are whole, intervals have columns of their own."""
    opened.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    comparison = compare(entries)
    button(opened, "Save groups as CSV").click()
    head, *rows = saved(opened, tmp_path, "groups.csv")
    mean = "test/accuracy, %: mean"
    ends = [f"{mean}, 95 % {end}" for end in ("low", "high")]
    assert head == ["act", "seeds", mean, *ends, "median, %", "IQM, %"]
    for row, (label, group) in zip(rows, comparison.groups.items(), strict=True):
        assert row[:2] == [label[0], str(group.n)]
        shown = [group.mean, group.low, group.high, group.median, group.iqm]
        assert [float(v) for v in row[2:]] == [100 * (v or 0.0) for v in shown]
    opened.execute_script("document.querySelector('#answer ~ section details').open = true")
    titles = texts(opened, "#answer ~ section details th")
    assert "a − b, points [95 %, from 4 seeds on]" in titles
    button(opened, "Save pairs as CSV").click()
    head, *rows = saved(opened, tmp_path, "pairs.csv")
    assert [name for name in head if "95 %" not in name] == [t.partition(" [")[0] for t in titles]
    pairs = {(a[0], b[0]): pair for (a, b), pair in comparison.pairs.items()}
    for row in (dict(zip(head, values, strict=True)) for values in rows):
        pair = pairs[row["a"], row["b"]]
        assert float(row["a − b, points"]) == 100 * pair.difference
        assert (pair.low, row["a − b, points, 95 % low"]) == (None, "")


def test_a_cell_that_is_a_formula_is_saved_as_text(opened: webdriver.Chrome) -> None:
    made = opened.execute_script(
        "return actsweep.csv(['a'], [['=1+1'], ['x,\"y\"'], [-1], [null]])"
    )
    assert made == 'a\n\'=1+1\n"x,""y"""\n-1\n\n'


def test_without_scripts_it_is_a_table(written: Path, entries: list[Entry]) -> None:
    text = re.sub(r"<script.*?</script>", "", written.read_text(), flags=re.DOTALL)
    box = text.split('<div id="runs-box">')[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", box, re.DOTALL)[1:]
    assert [re.search(r"#run=([^\"]+)", r)[1] for r in rows] == [e.run.run_id for e in entries]  # type: ignore[index]
    assert f"{100 * entries[0].summary['test_accuracy']:.4g}" in rows[0]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand runs, without logs."""
    entries = []
    for act in ("relu", "elu", "tanh", "swish", "gelu"):
        first = entry(0.8, act=act)
        for seed in range(200):
            summary = {**first.summary, "test_accuracy": 0.8 + NOISE[0, seed % 20] + seed / 1e5}
            run = RunDir(Path("nowhere"), f"{act}-s{seed}")
            config = {**first.config, "seed": seed}
            entries.append(replace(first, run=run, config=config, summary=summary))
    return write_page(tmp_path_factory.mktemp("many") / "index.html", entries)


def test_a_thousand_runs_are_filtered_at_once(browser: webdriver.Chrome, many: Path) -> None:
    text = many.read_text()
    assert len(text) < 1e6
    assert "these runs are listed by script" in text.lower()
    look(browser)
    browser.get(many.as_uri())
    took = browser.execute_script(
        "const box = document.getElementById('filter'), took = [];"
        "for (const text of ['elu', 'act == elu and lr > 1', '', 'not relu', 'seed < 150']) {"
        "  const times = [];"
        "  for (let turn = 0; turn < 5; turn++) {"
        "    box.value = ''; box.dispatchEvent(new Event('input'));"
        "    document.body.offsetHeight;"  # laid out
        "    const begun = performance.now();"
        "    box.value = text; box.dispatchEvent(new Event('input'));"
        "    document.body.offsetHeight;"
        "    times.push(performance.now() - begun);"
        "  }"
        "  took.push(Math.min(...times));"  # others use this machine, too
        "} return took"
    )
    assert max(took) < 100, took
    assert one(browser, "#shown").text == "750 of 1000 shown"
    assert len(browser.find_elements(By.CSS_SELECTOR, "#runs tbody tr")) == 100
    button(browser, "Show 100 more of 750").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, "#runs tbody tr")) == 200
    assert browser.get_log("browser") == []


def test_no_text_of_a_run_becomes_markup(browser: webdriver.Chrome, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>{{ 1 }}"
    runs = [entry(0.9 + NOISE[0, s], seed=s) for s in range(3)]
    for run in runs:
        run.config["init"]["name"] = f"{hostile}{run.config['seed']}"  # type: ignore[index]
    runs[0] = replace(runs[0], cause=hostile)
    browser.get(write_page(tmp_path / "x.html", runs, ("init",)).as_uri())
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert hostile + "0" in column(browser, "init")
    one(browser, "#runs tbody a").click()
    assert hostile in one(browser, "#run").text
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert browser.get_log("browser") == []


def test_json_in_a_script_can_t_end_it() -> None:
    value = {"a": "</script>\u2028<!--", "b": [1.5, None]}
    text = script_json(value)
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == value


def test_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    (folder,) = sweep_on_disk(tmp_path, "one", ("relu",), 1)
    rows = [{"step": i, "epoch": float(i), "val/loss": 1 / (1 + i)} for i in range(POINTS)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = gather([tmp_path / "sweeps" / "one"])
    epochs, values = page_data(compare(entries).design, {})["details"][folder.run_id]["curves"][
        "val/loss"
    ]
    assert len(epochs) == 60
    assert (epochs[0], epochs[-1]) == (0.0, POINTS - 1)
    assert values == pytest.approx([1 / (1 + e) for e in epochs], rel=1e-4)
