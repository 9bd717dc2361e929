"""How long the report takes, how large it is, and how soon it opens and answers in Chromium.

A few runs are trained for real (digits, four hidden layers, full diagnostics, 20 epochs); their
folders are copied under other seeds until there are as many as asked for. Every report is written
in a process of its own.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from selenium import webdriver

from actsweep.config import resolve
from actsweep.runs.members import make_member
from actsweep.sweeps.plan import Plan, read_plan
from benchmarks import shell
from benchmarks.harness import Result, figure, median

ACTS = ("relu", "tanh", "elu", "swish", "sigmoid", "gelu", "leaky_relu", "mish", "selu", "softplus")
WORDS = (
    *("data=digits", "data.val_size=300", "depth=4", "depth.width=32", "trainer.patience=null"),
    *("logger=disabled", "logger.report=false", "callbacks=full", "trainer.batch_size=256"),
)
SIZES = (30, 100, 1000)
DRAWN = """
const [name, done] = arguments;
document.getElementById(name).scrollIntoView({ block: "center" });
const chart = window.actsweep.charts.find((chart) => chart.name === name);
const wait = () => {
  if (chart.view && !chart.stale) requestAnimationFrame(() => done());
  else setTimeout(wait, 5);
};
wait();
"""
ANSWERS = """
const done = arguments[0], times = [];
const box = document.querySelector("#curves .chart .marks").getBoundingClientRect();
const next = () => {
  if (times.length === 20) return done(times);
  const clientX = box.x + 60 + 8 * times.length, clientY = box.y + 60 + 6 * times.length;
  const at = document.elementFromPoint(clientX, clientY), began = performance.now();
  for (const kind of ["pointerover", "mouseover", "pointermove", "mousemove"])
    at.dispatchEvent(new PointerEvent(kind, { bubbles: true, clientX, clientY }));
  requestAnimationFrame(() => setTimeout(() => {
    const said = document.getElementById("vg-tooltip-element");
    if (!said?.classList.contains("visible")) throw new Error("no answer");
    times.push((performance.now() - began) / 1000);
    next();
  }));
};
next();
"""


def report(rounds: int, toy: bool) -> Result:
    """Seconds of `actsweep report`, megabytes of its page, and how soon this opens and answers."""
    acts, epochs, sizes = (ACTS[:2], 1, (4,)) if toy else (ACTS, 20, SIZES)
    with shell.scratch() as folder, shell.scratch() as cache:
        words = (f"act={','.join(acts)}", "seed=0", *WORDS, f"trainer.epochs={epochs}")
        shell.train("-m", *words, f"paths.outputs={folder}", cache=Path(cache))
        sweep = next(Path(folder, "sweeps").iterdir())
        rows = [_write(Path(folder), multiply(sweep, count), count, rounds) for count in sizes]
    small, large = rows[0], rows[-1]
    return {
        "sizes": rows,
        "figures": [
            figure(f"report of {small['runs']} runs, megabytes", small["MB"], 5.0),
            figure(f"report of {small['runs']} runs, seconds", small["seconds"], 3.0),
            figure(f"report of {large['runs']} runs, seconds", large["seconds"], 10.0),
            figure(f"report of {large['runs']} runs opens, seconds", large["opens"], 3.0),
            figure(f"report of {large['runs']} runs answers, seconds", large["answers"], 0.1),
        ],
    }


def multiply(sweep: Path, count: int) -> Path:
    """A sweep of as many runs, each a copy of a trained one under another seed."""
    plan = read_plan(sweep)
    trained = list(plan.runs.values())
    packs, overrides = [], {}
    for run in trained:
        old, pack = run.dir, []
        for seed in range(count // len(trained)):
            one = resolve.from_dict({**resolve.to_dict(run.config), "seed": seed})
            member = make_member(one)
            new = member.dir
            if new.run_id != old.run_id and not new.path.exists():
                shutil.copytree(old.path, new.path, ignore=shutil.ignore_patterns("checkpoints"))
                summary = json.loads(new.summary.read_text())
                summary |= {"run_id": new.run_id, "seed": seed}
                summary["test_accuracy"] += 0.01 * ((seed * 7919) % 13 - 6) / 6
                new.summary.write_text(json.dumps(summary))
            pack.append(member)
            overrides[member.run_id] = [f"seed={seed}"]
        packs.append(pack)
    folder = sweep.with_name(f"{count} runs")
    folder.mkdir()
    Plan(folder, plan.command, packs, overrides).write()
    return folder


def _write(outputs: Path, folder: Path, count: int, rounds: int) -> Result:
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        words = ["-m", "actsweep", "report", str(folder), "--outputs", str(outputs)]
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    page = folder / "report" / "index.html"
    opens, answers = browse(page)
    size = page.stat().st_size / 1e6
    return {"runs": count, "seconds": median(took), "MB": size, "opens": opens, "answers": answers}


def browse(page: Path) -> tuple[float, float]:
    """Seconds until a page's first chart is drawn, and until its curves answer a pointer.

    The median of 20 places of the curves of all runs; an answer is a tooltip in the next frame.
    """
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1000"):
        options.add_argument(word)
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as browser:
        browser.set_script_timeout(120)
        browser.get(page.absolute().as_uri())
        browser.execute_async_script(DRAWN, "curves")
        opened = float(browser.execute_script("return performance.now() / 1000"))
        mode = "document.querySelector('select[name=mode]')"
        browser.execute_script(f"{mode}.value = 'both'; {mode}.dispatchEvent(new Event('change'));")
        browser.execute_async_script(DRAWN, "curves")
        return opened, median(browser.execute_async_script(ANSWERS))
