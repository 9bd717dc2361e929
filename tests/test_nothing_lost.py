"""What a refused command, a failing training, `gc` and `rm` leave alone."""

import dataclasses
import os
import shlex
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from test_app import Train, files, logging_as_before, train  # noqa: F401 (fixtures)
from test_manage import leave, outputs, submit  # noqa: F401 (a fixture)
from test_run import make
from test_wandb import use_server
from wandb.sdk.lib.wbauth import unauthenticate_session

from actsweep.cli import cleanup
from actsweep.cli.main import main
from actsweep.runs import run_dir
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps.plan import read_plan
from actsweep.train.active_set import ActiveSet
from actsweep.utils.errors import UserError
from actsweep.utils.files import is_inside, remove

ONLINE = ("logger=online", "logger.require_online=true")


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder but those that each command writes and removes again."""
    return {name: (folder / name).read_bytes() for name in files(folder) if ".claims" not in name}


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_server(monkeypatch, 9)
    yield
    unauthenticate_session(update_settings=False)


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("words", [(), ("-m", "seed=0,1")])
def test_a_command_that_w_and_b_refuses_leaves_complete_runs(
    train: Train,  # noqa: F811
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    assert train(*words, "logger=disabled").code == 0
    before = contents(tmp_path / "outputs" / "runs")
    sweeps = files(tmp_path / "outputs" / "sweeps")
    answer = train(*words, "rerun=all", *ONLINE)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert "logger.require_online=true" in answer.err
    assert contents(tmp_path / "outputs" / "runs") == before
    assert files(tmp_path / "outputs" / "sweeps") == sweeps


def test_an_agent_s_pack_that_is_refused_leaves_complete_runs(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert train("-m", "seed=0,1", "logger=disabled").code == 0
    before = contents(tmp_path / "outputs" / "runs")
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    answer = train("-m", "seed=0,1", "rerun=all", "logger=offline")
    assert answer.code == 2
    assert "WANDB_SWEEP_ID" in answer.err
    assert contents(tmp_path / "outputs" / "runs") == before


def test_a_user_error_in_mid_training_is_a_failure(
    train: Train,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a user's probe may raise when it is traced again, for fewer members."""

    def refuse(active: ActiveSet, ended: object) -> bool:
        raise UserError("callbacks.mine: not for so few members")

    with monkeypatch.context() as patch:
        patch.setattr(ActiveSet, "repack", refuse)
        answer = train("-m", "seed=0,1", "trainer.save_every_s=0")
    assert answer.code == 1
    assert "not for so few members" in answer.out + answer.err
    folders = [RunDir(tmp_path / "outputs", p.name) for p in (tmp_path / "outputs/runs").iterdir()]
    statuses = [run_dir.read_status(folder) or {} for folder in folders]
    assert [status["state"] for status in statuses] == ["failed"] * 2
    assert all(folder.metrics.stat().st_size for folder in folders)
    assert train("-m", "seed=0,1").code == 0


NAMED = "outputs/sweeps/mine"


@pytest.mark.parametrize(
    "refused",
    [
        ("optim.lr=-1",),
        ("seed=3", "pack.plan=true"),
        ("seed=3",),
        ("-m", "seed=3,4"),
        ("-m", "seed=3,4", "pack.plan=true"),
    ],
)
def test_a_folder_that_holds_another_sweep(
    train: Train,  # noqa: F811
    tmp_path: Path,
    refused: tuple[str, ...],
) -> None:
    multi = refused[0] == "-m"
    where = f"hydra.{'sweep' if multi else 'run'}.dir={tmp_path / NAMED}"
    first = ("-m", "seed=0,1") if multi else ()
    assert train(*first, where).code == 0
    before = contents(tmp_path / NAMED)
    answer = train(*refused, where)
    assert answer.code == (0 if refused[-1] == "pack.plan=true" else 2), answer
    if refused[-1].startswith("seed"):
        assert "holds another sweep" in answer.err
        assert answer.err.count("\n") == 1
    assert contents(tmp_path / NAMED) == before


def test_a_sweep_is_extended(train: Train, tmp_path: Path) -> None:  # noqa: F811
    where = f"hydra.sweep.dir={tmp_path / NAMED}"
    assert train("-m", "seed=0,1", where).code == 0
    answer = train("-m", "seed=0,1,2", where)
    assert answer.code == 0
    assert "mine: extended by 1 run\n" in answer.err
    assert len(read_plan(tmp_path / NAMED).runs) == 3


def test_a_refused_command_removes_nothing_of_a_user_s_folder(
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    for name in ("2026/notes.log", "1/train.log", ".submitit/job.txt"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).write_text("mine")
    before = contents(tmp_path / "mine")
    assert train("optim.lr=-1", f"hydra.run.dir={tmp_path / 'mine'}").code == 2
    assert contents(tmp_path / "mine") == before
    refused = ("-m", "seed=0,1", "rerun=all", "trainer.batch_size=5000")
    assert train(*refused, f"hydra.sweep.dir={tmp_path / 'mine'}").code == 2
    assert contents(tmp_path / "mine") == before


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder outside `outputs` that looks like what `gc` removes."""
    folder = tmp_path / "victim"
    for name in (".git/HEAD", "step-1/a", "step-2/a", ".step-3-9.tmp/a", "run-1/x.wandb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    (folder / "run-1" / "x.wandb.synced").touch()
    (folder / ".notes.tmp").touch()
    return folder


@pytest.mark.parametrize("link", ["checkpoints", "wandb", "", "sweep"])
def test_gc_follows_no_link_out_of_outputs(
    outputs: Path,  # noqa: F811
    victim: Path,
    link: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cleanup, "STALE_S", -1.0)
    (run,) = submit(outputs, [make(outputs)])
    leave(run, "complete")
    before = contents(victim)
    if link == "sweep":
        (outputs / "sweeps" / "linked").symlink_to(victim)
    elif link:
        (run.path / link).symlink_to(victim)
    else:
        linked = outputs / "runs" / "linked"
        linked.symlink_to(victim)
        run_dir.write_status(RunDir(outputs, "linked"), "complete", step=1, epoch=1)
        (victim / "checkpoints").mkdir()
        (victim / "checkpoints" / ".step-3.tmp").mkdir()
        before = contents(victim)
    assert main(["gc"]) == 0
    assert contents(victim) == before
    assert "leads out of outputs" in capsys.readouterr().err


def test_training_again_follows_no_link(outputs: Path, victim: Path) -> None:  # noqa: F811
    (run,) = submit(outputs, [make(outputs)])
    leave(run, "running")
    run.checkpoints.symlink_to(victim)
    before = contents(victim)
    run_dir.prepare(run, {})
    assert contents(victim) == before
    assert not run.checkpoints.exists()


def test_is_inside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    assert is_inside(tmp_path / "in", tmp_path / "in" / "a" / "b")
    assert not is_inside(tmp_path / "in", tmp_path / "in" / "link")
    assert not is_inside(tmp_path / "in", tmp_path / "in" / "link" / "a")
    (tmp_path / "in" / "dangling").symlink_to("nothing")
    assert is_inside(tmp_path / "in", tmp_path / "in" / "dangling")
    assert not is_inside(tmp_path / "in", tmp_path / "in" / ".." / "a")


def collect(folder: Path) -> int:
    """Remove a crowd of half-written files beside other processes that do the same."""
    os.chdir(folder.parent)
    return main(["gc"])


def test_several_gc_at_once(outputs: Path) -> None:  # noqa: F811
    runs = submit(outputs, [make(outputs, seed=seed) for seed in range(30)])
    for run in runs:
        leave(run, "complete")
        for step in range(20):
            (run.checkpoints / f"step-{step}" / "deep").mkdir(parents=True)
            (run.checkpoints / f"step-{step}" / "deep" / "array").write_bytes(b"0" * 100)
        for index in range(20):
            (run.path / f".half.{index}.tmp").touch()
    (outputs / ".alive").mkdir()
    for index in range(500):
        (outputs / ".alive" / f"host-{index}").touch()
        os.utime(outputs / ".alive" / f"host-{index}", (0, 0))
    with ProcessPoolExecutor(3, get_context("forkserver")) as pool:
        codes = [*pool.map(collect, [outputs.absolute()] * 3)]
    assert codes == [0, 0, 0]
    assert [len([*run.checkpoints.iterdir()]) for run in runs] == [1] * 30
    assert not [*outputs.glob("runs/*/.*.tmp")]
    assert not [*(outputs / ".alive").iterdir()]


def test_remove_beside_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    (tmp_path / "a" / "b").mkdir(parents=True)
    rmtree = shutil.rmtree

    def raced(path: Path) -> None:
        rmtree(path / "b")
        rmtree(path / "b")  # as if another process had been quicker

    monkeypatch.setattr(shutil, "rmtree", raced)
    with pytest.raises(FileNotFoundError):
        raced(tmp_path / "a")
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def typed(words: str) -> int:
    return main(shlex.split(words))


def test_rm_asks(
    outputs: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = submit(outputs, [make(outputs, seed=seed) for seed in range(2)])
    for run in (first, second):
        leave(run, "complete")
    assert typed(f"rm {first.run_id}") == 2
    assert "there is nobody to ask; type --yes" in capsys.readouterr().err
    assert typed(f"rm --dry-run {first.run_id}") == 0
    assert f"would remove {first.path}" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert typed(f"rm {first.run_id}") == 2
    assert first.path.is_dir()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert typed(f"rm {first.run_id}") == 0
    assert not first.path.exists()
    assert second.path.is_dir()


def test_rm_removes_a_sweep_but_no_run_of_another(outputs: Path) -> None:  # noqa: F811
    both = submit(outputs, [make(outputs, seed=seed) for seed in (0, 1)], "first")
    shared, alone = both
    submit(outputs, [make(outputs, seed=0)], "second")
    for run in both:
        leave(run, "complete")
    assert typed("rm --yes --keep-runs first") == 0
    assert not (outputs / "sweeps" / "first").exists()
    assert shared.path.is_dir()
    submit(outputs, [make(outputs, seed=seed) for seed in (0, 1)], "first")
    assert typed("rm --yes first") == 0
    assert shared.path.is_dir()
    assert not alone.path.exists()
    assert typed("rm --yes second") == 0
    assert not shared.path.exists()


@pytest.mark.parametrize("where", ["project", "outputs/sweeps"])
def test_rm_of_a_folder_that_holds_more_than_a_sweep(
    outputs: Path,  # noqa: F811
    where: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`hydra.run.dir=.` leaves a plan among the user's own files."""
    submit(outputs, [make(outputs)], "first")
    Path(where).mkdir(exist_ok=True)
    (Path(where) / "notes.txt").write_text("mine")
    plan = read_plan(outputs / "sweeps" / "first")
    dataclasses.replace(plan, folder=Path(where).absolute()).write()
    before = contents(Path())
    assert typed(f"rm --yes {Path(where).absolute()}") == 2
    assert "it may hold other things than a sweep" in capsys.readouterr().err
    assert contents(Path()) == before


def test_rm_of_a_linked_run_removes_the_link(outputs: Path, victim: Path) -> None:  # noqa: F811
    (outputs / "runs").mkdir(parents=True)
    (outputs / "runs" / "linked").symlink_to(victim)
    (victim / "status.json").write_text("{}")
    before = contents(victim)
    assert typed("rm --yes linked") == 0
    assert contents(victim) == before
    assert not (outputs / "runs" / "linked").is_symlink()
