"""What is refused at once, in one line, and streams on which no result depends."""

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_app import QUICK, ROOT, Train, files, logging_as_before, train  # noqa: F401 (fixtures)
from test_wandb import use_server
from wandb.sdk.lib.wbauth import unauthenticate_session

from actsweep.cli.main import main
from actsweep.config import identity
from actsweep.runs import run_dir
from actsweep.runtime.streams import LastingStream
from actsweep.sweeps import find
from actsweep.train.active_set import ActiveSet
from actsweep.utils import files as files_

REFUSED = [
    ("trainer.epochs=99999999999", "trainer.epochs=99999999999: must be at most 100000"),
    ("depth=1000", "depth=1000: must be from 1 to 256 hidden layers"),
    ("depth=99999999999999999999", "must be from 1 to 256 hidden layers"),
    ("depth.width=999999999", "must be from 1 to 65536 units"),
    ("optim.lr=1e-60", "optim.lr=1e-60: must be 0, or from 1.2e-38 to 3.4e+38 in size"),
    ("optim.lr=1e39", "as float32 holds; type for example optim.lr=0.01"),
    ("act=leaky_relu act.slope=1e300", "act.slope=1e+300: must be 0, or from 1.2e-38"),
    ("init.bias=1e39", "init.bias=1e+39: must be 0, or from"),
    ("+act._target_=''", "act._target_='': must be a dotted path"),
    ("paths.outputs=''", "paths.outputs='': must be a folder"),
    ("callbacks=default callbacks.histograms.every=1e400", "must be a whole number from 1 to"),
    ("+callbacks.x=1", "callbacks.x=1: must be a group of options"),
    ("optim.lr=${nope}", "optim.lr=${nope}: 'nope' is no key of the config"),
    ("-m seed=range(0,0)", "seed=range(0,0): has no value"),
    ("-m seed=range(0,1e9)", "with it the sweep has more than 20,000 runs"),
    ("-m seed=range(0,1000) optim.lr=0.1,0.2 init.scale=range(1,101)", "more than 20,000 runs"),
]


INSTEAD = [
    ("act=ReLU", "did you mean act=relu?"),
    ("--act=relu", "--act=relu: is an override, not an option; type act=relu"),
    ("-m logger.project=a,b", "logger.project=a,b: can't change a result, so all its values are"),
    ("-m rerun=all,none", "rerun=all,none: can't change a result"),
    ("-m slurm.cpus=1,2", "slurm.cpus=1,2: must be one value, for all jobs of the sweep"),
    ("logger.project=a/b", "logger.project=a/b: must be 1 to 128 characters without /"),
    ("logger.tags=['']", "logger.tags='': must be of 1 to 64 characters"),
    ("--x=0", "--x=0: no such option; see --help and --hydra-help"),
    ("--multrun", "--multrun: no such option; did you mean --multirun?"),
    ("slurm.extra.array=0-3", "slurm.extra.array=0-3: must be left out: jobs are packs"),
    ("slurm.timeout_min=60", "slurm.timeout_min: no such key; did you mean slurm.hours?"),
    ("--experimental-rerun=x", "--experimental-rerun: not here; type actsweep rerun <run>"),
]


@pytest.mark.parametrize(("words", "line"), [*REFUSED, *INSTEAD])
def test_one_line_at_once(words: str, line: str, train: Train, tmp_path: Path) -> None:  # noqa: F811
    began = time.monotonic()
    answer = train(*words.split())
    assert time.monotonic() - began < 5
    assert answer.code == 2, answer
    assert line in answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert not answer.out
    assert not files(tmp_path)


def run(*words: str, code: int = 0, outputs: Path, **how: object) -> str:
    command = [sys.executable, "train.py", *QUICK, f"paths.outputs={outputs}", *words]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=120, **how)  # type: ignore[call-overload]
    assert done.returncode == code, done
    return str(done.stdout)


def test_a_closed_pipe_costs_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run("-m", "seed=0,1", outputs=tmp_path, stdout=writing, stderr=writing)
    finally:
        os.close(writing)
    assert len([*tmp_path.glob("runs/*/summary.json")]) == 2
    assert [*tmp_path.glob("sweeps/*/members.csv")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's")
def test_a_full_terminal_costs_nothing(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        run(outputs=tmp_path, stdout=full, stderr=full)
    assert [*tmp_path.glob("runs/*/summary.json")]


def test_closed_streams_and_a_narrow_encoding(tmp_path: Path) -> None:
    words = " ".join([sys.executable, "train.py", *QUICK, f"paths.outputs={tmp_path}"])
    shell = f"{words} >&- 2>&-; echo $?"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "0\n"
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    out = run("-m", "seed=0,1", outputs=tmp_path, env=env, stdout=subprocess.PIPE)
    assert "seeds" in out
    assert " ? " in out  # in the place of ±


def test_a_stream_that_breaks_leads_to_nowhere(tmp_path: Path) -> None:
    stream = open(tmp_path / "log", "w")  # noqa: SIM115
    lasting = LastingStream(stream)
    print("one", file=lasting, flush=True)
    stream.close()
    print("two", file=lasting, flush=True)
    assert (tmp_path / "log").read_text() == "one\n"
    assert not lasting.isatty()
    none = LastingStream(None)
    print("nothing", file=none, flush=True)
    with pytest.raises(io.UnsupportedOperation):
        none.fileno()


def test_outputs_are_where_the_command_was_typed(train: Train, tmp_path: Path) -> None:  # noqa: F811
    for words in ((), ("-m", "seed=0,1")):
        answer = train("hydra.job.chdir=true", "paths.outputs=mine", *words)
        assert answer.code == 0, answer
    assert len([*tmp_path.glob("mine/runs/*/summary.json")]) == 2


def test_a_saved_config_is_not_the_defaults(train: Train, tmp_path: Path) -> None:  # noqa: F811
    assert train("optim.lr=0.05").code == 0
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    answer = train("--config-dir", str(run), "--config-name", "config")
    assert answer.code == 2
    assert f"type actsweep rerun {run}" in answer.err


def test_rerun_trains_the_same_run(
    train: Train,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert train("optim.lr=0.05").code == 0
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    before = (run / "metrics.jsonl").read_bytes()
    status = (run / "status.json").read_text()
    asked: list[list[str]] = []
    monkeypatch.setattr("actsweep.cli.train.train", lambda words: asked.append(words) or 0)
    monkeypatch.chdir(tmp_path)
    assert main(["rerun", run.name]) == 0
    assert main(["rerun", str(run), "optim.lr=0.1"]) == 0
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (same, other) = asked
    assert same[-1] == "rerun=all"
    assert other[-1] == "optim.lr=0.1"
    assert train(*same).code == 0
    assert [path.name for path in (tmp_path / "outputs" / "runs").iterdir()] == [run.name]
    assert (run / "metrics.jsonl").read_bytes() == before
    assert (run / "status.json").read_text() != status
    shutil.rmtree(tmp_path / "outputs" / "sweeps")
    capsys.readouterr()
    assert main(["rerun", run.name]) == 2
    assert "knows what was typed for it" in capsys.readouterr().err


def test_job_logging_of_hydra_s_own(train: Train) -> None:  # noqa: F811
    for option in ("none", "disabled", "stdout"):
        assert train(f"hydra/job_logging={option}", "rerun=all").code == 0


def test_the_newest_sweep_by_an_absolute_time(tmp_path: Path) -> None:
    for name, submitted in (
        ("2026-03-01_23-00-00-000000", 1.0),
        ("2026-03-01_09-00-00-000000", 2.0),
    ):
        folder = tmp_path / "sweeps" / name
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(f'{{\n  "submitted": {submitted},\n  "command": []}}')
    assert [path.name[11:13] for path in find.newest(tmp_path)] == ["09", "23"]


def test_cells_that_are_no_formulas(tmp_path: Path) -> None:
    rows = [{"run_id": "=1+1", "overrides": ["+act._target_=x"], "state": "complete", "seed": -1}]
    path = run_dir.write_members_csv(tmp_path, rows)
    assert "'=1+1" in path.read_text()
    (row,) = run_dir.read_members_csv(tmp_path)
    assert (row["run_id"], row["overrides"], row["seed"]) == ("=1+1", "+act._target_=x", -1)
    assert files_.csv_text("'quoted") == files_.csv_cell("'quoted") == "'quoted"


def test_a_platform_that_is_not_there() -> None:
    code = "from actsweep.runtime.devices import check_platform; check_platform()"
    env = {**os.environ, "JAX_PLATFORMS": "tpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert "UserError: JAX_PLATFORMS=tpu: JAX finds no such device" in done.stderr


def test_debugging_of_nan_fails_no_healthy_run(tmp_path: Path) -> None:
    run(outputs=tmp_path, env={**os.environ, "JAX_DEBUG_NANS": "1"}, stdout=subprocess.PIPE)


def test_own_code_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "__init__.py").write_text("raise SystemExit('it was run')")
    (tmp_path / "strangers" / "acts.py").write_text("def f(z): return z")
    monkeypatch.syspath_prepend(tmp_path)
    assert identity._source_digest("strangers.acts.f")
    assert identity._source_digest("strangers.nothing.f") is None


def test_a_parameter_that_only_some_activations_have(train: Train, tmp_path: Path) -> None:  # noqa: F811
    answer = train("-m", "act=relu,leaky_relu", "act.slope=0.1,0.2", "pack.plan=true")
    assert answer.code == 0, answer
    assert answer.err == "act.slope: only for leaky_relu\n"
    assert answer.out.splitlines()[-1] == "3 runs in 2 packs"
    answer = train("-m", "act=relu,elu", "act.slope=0.1,0.2")
    assert answer.code == 2
    assert "act.slope" in answer.err


def test_what_to_type_after_a_failure_and_offline_runs(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log with the traceback is named; runs that W&B's server has not seen, too."""

    def broken(*_: object) -> bool:
        raise RuntimeError("out of the blue")

    with monkeypatch.context() as patch:
        patch.setattr(ActiveSet, "repack", broken)
        answer = train("-m", "seed=0,1")
    assert answer.code == 1
    (why,) = (line for line in answer.out.splitlines() if line.startswith("why:"))
    assert "out of the blue" in Path(why.split()[1]).read_text()
    assert train("-m", "seed=0,1", "logger=offline").code == 0
    use_server(monkeypatch, 9)
    try:
        answer = train("-m", "seed=0,1", "logger=online")
    finally:
        unauthenticate_session(update_settings=False)
    assert "2 runs were trained without W&B's server; upload:  actsweep sync" in answer.out


FILES = {
    "act/bad": ("name: bad\n  alpha: 1\n", "act/bad.yaml, line 2: mapping values are not allowed"),
    "experiment/syntax": ("seed: [1\n", "experiment/syntax.yaml, line 2: expected ',' or ']'"),
    "experiment/key": (
        "# @package _global_\ntrainer:\n  epoch: 3\n",
        "experiment/key.yaml: trainer.epoch: no such key; did you mean trainer.epochs?",
    ),
    "experiment/top": (
        "# @package _global_\nfoo: 3\n",
        "experiment/top.yaml: foo: no such key; Known here: act, ",
    ),
    "experiment/value": (
        "# @package _global_\noptim:\n  lr: fast\n",
        "experiment/value.yaml: optim.lr=fast: must be a number; type for example optim.lr=0.1",
    ),
    "experiment/package": (
        "trainer:\n  epochs: 3\n",
        "experiment/package.yaml: sets the key experiment, which isn't there; let it begin with: "
        "# @package _global_",
    ),
    "experiment/defaults": (
        "defaults:\n  - nope\n",
        "experiment/defaults.yaml: names 'experiment/nope', which isn't there; mend its defaults",
    ),
    "experiment/bytes": ("\xff\xfe", "a config file isn't text in UTF-8"),
}


@pytest.mark.parametrize("multirun", [(), ("-m",)])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_ones_own_that_is_wrong(
    name: str,
    multirun: tuple[str, ...],
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    content, line = FILES[name]
    file = tmp_path / "mine" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content.encode("latin-1"))
    answer = train(*multirun, "--config-dir", str(tmp_path / "mine"), name.replace("/", "="))
    assert (answer.code, answer.out) == (2, ""), answer
    assert line in answer.err
    assert answer.err.count("\n") == 1
