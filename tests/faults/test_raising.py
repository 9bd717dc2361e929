"""Code that raises: a user's own, a writer's. It ends its own runs, with the cause in one line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from packs import Trained, train
from sweeping import ONE_PACK, Outcome, complete, left, runs
from test_resume import folder, what_is_left

from actsweep.runs import metrics_file, run_dir
from actsweep.runs.run_dir import RunDir

MINE = "+callbacks.mine._target_=raising.callback"


def ends(run: RunDir) -> tuple[str, str | None]:
    status = run_dir.read_status(run) or {}
    return status["state"], status["cause"]


def sweep_of(outputs: Path, base: Sequence[str], *words: str) -> tuple[str, list[RunDir]]:
    """A sweep in which some runs fail: what it says, and its runs."""
    log = outputs.parent / f"{outputs.name}.txt"
    code = complete(outputs, *words, base=(*base, "logger=disabled"), log=log)
    assert code == 1, log.read_text()
    assert "Traceback" not in log.read_text()
    return log.read_text(), runs(outputs)


def test_activation(tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome) -> None:
    conf = tmp_path / "conf" / "act" / "mine.yaml"
    conf.parent.mkdir(parents=True)
    conf.write_text("name: mine\n_target_: raising.activation\n")
    base = ("--config-dir", str(tmp_path / "conf"), "act=mine,relu", "seed=0,1", *ONE_PACK[2:])
    said, found = sweep_of(tmp_path / "out", base)
    bad, good = found[:2], found[2:]
    cause = "ZeroDivisionError: my activation can't be traced\nas it stands"
    assert [ends(run) for run in bad] == [("failed", cause)] * 2
    assert [left(run) for run in good] == undisturbed[:2]
    lines = [line for line in said.splitlines() if "my activation can't be traced" in line]
    assert len(lines) == 2  # when it happens, and under the table
    assert not any(line.startswith("as it stands") for line in said.splitlines())
    outcome(
        "an activation raises when it is traced",
        "its runs have failed, with the cause in their status; the others have the bytes of an "
        "undisturbed sweep; exit code 1, one line, no traceback",
    )


@pytest.mark.slow
def test_probe(tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome) -> None:
    words = (MINE, "+callbacks.mine.probe=true,false", "seed=0")
    said, found = sweep_of(tmp_path / "out", ("act=relu", *ONE_PACK[2:]), *words)
    (bad,) = [run for run in found if ends(run)[0] == "failed"]
    (good,) = [run for run in found if run != bad]
    assert "my probe can't be traced" in str(ends(bad)[1])
    assert left(good)["parameters"] == undisturbed[0]["parameters"]
    assert said.count("my probe can't be traced") == 2
    outcome(
        "a callback's probe raises when it is traced",
        "its runs have failed, with the cause in their status; the others aren't touched; exit "
        "code 1, one line, no traceback",
    )


def test_hook(tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome) -> None:
    said, found = sweep_of(tmp_path / "out", ONE_PACK, MINE, "+callbacks.mine.hook=24")
    states = [ends(run)[0] for run in found]
    assert states == ["complete", "failed", "complete"]
    assert ends(found[1])[1] == "callbacks.mine: ZeroDivisionError: my hook is broken"
    for place in (0, 2):
        assert left(found[place])["parameters"] == undisturbed[place]["parameters"]
    assert said.count("my hook is broken") == 1
    outcome(
        "the hook of one run raises at some step",
        "that run has failed, with the cause in its status; the others aren't touched; exit code "
        "1, one line, no traceback",
    )


@pytest.mark.slow
def test_writer(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    """Of one member the writer raises at a step."""
    members = trained.cut(tmp_path)
    whole, own = metrics_file._append, folder(members[0]).run_id

    def raises(one: Any, *arguments: Any) -> None:
        if one.info.run_id == own:
            raise ZeroDivisionError("the writer is broken")
        whole(one, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(metrics_file, "_append", raises)
        bad, *good = train(members)
    assert bad["state"] == "failed"
    assert "the writer is broken" in str(ends(folder(members[0]))[1])
    assert "failed" not in [one["state"] for one in good]
    for one, expected in zip(members[1:], trained.expected[1:], strict=True):
        assert what_is_left(one) == expected
    train(members)
    trained.assert_whole(members)
    outcome(
        "the metrics writer raises for one run",
        "that run has failed, with the cause in its status; the others have the bytes of an "
        "undisturbed sweep; started again, so has that run",
    )


def test_with_fail_fast_no_further_pack_is_begun(
    tmp_path: Path, undisturbed: list[dict[str, Any]], outcome: Outcome
) -> None:
    conf = tmp_path / "conf" / "act" / "mine.yaml"
    conf.parent.mkdir(parents=True)
    conf.write_text("name: mine\n_target_: raising.activation\n")
    base = ("--config-dir", str(tmp_path / "conf"), "act=mine,relu", "seed=0,1", *ONE_PACK[2:])
    said, found = sweep_of(tmp_path / "out", (*base, "sweep.fail_fast=true"))
    assert [ends(run)[0] for run in found] == ["failed", "failed"]  # relu has no folder
    assert "2 more skipped" not in said
    assert " skipped: mine-mlp2-torch-s0-" in said
    assert "has failed, with sweep.fail_fast=true" in said
    (name,) = [folder.name for folder in (tmp_path / "out" / "sweeps").iterdir()]
    assert f"retry:  actsweep retry {tmp_path / 'out' / 'sweeps' / name}" in said
    outcome(
        "a run fails with sweep.fail_fast=true",
        "no further pack is begun; the runs of those are skipped, exit code 1; actsweep retry "
        "trains what is left",
    )


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (
            "array",
            "callbacks.mine: norm/hidden_1 of its probe is an array of shape (3,), not a number",
        ),
        ("number", "callbacks.mine: its probe returns int, not a mapping of names to numbers"),
        ("name", "callbacks.mine: the metric norm must be family/layer; give it another name"),
    ],
)
def test_a_probe_that_returns_what_no_row_can_hold(what: str, line: str, tmp_path: Path) -> None:
    """Nothing has been trained, so it is bad input."""
    words = ("+callbacks.mine._target_=raising.wrong", f"+callbacks.mine.what={what}", "seed=0")
    log = tmp_path / "log.txt"
    base = ("act=relu", *ONE_PACK[2:], "logger=disabled")
    assert complete(tmp_path / "out", *words, base=base, log=log) == 2
    (told,) = [text for text in log.read_text().splitlines() if text.startswith("error: ")]
    assert line in told
    assert not runs(tmp_path / "out")
