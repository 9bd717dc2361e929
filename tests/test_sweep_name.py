"""A sweep's name, notes and tags: where they are shown, and how commands find it by its name."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from actsweep.cli.main import main
from actsweep.config import identity, resolve
from actsweep.config.schema import LoggerConfig, RunConfig, SweepConfig
from actsweep.loggers import wandb_log
from actsweep.loggers.wandb_support import init_options
from actsweep.sweeps import find
from actsweep.utils.errors import UserError

ROOT = Path(__file__).parents[1]
QUICK = ("debug=default", "depth=2", "depth.width=8", "callbacks=light", "logger.console=false")
NAMED = ("sweep.name=pilot", "sweep.notes='two seeds first'", "sweep.tags=[toy,quick]")


class Trained(NamedTuple):
    outputs: Path
    folders: Sequence[Path]
    printed: Sequence[subprocess.CompletedProcess[str]]


def train(outputs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), *QUICK, f"paths.outputs={outputs}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two sweeps called pilot, and one without a name."""
    outputs = tmp_path_factory.mktemp("named") / "outputs"
    printed = [
        train(outputs, "-m", "seed=0,1", *NAMED, "logger=offline", "logger.report=true"),
        train(outputs, "logger=disabled"),
        train(outputs, "-m", "act=relu,tanh", "seed=0,2", "sweep.name=pilot", "logger=disabled"),
    ]
    for process in printed:
        assert process.returncode == 0, process.stderr
    return Trained(outputs, find.newest(outputs)[::-1], printed)


def test_the_newest_of_two_has_the_name_and_the_command_says_so(trained: Trained) -> None:
    first, unnamed, second = trained.folders
    assert [find.given_name(folder) for folder in trained.folders] == ["pilot", None, "pilot"]
    assert find.find_sweep(trained.outputs, "pilot") == second
    assert find.find_sweep(trained.outputs, first.name) == first
    assert find.find_sweep(trained.outputs, "last") == second
    assert find.find_sweep(trained.outputs, unnamed.name) == unnamed
    said = [
        line for process in trained.printed for line in process.stderr.splitlines() if "'s;" in line
    ]
    assert said == [
        f"sweep.name=pilot: was {first.name}'s; from now on it is this sweep's, and that one is "
        "found by its folder's name"
    ]
    with pytest.raises(UserError, match=r"pilor: no such sweep in .*; did you mean pilot\?"):
        find.find_sweep(trained.outputs, "pilor")


def test_status_and_table_show_it(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    about = "pilot  [toy, quick]  two seeds first"
    outputs = f"paths.outputs={trained.outputs}"
    first = trained.folders[0].name
    for words in (["status", first], ["table", first]):
        assert main([*words, "--outputs", str(trained.outputs)]) == 0, outputs
        assert about in capsys.readouterr().out.splitlines()
    assert main(["status", "pilot", "--outputs", str(trained.outputs)]) == 0
    assert trained.folders[2].name in capsys.readouterr().out
    assert main(["status", "--outputs", str(trained.outputs)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", listed[0].strip())[:3] == ["sweep", "name", "runs"]
    assert about in trained.printed[0].stdout.splitlines()


def test_compare_finds_it_and_the_page_shows_it(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (trained.folders[0] / "report" / "index.html").read_text()
    assert "<h1>pilot  [toy, quick]  two seeds first</h1>" in page
    assert main(["compare", "pilot", "--outputs", str(trained.outputs)]) == 0
    assert "tanh" in capsys.readouterr().out


def test_w_and_b_gets_it(trained: Trained) -> None:
    frozen = json.loads((trained.folders[0] / "plan.json").read_text())
    for run_id in frozen["members"]:
        (file,) = (trained.outputs / "runs" / run_id / "wandb").glob("offline-*/*.wandb")
        run = next(
            record.run
            for content, _ in wandb_log.records(file.read_bytes())
            if (record := wandb_log._record(content)).WhichOneof("record_type") == "run"
        )
        assert (run.run_group, run.notes) == ("pilot", "two seeds first")
        assert list(run.tags) == ["toy", "quick"]
    assert len([*trained.folders[0].glob("wandb/offline-run-*/*.wandb")]) == 1  # the report's


def test_the_logger_s_own_words_count_first() -> None:
    named = SweepConfig(name="pilot", notes="ours", tags=["a", "b"])
    typed = LoggerConfig(group="mine", notes="my own", tags=["b", "c"])
    options = init_options(RunConfig(sweep=named, logger=typed), "folder", 2)
    assert (options["group"], options["notes"]) == ("mine", "my own")
    assert options["tags"] == ["b", "c", "a"]
    plain = init_options(RunConfig(), "folder", 2)
    assert (plain["group"], plain["notes"], plain["tags"]) == ("folder", None, [])


def test_it_does_not_count_in_the_run_id() -> None:
    def run_id(**sweep: Any) -> str:
        return identity.run_id(resolve.resolve({"act": {"name": "relu"}, "sweep": sweep}))

    assert run_id() == run_id(name="pilot", notes="x", tags=["y"])


@pytest.mark.parametrize("name", ["", "last", "a/b", "..", "-x", "x" * 65, "two words", "größe"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"type for example sweep\.name=depth-study"):
        resolve.resolve({"act": {"name": "relu"}, "sweep": {"name": name}})


def test_a_name_that_is_the_folder_of_another_sweep_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    first = trained.folders[0]
    with pytest.raises(UserError, match=f"sweep.name={first.name}: is the folder of another"):
        find.tell_if_taken(trained.outputs, tmp_path, first.name)
    find.tell_if_taken(trained.outputs, first, first.name)  # its own


def test_the_same_folder_is_no_other_sweep(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    find.tell_if_taken(trained.outputs, trained.folders[2], "pilot")
    said = capsys.readouterr().err
    assert trained.folders[0].name in said
    assert trained.folders[2].name not in said
