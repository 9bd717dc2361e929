"""Overrides from a grammar: what doesn't resolve is one line, at once, and nothing is written."""

import importlib
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_app import ROOT, logging_as_before  # noqa: F401 (a fixture)
from test_frozen_runs import flat

from actsweep.config import resolve
from actsweep.config.overrides import GROUPS
from actsweep.config.schema import RunConfig

PATHS = sorted(
    {*flat(resolve.to_dict(RunConfig())), *GROUPS, "act.slope", "act.alpha", "callbacks"}
)
OPTIONS = "relu,elu,leaky_relu,maxout,mlp,cnn,adam,he_normal,digits,xor,full,none,online,slurm"
VALUES = st.one_of(
    st.integers().map(str),
    st.integers(0, 20).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(
        [*OPTIONS.split(","), "auto", "null", "true", "false", "", "''", "1e400", "nan"]
    ),
    st.sampled_from(
        ["[]", "[1,2]", "[0]", "[a]", "{}", "{a: 1}", "{every: 0}", "[[1]]", "[1", "}"]
    ),
    st.sampled_from(
        ["${nope}", "${seed}", "${oc.env:NOPE}", "${", "$", "\\", "a b", "=", "é", "%00"]
    ),
    st.sampled_from(["range(0,3)", "range(0,0)", "range(0,1e9)", "choice(1,2)", "glob(*)", "1,2,"]),
    st.text(st.characters(codec="ascii", exclude_characters="\0\n\r"), max_size=8),
)
KEYS = st.one_of(st.sampled_from(PATHS), st.sampled_from(["callbacks.x", "act.nope", "x", "a.b.c"]))
WORDS = st.builds(
    lambda sign, key, equals, value: f"{sign}{key}{equals}{value}",
    st.sampled_from(["", "", "", "", "+", "++", "~", "--"]),
    KEYS,
    st.sampled_from(["=", "=", "=", "=", "", "==", ":"]),
    VALUES,
)
COMMANDS = st.tuples(st.booleans(), st.lists(WORDS, min_size=1, max_size=3))
ELSEWHERE = ("paths.outputs", "logger.require_online", "trainer.distributed", "hydra")
"""Keys that send the command somewhere else than the test can look."""


@pytest.mark.slow
@settings(
    max_examples=200,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(command=COMMANDS)
def test_what_doesnt_resolve_is_one_line(
    command: tuple[bool, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep, words = command
    if any(key in word for word in words for key in ELSEWHERE):
        return
    outputs = tmp_path / "outputs"
    shown: list[Any] = []
    for module in ("actsweep.launch.entry", "hydra_plugins.actsweep_pack.sweeper"):
        # What resolves isn't compiled. (Hydra may have loaded its plugin past its package.)
        monkeypatch.setattr(importlib.import_module(module), "show_plan", shown.append)
    typed = ["train.py", *["-m"] * sweep, "data=digits", *words, f"paths.outputs={outputs}"]
    monkeypatch.setattr(sys, "argv", [*typed, "pack.plan=true"])
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    began = time.process_time()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    took = time.process_time() - began
    out, err = capsys.readouterr()
    if shown:
        assert ended.value.code in (0, None), (typed, err)
    else:
        assert ended.value.code == 2, (typed, out, err)
        assert (out, err.count("\n")) == ("", 1), (typed, out, err)
        assert err.startswith("error: "), (typed, err)
        assert "Traceback" not in err, (typed, err)
    assert shown or took < 5, (typed, took)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], typed
