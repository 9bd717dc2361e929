"""actsweep from Python: the bytes of the command, its answers, and a process that is as it was."""

import gc
import html
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from scipy import stats
from test_app import logging_as_before  # noqa: F401

import actsweep
from actsweep.cli.main import main
from actsweep.config.conf_dir import conf_dir
from actsweep.runs.metrics_file import read_histograms, read_metrics
from actsweep.utils.files import csv_text

pytestmark = pytest.mark.usefixtures("logging_as_before")

SMALL = ("debug=default", "depth=2", "depth.width=8", "callbacks=light", "trainer.save_every_s=0")
WORDS = (
    "act=relu,elu",
    "seed=0,1",
    "optim.lr=0.01,1e30",
    "sweep.exclude=[{act: elu, optim.lr: 1e30}]",
)
TIMED = {
    "training",
    "seconds",
    "updated",
    "started",
    "since",
    "pid",
    "host",
    "submitted",
    "cwd",
    "path",
}
TIME = r"\d{4}-\d\d-\d\d_[\d-]+"
CALLBACK = '''
import os
from actsweep.callbacks import Callback

def breaks(at=-1):
    """Ends what it looks at: fails a member at a step, or interrupts everything."""
    def hook():
        def look(step, epoch, readings):
            if step == at and os.environ.get("BREAKS") == "fail":
                raise RuntimeError("broken on purpose")
            if step == at and os.environ.get("BREAKS") == "interrupt":
                raise KeyboardInterrupt
            if step == at and os.environ.get("BREAKS") == "signal":
                import signal
                signal.raise_signal(signal.SIGINT)
        return look
    return Callback(hook=hook)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a callback of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_breaks.py").write_text(CALLBACK)
    return tmp_path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> actsweep.Sweep:
    """Six runs, of which two have diverged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("sweep"))
        folder = actsweep.sweep(*SMALL, "callbacks=default", *WORDS).folder
        return actsweep.Sweep(folder.absolute())


def typed(*words: str) -> int:
    """Type `actsweep train` in this process; the exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["train", *words])
    return int(ended.value.code or 0)


def untimed(value: Any) -> Any:
    """A JSON value without times, processes and working folders."""
    if isinstance(value, dict):
        return {key: untimed(item) for key, item in value.items() if key not in TIMED}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    """What a file says, without times."""
    if path.suffix == ".json":
        return untimed(json.loads(re.sub(TIME, "<time>", path.read_text())))
    if path.suffix == ".csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv()
    if path.name == "launch.yaml":
        text = re.sub(TIME, "<time>", path.read_text())
        return yaml.safe_load(text.replace(os.getcwd(), "<cwd>"))
    if path.suffix == ".npz":
        return {name: series.counts.tolist() for name, series in read_histograms(path).items()}
    return path.read_bytes()


def left(outputs: Path, *endings: str) -> dict[str, Any]:
    """All files that a command left, by path, without the names that are times."""
    found = {}
    for path in sorted(outputs.rglob("*")):
        name = re.sub(TIME, "<time>", str(path.relative_to(outputs)))
        hidden = name.startswith((".alive", ".claims"))
        if path.is_file() and not hidden and "checkpoints" not in name:
            found[name] = content(path)
    return found


def test_a_sweep_leaves_what_the_command_leaves(folder: Path) -> None:
    words = [*SMALL, *WORDS]
    (folder / "python").mkdir()
    (folder / "typed").mkdir()
    os.chdir(folder / "python")
    sweep = actsweep.sweep(*words, outputs="my outputs")
    ours = left(Path("my outputs"))
    os.chdir(folder / "typed")
    assert typed("-m", *words, "paths.outputs='my outputs'") == 1
    theirs = left(Path("my outputs"))
    assert {*ours} == {*theirs}
    assert len([name for name in ours if name.endswith("metrics.jsonl")]) == 6
    for name in ours:
        assert ours[name] == theirs[name], name
    assert repr(sweep.folder).count("my outputs") == 1


def test_one_run_leaves_what_the_command_leaves(folder: Path) -> None:
    words = [*SMALL, "act=tanh"]
    (folder / "python").mkdir()
    (folder / "typed").mkdir()
    os.chdir(folder / "python")
    run = actsweep.train(*words)
    ours = left(Path("outputs"))
    assert run.status["state"] == "complete"
    os.chdir(folder / "typed")
    assert typed(*words) == 0
    assert ours == left(Path("outputs"))


@pytest.mark.parametrize("how", ["interrupt", "signal"])
def test_what_was_cut_short_goes_on_to_equal_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    words = [*SMALL, "act=relu", "seed=0,1", "trainer.epochs=3", "callbacks=none"]
    words += ["+callbacks.breaks._target_=my_breaks.breaks", "+callbacks.breaks.at=36"]
    monkeypatch.setenv("BREAKS", how)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        actsweep.sweep(*words, outputs="cut")
    assert signal.getsignal(signal.SIGINT) is before
    cut = actsweep.load_sweep("latest", "cut")
    assert "complete" not in cut.runs["state"].tolist()
    monkeypatch.delenv("BREAKS")
    sweep = actsweep.sweep(*words, outputs="cut")
    assert sweep.folder != cut.folder
    assert sweep.runs["state"].tolist() == ["complete"] * 2
    whole = actsweep.sweep(*words, outputs="whole")
    for name in ("metrics.jsonl", "histograms.npz", "config.yaml"):
        ours, theirs = (
            sorted(each.glob(f"runs/*/{name}")) for each in (Path("cut"), Path("whole"))
        )
        assert [file.parent.name for file in ours] == [file.parent.name for file in theirs]
        expected = [content(file) for file in theirs]
        if name == "config.yaml":  # it says where
            expected = [text.replace(b"whole", b"cut") for text in expected]
        assert [content(file) for file in ours] == expected
    assert whole.compare().cells == sweep.compare().cells


def test_a_failing_member_leaves_a_sweep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKS", "fail")
    words = [*SMALL, "act=relu", "callbacks=none", "+callbacks.breaks._target_=my_breaks.breaks"]
    sweep = actsweep.sweep(*words, "+callbacks.breaks.at=18,36")  # of 18 steps
    runs = sweep.runs.set_index("callbacks.breaks.at")
    assert runs["state"].to_dict() == {18: "failed", 36: "complete"}
    assert "broken on purpose" in runs.loc[18, "cause"]
    assert sweep.status().counts() == "1 complete, 1 failed"


def test_the_process_is_as_it_was(folder: Path) -> None:
    logging.getLogger("mine").addHandler(mine := logging.NullHandler())
    argv, path, root = sys.argv, list(sys.argv), list(logging.root.handlers)
    level, collected = logging.root.level, gc.get_threshold()
    environment = {key: os.environ.get(key) for key in ("HYDRA_FULL_ERROR", "PYTHONPATH")}
    stdout, stderr, raises = sys.stdout, sys.stderr, logging.raiseExceptions
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        with pytest.raises(actsweep.UserError, match="act=rleu: no such name; did you mean"):
            actsweep.sweep("act=relu,rleu")
        actsweep.train(*SMALL)
        assert GlobalHydra.instance().hydra is hydra
        assert compose("config", ["seed=3"]).seed == 3
    assert sys.argv is argv
    assert sys.argv == path
    assert logging.root.handlers == root
    assert (logging.root.level, gc.get_threshold()) == (level, collected)
    assert logging.getLogger("mine").handlers == [mine]
    assert not logging.getLogger("mine").disabled
    assert {key: os.environ.get(key) for key in environment} == environment
    assert (sys.stdout, sys.stderr, logging.raiseExceptions) == (stdout, stderr, raises)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


MISTAKES = [
    (("act=rleu",), "act=rleu: no such name; did you mean act=relu"),
    (("seed=-1",), "seed=-1: must be"),
    (("--cfg",), "--cfg: must be an override"),
    (("act",), "act: "),
    (("pack.plan=true", *SMALL), "pack.plan=true: shows the packs and trains nothing"),
    (
        ("trainer.distributed=node1:8476", "trainer.processes=2", "trainer.process=0"),
        "trainer.distributed=node1:8476: a call from Python trains in",
    ),
    *(
        (
            (f"hydra/launcher={name}",),
            f"hydra/launcher={name}: a call from Python trains in its own",
        )
        for name in ("slurm", "joblib", "submitit_local", "submitit_slurm")
    ),
]


@pytest.mark.parametrize(("words", "line"), MISTAKES, ids=[words[0] for words, _ in MISTAKES])
@pytest.mark.parametrize("call", [actsweep.sweep, actsweep.train], ids=["sweep", "train"])
def test_a_mistake_is_one_line_and_touches_nothing(
    call: Any, words: tuple[str, ...], line: str, folder: Path
) -> None:
    with pytest.raises(actsweep.UserError) as told:
        call(*words)
    assert str(told.value).startswith(line)
    assert "\n" not in str(told.value)
    assert not [path for path in folder.glob("outputs/**/*") if path.is_file()]


def test_several_values_need_sweep(folder: Path) -> None:
    with pytest.raises(actsweep.UserError, match="act=relu,elu"):
        actsweep.train("act=relu,elu")
    assert not [path for path in folder.glob("outputs/**/*") if path.is_file()]


def test_plan_shows_packs_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actsweep.plan(*SMALL, "act=relu,elu", "seed=0,1")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines if line.startswith("pack")] == [
        "pack 0: 2 runs",
        "pack 1: 2 runs",
    ]
    assert lines[-1] == "4 runs in 2 packs"
    assert not (folder / "outputs").exists()


def test_import_waits_for_nothing_and_says_nothing() -> None:
    code = (
        "import sys, actsweep\n"
        "heavy = {'jax', 'numpy', 'pandas', 'hydra', 'altair', 'xarray'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert dir(actsweep) == sorted(actsweep.__all__)\n"
        "assert callable(actsweep.sweep)\n"
        "assert not {'jax', 'pandas', 'altair'} & set(sys.modules)\n"
        "assert all(callable(getattr(actsweep, n)) for n in dir(actsweep) if n[0] != '_')\n"
        "import actsweep.train.pack\n"
        "assert callable(actsweep.train)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_loading_is_by_name_time_and_path(sweep: actsweep.Sweep) -> None:
    outputs = sweep.folder.parents[1]
    for name in ("latest", "last", sweep.name, sweep.folder):
        assert actsweep.load_sweep(name, outputs).folder.samefile(sweep.folder)
    with pytest.raises(actsweep.UserError, match="no such sweep"):
        actsweep.load_sweep("yesterday", outputs)
    assert repr(sweep) == f"<Sweep {sweep.name}: 4 complete, 2 diverged>"
    assert sweep.table() in html.unescape(sweep._repr_html_())


def test_runs_are_those_of_members_csv(sweep: actsweep.Sweep) -> None:
    members = pd.read_csv(sweep.folder / "members.csv").set_index("run_id")
    runs = sweep.runs.set_index("run_id")
    assert {"state", "act", "lr", "seed", "test_accuracy"} <= {*runs}
    assert [*runs.index] == [*members.index]
    assert [*runs["state"]] == [*members["state"]]
    np.testing.assert_array_equal(runs["test_accuracy"], members["test_accuracy"])
    assert [*runs["seed"]] == [int(name.split("-s")[1].split("-")[0]) for name in runs.index]


def test_metrics_are_those_of_the_files(sweep: actsweep.Sweep) -> None:
    frame = sweep.metrics("val/accuracy", "grad_norm/*")
    assert [*frame] == ["run_id", "act", "lr", "seed", "step", "epoch", "metric", "value"]
    assert {*frame["metric"]} == {
        "val/accuracy",
        *(f"grad_norm/{n}" for n in ("hidden_1", "hidden_2", "head")),
    }
    expected = set()
    for path in sweep.folder.parents[1].glob("runs/*/metrics.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            for name, value in row.items():
                if value is not None and name.startswith(("val/accuracy", "grad_norm/")):
                    expected.add((path.parent.name, row["step"], name, value))
    columns = frame[["run_id", "step", "metric", "value"]]
    assert set(columns.itertuples(index=False, name=None)) == expected
    assert len(frame) == len(expected)
    with pytest.raises(
        actsweep.UserError, match="val/acuracy: no such metric; did you mean val/acc"
    ):
        sweep.metrics("val/acuracy")


def test_metrics_as_xarray(sweep: actsweep.Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xarray")
    dataset = sweep.metrics("val/*", as_="xarray")
    assert dict(dataset.sizes) == {"run_id": 6, "step": 2}
    for run_id in sweep.runs["run_id"]:
        table = read_metrics(sweep.folder.parents[1] / "runs" / run_id / "metrics.jsonl")
        ours = dataset["val/loss"].sel(run_id=run_id).to_numpy()
        np.testing.assert_array_equal(ours, table["val/loss"])
        epochs = np.where(np.isnan(ours), np.nan, table["epoch"])
        np.testing.assert_array_equal(dataset["epoch"].sel(run_id=run_id), epochs)
    assert dataset["act"].to_numpy().tolist() == sweep.runs["act"].tolist()
    assert dataset["seed"].dtype == np.int64
    with pytest.raises(actsweep.UserError, match=r"as_=polars: no such name; .*xarray"):
        sweep.metrics(as_="polars")  # type: ignore[call-overload]
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(actsweep.UserError, match="xarray isn't installed; type pip install xarray"):
        sweep.metrics("val/*", as_="xarray")


def test_curves_are_means_over_seeds_with_students_interval(sweep: actsweep.Sweep) -> None:
    spec = sweep.plot("train/loss").to_dict()
    (rows,) = spec["datasets"].values()
    frame = sweep.metrics("train/loss")
    elu = frame[frame["act"] == "elu"]
    drawn = [row for row in rows if row["group"].startswith("elu")]
    assert [row["epoch"] for row in drawn] == sorted({*elu["epoch"]})
    for row in drawn:
        values = elu[elu["epoch"] == row["epoch"]]["value"]
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        assert [row["mean"], row["low"], row["high"]] == pytest.approx([values.mean(), low, high])
        assert row["runs"] == 2
    panels = sweep.plot("grad_norm/*").to_dict()["concat"]
    titles = [panel["layer"][1]["encoding"]["y"]["title"] for panel in panels]
    assert titles == ["grad_norm/hidden_1", "grad_norm/hidden_2", "grad_norm/head"]
    with pytest.raises(actsweep.UserError, match="no such metric"):
        sweep.plot("grad_nrm/*")


def test_histograms_are_those_of_the_files(sweep: actsweep.Sweep) -> None:
    frame = sweep.histograms("preact/hidden_*")
    assert {*frame["histogram"]} == {"preact/hidden_1", "preact/hidden_2"}
    for (run_id, name), part in frame.groupby(["run_id", "histogram"]):
        path = sweep.folder.parents[1] / "runs" / str(run_id) / "histograms.npz"
        series = read_histograms(path)[f"hist/{name}"]
        for step, bins in part.groupby("step"):
            (counts,) = series.counts[series.steps == step]
            np.testing.assert_array_equal(bins["count"], counts)
            np.testing.assert_array_equal(bins["low"], [-np.inf, *series.edges])
            np.testing.assert_array_equal(bins["high"], [*series.edges, np.inf])
    assert len(frame) == sum(
        series.counts.size
        for path in sweep.folder.parents[1].glob("runs/*/histograms.npz")
        for name, series in read_histograms(path).items()
        if name.startswith("hist/preact/hidden_")
    )


def test_answers_are_those_of_the_commands(
    sweep: actsweep.Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*words: str) -> str:
        capsys.readouterr()
        assert main([*words, "--outputs", str(sweep.folder.parents[1])]) == 0
        return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())

    sweep.status()  # once before, so that ages are of the same second more often
    assert printed("compare") == str(sweep.compare())
    assert printed("compare", "--metric", "val/loss", "--one-look", "--where", "act=relu") == str(
        sweep.compare(metric="val/loss", one_look=True, where="act=relu")
    )
    assert printed("table").startswith(sweep.table() + "\n")
    ages = r"  (now|\d+ \w+ ago)"
    assert re.sub(ages, "", printed("status", sweep.name)) == re.sub(ages, "", str(sweep.status()))
    for kind in ("latex", "csv", "json"):
        assert printed("export", f"--{kind}") == sweep.export(kind)
    assert json.loads(printed("compare", "--json")) == json.loads(sweep.export("json"))
    page = sweep.report()
    assert printed("report") == str(page)
    assert sweep.name in page.read_text()


@pytest.mark.parametrize("metric", ["test/accuracy", "grad_norm/head", "best_epoch"])
def test_figures_of_a_sweep(sweep: actsweep.Sweep, metric: str, tmp_path: Path) -> None:
    words = ["export", "--figures", "--metric", metric, "--to", str(tmp_path), "--width", "8cm"]
    assert main([*words, "--outputs", str(sweep.folder.parents[1])]) == 0
    names = ("scores",) if metric == "best_epoch" else ("curves", "scores")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{ending}" for name in names for ending in ("pdf", "svg")
    ]
    shown = {"test/accuracy": "val/accuracy, %"}.get(metric, metric)
    assert f">{shown}<" in (tmp_path / f"{names[0]}.svg").read_text()


def test_json_of_status(sweep: actsweep.Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["status", "--json", "--outputs", str(sweep.folder.parents[1])]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["sweep"] == sweep.name
    assert plain["counts"] == {"complete": 4, "diverged": 2}
    assert [run["run_id"] for run in plain["runs"]] == sweep.runs["run_id"].tolist()
    for run in plain["runs"]:
        table = read_metrics(sweep.folder.parents[1] / "runs" / run["run_id"] / "metrics.jsonl")
        assert (run["epochs"], run["left"]) == (1, False)
        if run["state"] == "complete":
            assert run["scores"]["val/accuracy"] == table["val/accuracy"][-1]
            assert run["epoch"] == 1.0
        else:
            assert run["cause"] == "the loss is not finite"


def test_a_run_predicts(sweep: actsweep.Sweep) -> None:
    (run_id, *_) = sweep.runs["run_id"]
    run = sweep.run(run_id)
    data = run.dataset()
    predicted = run.predict(data.test_x)
    assert predicted.shape == data.test_y.shape
    assert np.mean(predicted == data.test_y) == pytest.approx(
        run.summary["test_accuracy"], abs=1e-6
    )
    kernels = [np.asarray(leaf) for leaf in jax.tree.leaves(run.params)]
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(run.parameters()[0])]
    assert all(np.array_equal(a, b) for a, b in zip(kernels, expected, strict=True))
    assert repr(run) == f"<Run {run_id}: complete>"
    assert "test_accuracy" in run._repr_html_()
    with pytest.raises(actsweep.UserError, match="no such name"):
        sweep.run("relu")


def test_text_in_csv_is_text(sweep: actsweep.Sweep) -> None:
    header, *rows = sweep.export("csv").splitlines()
    assert header.startswith("act,")
    assert {csv_text(row.split(",")[0]) for row in rows} == {"relu", "elu"}
