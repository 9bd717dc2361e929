"""What is refused at once, in one line, and streams on which no result depends."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_app import QUICK, ROOT, Train, files, logging_as_before, train  # noqa: F401 (fixtures)

from actsweep.runtime.streams import LastingStream

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


@pytest.mark.parametrize(("words", "line"), REFUSED)
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
