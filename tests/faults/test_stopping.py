"""Signals at every stage of a sweep, twice, and with little time left."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sweeping import ONE_PACK, Gate, Outcome, complete, last_steps, left, runs, sweep, wait_for

from actsweep.runs import checkpoint, run_dir

SEEDS = (0, *range(3, 64), 1, 2)
SIXTY_FOUR = ("act=relu", f"seed={','.join(map(str, SEEDS))}", *ONE_PACK[2:])
SAVE = "trainer.save_every_s=0"


def relu(undisturbed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in undisturbed if one["run"].startswith("relu")]


def end(process: Any, number: int, seconds: float) -> int | None:
    """Send a signal; the exit code, within some seconds."""
    os.kill(process.pid or 0, number)
    process.join(seconds)
    return process.exitcode


def test_second_ctrl_c(tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome) -> None:
    gate, folder, log = Gate(tmp_path / "gate", 5), tmp_path / "out", tmp_path / "log.txt"
    how: dict[str, Any] = {"base": ONE_PACK, "log": log}
    with sweep(folder, SAVE, before=[gate], **how) as process:
        gate.wait()
        before = [checkpoint.steps(run.checkpoints) for run in runs(folder)]
        assert process.pid
        os.kill(process.pid, signal.SIGINT)
        wait_for(lambda: "Ctrl-C again" in log.read_text())  # else two signals may become one
        assert process.is_alive()  # it waits for the chunk to end
        began = time.monotonic()
        assert end(process, signal.SIGINT, 20) == 130, log.read_text()
        assert time.monotonic() - began < 10
    assert "Traceback" not in log.read_text()
    assert [checkpoint.steps(run.checkpoints) for run in runs(folder)] == before == [[24, 18]] * 3
    assert [state(run) for run in runs(folder)] == ["preempted"] * 3
    assert complete(folder, **how) == 0, log.read_text()
    assert log.read_text().count("3 runs go on from step 24 of 54") == 1
    assert [left(run) for run in runs(folder)] == relu(undisturbed)
    outcome(
        "Ctrl-C twice",
        "ends at once, exit code 130, without saving; started again, every run goes on from its "
        "last checkpoint and ends with the bytes of an undisturbed one",
    )


def state(run: run_dir.RunDir) -> str | None:
    return (run_dir.read_status(run) or {}).get("state")


@dataclass(frozen=True)
class Signalled:
    """The process gets a signal when it comes to a certain place, or soon after; what is cleaned up
    there may fail because of it, as OmegaConf's flags do in the middle of a change."""

    where: str
    number: int
    after: float = 0.0
    call: int = 1
    spoils: bool = False

    def __call__(self) -> None:
        import importlib

        module, _, name = self.where.rpartition(".")
        owner: Any = importlib.import_module(module)
        whole, calls = getattr(owner, name), [0]

        def signalled(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            try:
                if calls[0] == self.call and self.after:
                    threading.Timer(self.after, os.kill, (os.getpid(), self.number)).start()
                elif calls[0] == self.call:
                    os.kill(os.getpid(), self.number)
                return whole(*arguments, **named)
            except KeyboardInterrupt:
                if self.spoils:
                    raise AttributeError("half done") from None
                raise

        setattr(owner, name, signalled)


def without_cache() -> None:
    """Let the process compile everything anew."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)


STAGES: dict[str, tuple[Callable[[], None], ...]] = {
    "runs are composed": (
        Signalled("actsweep.config.resolve.finish", signal.SIGTERM, spoils=True),
    ),
    "a pack is set up": (
        Signalled("actsweep.train.setup.plan_memory", signal.SIGTERM, spoils=True),
    ),
    "data are loaded": (Signalled("actsweep.data.load", signal.SIGTERM),),
    "a pack is compiled": (
        without_cache,
        Signalled("actsweep.train.programs.compile_lowered", signal.SIGTERM),
    ),
    "the last checkpoints are saved": (
        Signalled("actsweep.train.cohort._close", signal.SIGTERM, call=2),
    ),
    "the table is made": (Signalled("actsweep.sweeps.results.finish", signal.SIGTERM),),
}


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(stage, marks=[pytest.mark.slow] * (stage != "data are loaded"))
        for stage in STAGES
    ],
)
def test_sigterm_while(
    stage: str, tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    folder, log = tmp_path / "out", tmp_path / "log.txt"
    how: dict[str, Any] = {"base": ONE_PACK, "log": log}
    code = complete(folder, before=STAGES[stage], **how)
    said = log.read_text()
    assert code == 75, said
    assert "Traceback" not in said
    assert folder.joinpath("runs").exists() == (stage in list(STAGES)[4:])
    assert "running" not in [state(run) for run in runs(folder)]
    assert complete(folder, **how) == 0, log.read_text()
    assert [left(run) for run in runs(folder)] == relu(undisturbed)
    outcome(
        f"SIGTERM while {', while '.join(STAGES)}",
        "exit code 75, no traceback; started again, every run ends with the bytes of an "
        "undisturbed one",
    )


@pytest.mark.slow
def test_sixty_four_runs_and_little_time(
    tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    """Of seeds 0, 1 and 2, whose ends are known, the first is saved first and the others last."""
    gate, folder, log = Gate(tmp_path / "gate", 3), tmp_path / "out", tmp_path / "log.txt"
    how: dict[str, Any] = {"base": SIXTY_FOUR, "log": log}
    with sweep(folder, "trainer.grace_s=0.5", before=[gate], **how) as process:
        gate.wait()
        os.kill(process.pid or 0, signal.SIGTERM)
        gate.open()
        began = time.monotonic()
        process.join(30)
        assert time.monotonic() - began < 10
        assert process.exitcode == 75, log.read_text()
    saved = [run for run in runs(folder) if checkpoint.steps(run.checkpoints)]
    assert 0 < len(saved) < 62
    assert f"saved {len(saved)} of 64 runs in time" in log.read_text()
    assert complete(folder, **how) == 0, log.read_text()
    ended = runs(folder)
    assert [run for run in ended if "resumed" in (run_dir.read_status(run) or {})] == saved
    known = {one["run"]: one for one in relu(undisturbed)}
    assert {run.run_id: left(run) for run in ended if run.run_id in known} == known
    assert {last_steps(folder)[run.run_id] for run in ended} == {54}
    outcome(
        "SIGTERM to a pack of 64 with a grace that is too short to save all",
        "those that were saved in time go on from there, the others from an earlier checkpoint or "
        "anew; all end with the bytes of an undisturbed one",
    )
