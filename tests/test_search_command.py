"""hydra/sweeper=optuna as it is typed: what is refused, trained, killed and gone on with."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import slurm_cluster
from test_app import ROOT, Train, logging_as_before, train  # noqa: F401
from test_going_on import ask, metrics, started, sweep_in, wait
from test_search import study_in

from actsweep.cli.main import main
from actsweep.runs import run_dir
from actsweep.runs.leases import owners
from actsweep.sweeps import exit_codes
from actsweep.sweeps import search as searches

RATES = "optim.lr=tag(log,interval(1e-3,1))"
OPTUNA = ("hydra/sweeper=optuna", "hydra.sweeper.trials=4", "hydra.sweeper.batch=2")

HALVING = ("hydra.sweeper.pruner=halving",)
PRUNING = ("hydra.sweeper.pruner=median", "hydra.sweeper.n_startup_trials=1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([RATES, "optim.lr=0.1"], "nothing is searched"),
        ([RATES, "hydra.sweeper.sampler=tpee"], "hydra.sweeper.sampler=tpee: no such name; did"),
        ([RATES, "hydra.sweeper.batch=0"], "hydra.sweeper.batch=0: must be a whole number of at"),
        ([RATES, "sweep.pairs=[act,seed]"], "sweep.pairs: is for hydra/sweeper=pack"),
        (["optim.lr=interval(-1,1)"], "optim.lr=-1.0: must be"),
        (["act=relu,reluu", RATES], "act=reluu: no such name; did you mean act=relu"),
        ([RATES, "trainer.distributed=slurm"], "needs hydra/launcher=slurm"),
        (
            [RATES, "hydra/launcher=slurm", "slurm.wait=false"],
            "slurm.wait=false: hydra/sweeper=optuna waits",
        ),
        (["depth.layers=tag(log,interval(1,4))"], "depth.layers=1.0: must be an integer"),
        ([RATES, "hydra.sweeper.pruner=medain"], "did you mean hydra.sweeper.pruner=median"),
        ([RATES, "hydra.sweeper.pruner=median"], "n_startup_trials=5: nothing would be pruned"),
        ([RATES, *HALVING, "hydra.sweeper.batch=4"], "judges trials by those of earlier batches"),
        ([RATES, *HALVING, "trainer.epochs=2", "hydra.sweeper.min_resource=2"], "at most 1, since"),
        ([RATES, *HALVING, "trainer.epochs=range(2,9)"], "and trainer.epochs is searched"),
        (
            [RATES, *HALVING, "hydra/launcher=slurm", "trainer.distributed=slurm"],
            "hydra.sweeper.pruner=halving: isn't there for runs that several processes train",
        ),
    ],
)
def test_bad_input_starts_nothing(
    words: list[str],
    message: str,
    tmp_path: Path,
    train: Train,  # noqa: F811
) -> None:
    code, _, err = train("-m", *OPTUNA, *words)
    assert code == exit_codes.BAD_INPUT, err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("outputs/*"))


def test_without_optuna_the_extra_is_named(
    train: Train,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(searches, "find_spec", lambda name: None)
    code, _, err = train("-m", *OPTUNA, RATES)
    assert code == exit_codes.BAD_INPUT
    assert 'type pip install "actsweep[optuna]"' in err


@pytest.mark.slow
@pytest.mark.usefixtures("logging_as_before", "compiled_once")
def test_a_search_trains_in_packs_and_goes_on(
    tmp_path: Path,
    train: Train,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another space in the same folder is refused; more trials are added to it."""
    folder = tmp_path / "outputs/sweeps/s"
    words = ("-m", *OPTUNA, "act=relu", "seed=0,1", f"hydra.sweep.dir={folder}")
    code, out, err = train(*words, RATES)
    assert code in (exit_codes.OK, exit_codes.SOME_FAILED), err
    assert re.search(r"\nsearch: 4 of 4 trials, best val/accuracy [\d.]+: optim.lr=[\d.]+\n", out)
    assert "search: 2 of 4 trials" in err
    search = searches.read(folder)
    assert search is not None
    assert [len(trial.runs) for trial in search.trials] == [2, 2, 2, 2]
    table = run_dir.read_members_csv(folder)
    assert len(table) == 8
    told = [trial.value for trial in study_in(folder).trials]
    for trial, value in zip(search.trials, told, strict=True):
        rows = [row for row in table if row["run_id"] in trial.runs]
        assert {row["lr"] for row in rows} == {trial.params["optim.lr"]}
        if value is not None:
            assert value == pytest.approx(np.mean([row["best_val_accuracy"] for row in rows]))
    code, _, err = train(*words, "optim.lr=tag(log,interval(1e-3,2))")
    assert code == exit_codes.BAD_INPUT
    assert "optim.lr from 0.001 to 1 in its logarithm, not optim.lr from 0.001 to 2" in err
    code, _, err = train(*words, RATES, "depth.width=9")
    assert code == exit_codes.BAD_INPUT
    assert "its fixed overrides, its seeds or your own code have changed" in err
    code, out, _ = train(*words, RATES, "pack.plan=true", f"hydra.sweep.dir={tmp_path / 'planned'}")
    assert code == exit_codes.OK
    assert "4 runs in 1 pack" in out
    assert not (tmp_path / "planned").exists()
    outputs = str(tmp_path / "outputs")
    code = main(["resume", "s", "hydra.sweeper.trials=5", "--outputs", outputs])
    assert code in (exit_codes.OK, exit_codes.SOME_FAILED), capsys.readouterr().err
    more = searches.read(folder)
    assert more is not None
    assert more.trials[:4] == search.trials
    assert "search: 5 of 5 trials" in capsys.readouterr().out
    assert main(["resume", "s", "optim.lr=1", "--outputs", outputs]) == exit_codes.BAD_INPUT
    assert "a search or a race goes on as it was submitted" in capsys.readouterr().err


SEARCHED = (
    *("-m", *OPTUNA, "act=tanh", RATES, "debug=default", "depth=2", "depth.width=8"),
    *("callbacks=none", "trainer.save_every_s=0", "trainer.epochs=50", "trainer.patience=null"),
)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_killed_search_leaves_what_an_undisturbed_one_does(launcher: str, tmp_path: Path) -> None:
    """The same suggestions, the same bytes; another one that goes on meanwhile is refused."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    code, _, err = ask(whole, str(ROOT / "train.py"), *SEARCHED)
    assert code == exit_codes.OK, err
    words = (str(ROOT / "train.py"), *SEARCHED, f"hydra/launcher={launcher}")
    with started(broken, *words):
        wait(lambda: len([*(broken / "outputs").glob("runs/*/metrics.jsonl")]) > 2)
        code, _, err = ask(broken, "-m", "actsweep", "resume", "last")
        assert code == exit_codes.BAD_INPUT
        assert "another process goes on with it" in err
    out = gone_on(broken)
    assert "search: 4 of 4 trials" in out
    assert metrics(broken / "outputs") == metrics(whole / "outputs")
    found = [searches.read(sweep_in(folder / "outputs")) for folder in (whole, broken)]
    assert found[0] == found[1]


def gone_on(folder: Path) -> str:
    """What `actsweep resume last` prints, once all jobs of a command that was killed are dead."""
    for owner in owners(folder / "outputs").values():  # jobs in sessions of their own
        with suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGKILL)
    wait(lambda: not owners(folder / "outputs"))
    code, out, err = ask(folder, "-m", "actsweep", "resume", "last")
    assert code == exit_codes.OK, err
    return out


def ends(outputs: Path) -> dict[str, tuple[str, int, str]]:
    """Each run's state, step and cause."""
    runs = [path.parent.name for path in outputs.glob("runs/*/status.json")]
    known = {run: run_dir.read_status(run_dir.RunDir(outputs, run)) or {} for run in runs}
    return {run: (of["state"], of["step"], of["cause"]) for run, of in known.items()}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_killed_search_prunes_what_an_undisturbed_one_does(launcher: str, tmp_path: Path) -> None:
    """In jobs of one run and of several, which changes no decision; pruned runs then train on."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    more = ("hydra.sweeper.trials=6", "trainer.epochs=80")
    code, _, err = ask(whole, str(ROOT / "train.py"), *SEARCHED, *PRUNING, *more)
    assert code == exit_codes.OK, err
    words = (*SEARCHED, *PRUNING, *more, "pack.size=1", f"hydra/launcher={launcher}")
    with started(broken, str(ROOT / "train.py"), *words):
        wait(lambda: len([*(broken / "outputs").glob("runs/*/metrics.jsonl")]) > 2)
    assert re.search(r"search: 6 of 6 trials, [1-5] pruned, best val/accuracy", gone_on(broken))
    assert metrics(broken / "outputs") == metrics(whole / "outputs")
    assert ends(broken / "outputs") == ends(whole / "outputs")
    found = [searches.read(sweep_in(folder / "outputs")) for folder in (whole, broken)]
    assert found[0] == found[1]
    assert found[0] is not None
    rates = [
        str(trial.params["optim.lr"])
        for trial in found[0].trials
        if found[0].curves[trial.runs[0]].state == "pruned"
    ]
    assert rates
    if launcher != "basic":
        return
    alone = tmp_path / "alone"
    alone.mkdir()
    fixed = [word for word in SEARCHED if word != RATES and word not in OPTUNA]
    for folder in (broken, alone):
        rate = f"optim.lr={','.join(rates)}"
        code, _, err = ask(folder, str(ROOT / "train.py"), *fixed, more[1], rate)
        assert code == exit_codes.OK, err
    trained = metrics(alone / "outputs")
    assert len(trained) == len(rates)
    assert metrics(broken / "outputs").items() >= trained.items()


@pytest.mark.slow
def test_a_search_on_a_cluster(tmp_path: Path) -> None:
    """Each batch is an array of its own, whose jobs prune; the last line names the best."""
    with slurm_cluster.cluster(nodes=2) as cluster:
        slurm = ("hydra/launcher=slurm", "slurm.gpus=0", "slurm.cpus=1")
        words = (*SEARCHED, *slurm, *PRUNING, "trainer.epochs=3", "seed=0,1")
        code, out, err = ask(tmp_path, str(ROOT / "train.py"), *words, **cluster.env)
    assert code == exit_codes.OK, err
    assert out.count("array") == 2
    last = r"\nsearch: 4 of 4 trials, [12] pruned, best val/accuracy [\d.]+: optim.lr=[\d.]+\n$"
    assert re.search(last, out)
    assert len(run_dir.read_members_csv(sweep_in(tmp_path / "outputs"))) == 8


def test_a_sweep_does_not_take_over_a_searchs_folder(tmp_path: Path, train: Train) -> None:  # noqa: F811
    """What the search has pruned would pass for trained in a sweep of the same name."""
    folder = tmp_path / "outputs/sweeps/s"
    folder.mkdir(parents=True)
    (folder / "search.json").write_text("{}")
    code, _, err = train("-m", "seed=0,1", f"hydra.sweep.dir={folder}")
    assert code == exit_codes.BAD_INPUT
    assert "holds a search, a race or a tuning, which goes on by actsweep resume" in err
    assert [path.name for path in folder.iterdir()] == ["search.json"]
