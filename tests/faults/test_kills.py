"""A sweep is killed again and again; what it ends with is what it would have been."""

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from sweeping import (
    ENDINGS,
    ONE_PACK,
    WORDS,
    Outcome,
    complete,
    last_steps,
    left,
    runs,
    sweep,
    w_and_b,
)

from actsweep.runs.metrics_file import read_metrics


def kill_until_done(
    folder: Path, chance: random.Random, most: int, base: tuple[str, ...]
) -> tuple[int, int]:
    """Start a sweep, end it at a random moment, start it again, until it has ended by itself; how
    many times it was killed, and how many of them while it trained."""
    kills = training = 0
    while kills < most:
        number, every = chance.choice(ENDINGS), chance.choice(("0", "0", "60"))
        before = last_steps(folder)
        with sweep(folder, f"trainer.save_every_s={every}", base=base) as process:
            if chance.random() < 0.3:  # any moment, also while it starts
                process.join(chance.uniform(0.0, 3.0))
            else:  # soon after a row
                while process.is_alive() and last_steps(folder) == before:
                    process.join(0.02)
                process.join(chance.expovariate(4.0))
            if process.exitcode is not None:
                assert process.exitcode == 0, (folder / "log.txt").read_text()
                return kills, training
            os.kill(process.pid or 0, number)
            process.join(30)
            assert process.exitcode in expected(number), (folder / "log.txt").read_text()
        kills, training = kills + 1, training + (last_steps(folder) != before)
    assert complete(folder, base=base) == 0, (folder / "log.txt").read_text()
    return kills, training


def expected(number: int) -> tuple[int, ...]:
    """Exit codes of a process that got a signal: also 0, if it came at the very end."""
    if number == signal.SIGKILL:
        return (-signal.SIGKILL, 0)
    before_python_listens = -number
    return (130 if number == signal.SIGINT else 75, before_python_listens, 0)


PACKS = {20: WORDS, 40: ("act=relu", *WORDS[1:])}
"""How many times a sweep of two packs is killed, and one of one, whose restarts are quicker."""


@pytest.mark.slow
@pytest.mark.parametrize("kills", PACKS)
def test_killed_at_random_moments(
    kills: int, tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    base = PACKS[kills]
    if base != WORDS:
        undisturbed = [one for one in undisturbed if one["run"].startswith("relu")]
    chance, done, training = random.Random(kills), 0, 0
    while done < kills:
        folder = tmp_path / f"after {done}"
        more, trained = kill_until_done(folder, chance, kills - done, base)
        done, training = done + more, training + trained
        assert [left(run) for run in runs(folder)] == undisturbed
        for run in runs(folder):
            assert w_and_b(run) == read_metrics(run.metrics)["step"].tolist(), run.path
    assert training > kills / 3
    outcome(
        f"SIGKILL, SIGTERM, SIGINT, SIGUSR2 or SIGHUP at a random moment, {kills} times",
        "started again, every run ends with the bytes of an undisturbed one: parameters, metrics, "
        "histograms; no run is lost, no step stands twice, in W&B neither",
    )


@pytest.mark.slow
def test_a_model_with_running_averages_and_dropout(tmp_path: Path, outcome: Outcome) -> None:
    base = (*ONE_PACK, "model._target_=mixed.Mixed", "model.name=mixed", "trainer.epochs=6")
    assert complete(tmp_path / "whole", base=base) == 0
    expected = [left(run) for run in runs(tmp_path / "whole")]
    kills, training = kill_until_done(tmp_path / "out", random.Random(20), 10, base)
    assert [left(run) for run in runs(tmp_path / "out")] == expected
    assert training > 3, (kills, training)
    outcome(
        "SIGKILL, SIGTERM, SIGINT, SIGUSR2 or SIGHUP at a random moment, 10 times, with batch "
        "normalisation and dropout",
        "started again, every run ends with the bytes of an undisturbed one",
    )
