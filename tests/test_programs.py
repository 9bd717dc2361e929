"""Compiled programs that are kept on disk: the same rows without tracing, and never a wrong one."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from test_run import LIGHT, make, run_pack

from actsweep.config.schema import INITS, RunConfig
from actsweep.data import load
from actsweep.runs.members import make_member, make_pack, stack_hparams
from actsweep.runs.run_dir import RunDir
from actsweep.runtime.process import Process
from actsweep.train import pack, programs
from actsweep.train.setup import task_of
from actsweep.train.types import SweepContext
from actsweep.utils.errors import UserError

ROOT = Path(__file__).parents[1]
KEY_OF = programs.key_of
FULL = {"gradients": {}, "moments": {}, "units": {}, "similarity": {}, "histograms": {}}


@pytest.fixture(autouse=True)
def _edited_a_moment_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "CLOCK", -1e9)


@pytest.fixture
def kept_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of programs, where they are kept, and nothing in JAX's own cache."""
    before, folder = jax.config.values["jax_compilation_cache_dir"], tmp_path / "xla"
    monkeypatch.setattr(programs, "key_of", KEY_OF)
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder / "actsweep-programs"
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every program that is traced and lowered."""
    seen, lower, call = [], programs.Program.lower, programs.Program.__call__

    def counted(self: programs.Program, *args: Any) -> Any:
        seen.append(self)
        return lower(self, *args)

    def called(self: programs.Program, *args: Any) -> Any:
        if self not in seen and not self.has(*args):
            seen.append(self)
        return call(self, *args)

    monkeypatch.setattr(programs.Program, "lower", counted)
    monkeypatch.setattr(programs.Program, "__call__", called)
    return seen


def rows(outputs: Path, *runs: RunConfig) -> list[Any]:
    """Train runs in a pack as a new process would; return their rows."""
    pack.forget_programs()
    results = run_pack(runs, SweepContext("sweep"))
    assert [result["state"] for result in results] == ["complete"] * len(runs)
    files = [RunDir(outputs, result["run_id"]).metrics for result in results]
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def runs(outputs: Path, seed: int = 0, **changes: Any) -> list[RunConfig]:
    return [make(outputs, seed=number, **changes) for number in (seed, seed + 1)]


BATCH_NORM = {"name": "mlp", "norm": "batch", "dropout": 0.1}
CASES: dict[str, dict[str, Any]] = {
    "map": {"callbacks": {}, "depth": {"widths": [4]}, "trainer": {"epochs": 1, "batch_size": 64}},
    "map, diagnostics": {},
    "vmap": {"pack": {"batching": "vmap"}},
    "streamed": {"data": {"name": "digits", "val_size": 300, "stream": True}},
    "two devices a run": {"trainer": {"epochs": 1, "batch_size": 64, "mesh": {"data": 2}}},
    "model state, draws, every diagnostic": {"model": BATCH_NORM, "callbacks": FULL},
}


@pytest.mark.parametrize(
    "case",
    [case if case == "map" else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_what_is_kept_gives_the_same_rows_without_tracing(
    case: str, tmp_path: Path, kept_programs: Path, traced: list[Any]
) -> None:
    first = rows(tmp_path / "first", *runs(tmp_path / "first", **CASES[case]))
    assert len([*kept_programs.iterdir()]) == 1
    assert traced
    traced.clear()
    again = rows(tmp_path / "again", *runs(tmp_path / "again", **CASES[case]))
    assert again == first
    assert not traced
    other = rows(tmp_path / "first", *runs(tmp_path / "first", seed=2, **CASES[case]))
    assert other != first  # numbers of the members are arguments
    assert not traced


@pytest.mark.slow
def test_a_program_that_calls_lapack_is_loaded_by_a_process_that_never_lowered_one(
    tmp_path: Path,
) -> None:
    """As for orthogonal kernels: without linking LAPACK first, the second process is killed."""
    words = ["init=lsuv", "data=digits", "depth=1", "depth.width=4", "trainer.epochs=1"]
    words += ["callbacks=none", "logger=disabled", "seed=0"]
    rows = []
    for folder in ("first", "again"):
        command = [sys.executable, "train.py", *words, f"paths.outputs={tmp_path / folder}"]
        own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
        ended = subprocess.run(
            command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, ended.stderr
        assert len([*tmp_path.glob("cache/actsweep-programs/" + 64 * "[0-9a-f]")]) == 1
        (metrics,) = tmp_path.glob(f"{folder}/runs/*/metrics.jsonl")
        rows.append(metrics.read_bytes())
    assert rows[0] == rows[1]


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """Arguments of `key_of`, of which each test changes one."""
    run = make(tmp_path)
    hparams = stack_hparams(make_pack([make_member(run)]))
    placed = jax.tree.map(jax.device_put, hparams)
    task = task_of(run, load(run.data))
    return {"config": run, "task": task, "how": "map", "callbacks": LIGHT, "arguments": placed}


def test_a_key_tells_what_shapes_a_program(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, task, placed = (arguments[k] for k in ("config", "task", "arguments"))
    key = KEY_OF(**arguments)
    others = {
        "activation": {"config": make(tmp_path, act={"name": "elu"})},
        "widths": {"config": make(tmp_path, depth={"widths": [16, 13]})},
        "optimiser": {"config": make(tmp_path, optim={"name": "adam"})},
        "callbacks": {"config": make(tmp_path, callbacks={"gradients": {}})},
        "scale": {"task": dataclasses.replace(task, scale=0.5)},
        "steps": {"task": dataclasses.replace(task, total_steps=7)},
        "batching": {"how": "vmap"},
        "members": {"arguments": jax.tree.map(lambda leaf: jnp.tile(leaf, 2), placed)},
        "device": {"arguments": jax.device_put(placed, jax.devices()[1])},
    }
    keys = {name: KEY_OF(**{**arguments, **change}) for name, change in others.items()}
    assert len({key, *keys.values()}) == 1 + len(keys)
    same = make(tmp_path / "elsewhere", seed=5, optim={"lr": 0.5}, logger={"mode": "offline"})
    assert KEY_OF(**{**arguments, "config": same}) == key
    for name in ("XLA_FLAGS", "JAX_SOMETHING"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "other")
            assert KEY_OF(**arguments) != key
    with jax.numpy_dtype_promotion("standard"):
        assert KEY_OF(**arguments) != key
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    try:
        assert KEY_OF(**arguments) != key
    finally:
        jax.config.update("jax_default_matmul_precision", None)
    assert run == arguments["config"]


@pytest.mark.parametrize("init", INITS)
def test_every_pack_s_config_has_a_key(
    init: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """The numbers of its members are None in it."""
    needed = {"randomized_asymmetric": "relu"}
    model = {"name": "cnn"} if init == "delta_orthogonal" else {"name": "mlp"}
    depth = {"widths": [16, 16]}
    act = {"name": needed.get(init, "tanh")}
    draws = {"name": init} | ({"gain": "auto"} if init == "autoinit" else {})
    run = make(tmp_path, act=act, init=draws, model=model, depth=depth)
    static = make_pack([make_member(run)]).static
    assert KEY_OF(**{**arguments, "config": static}) != ""


def test_packs_that_are_rescaled_for_their_depth_have_keys_of_their_own(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    keys = set()
    for layers, name in ((3, "dks"), (4, "dks"), (4, "tat")):
        act = {"name": "tanh", "transform": name}
        run = make(tmp_path, act=act, init={"name": "normal"}, depth={"widths": [8] * layers})
        static = make_pack([make_member(run)]).static
        keys.add(KEY_OF(**{**arguments, "config": static}))
    assert len(keys - {""}) == 3


@pytest.mark.parametrize("folder", ["", "gs://bucket/xla"])
def test_a_cache_that_is_no_folder_holds_no_programs(
    folder: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", folder)
    try:
        assert KEY_OF(**arguments) == ""
        save_double("key")
        assert programs.load("key", [jax.devices()[0]]) is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert not [*tmp_path.glob("**/actsweep-programs")]


@pytest.mark.parametrize(("name", "value"), [("process_count", 2), ("default_backend", "gpu")])
def test_where_it_was_not_tried_nothing_is_kept(
    name: str, value: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEY_OF(**arguments) != ""
    monkeypatch.setattr(jax, name, lambda: value)
    assert KEY_OF(**arguments) == ""


def test_changed_code_is_another_key_and_code_changed_meanwhile_none(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "CLOCK", 2.0)
    code = tmp_path / "actsweep" / "train" / "programs.py"
    code.parent.mkdir(parents=True)
    code.write_text("")
    long_ago = time.time() - 10**6
    os.utime(code, (long_ago, long_ago))
    monkeypatch.setattr(programs, "__file__", str(code))
    before = KEY_OF(**arguments)
    code.write_text("pass")
    assert KEY_OF(**arguments) == ""  # it may have been imported before
    os.utime(code, (long_ago, long_ago))
    assert KEY_OF(**arguments) not in ("", before)


def test_code_of_the_user_s_own_is_not_kept(arguments: dict[str, Any], tmp_path: Path) -> None:
    own = make(tmp_path, act={"name": "half", "_target_": "frozen_act.half"})
    assert KEY_OF(**{**arguments, "config": own}) == ""


def test_calls_from_python_keep_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*_: Any, keep: bool, **__: Any) -> None:
        asked.append(keep)
        raise UserError("asked")

    monkeypatch.setattr(pack, "set_up", refuse)
    for called in (True, False):
        with pytest.raises(UserError, match="asked"):
            run_pack(runs(tmp_path), SweepContext("sweep"), Process(called=called))
    assert asked == [False, True]


def save_double(key: str) -> list[jax.Device]:
    """Keep a program that doubles two numbers; return its devices."""
    x = jax.ShapeDtypeStruct((2,), jnp.float32)
    compiled = jax.jit(lambda x: 2 * x).lower(x).compile()
    programs.save(key, 7, (x,), {(("double",), programs.shapes_of(x)): compiled})
    return [jax.devices()[0]]


def test_a_program_is_called_where_its_arguments_fit(kept_programs: Path) -> None:
    kept = programs.load("key", save_double("key"))
    assert kept is not None
    assert kept.need == 7
    program = programs.Program(jax.jit(lambda x: 3 * x))
    ((_, shapes),) = kept.programs
    program.loaded[shapes] = kept.programs[("double",), shapes]
    np.testing.assert_array_equal(program(jnp.ones(2, jnp.float32)), 2)
    np.testing.assert_array_equal(program(jnp.ones(3, jnp.float32)), 3)
    np.testing.assert_array_equal(program(jnp.ones(2, jnp.int32)), 3)
    elsewhere = jax.device_put(jnp.ones(2, jnp.float32), jax.devices()[1])
    np.testing.assert_array_equal(program(elsewhere), 3)


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped", "another class", "empty"])
def test_a_damaged_file_is_a_line_and_removed(
    damage: str, kept_programs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    devices = save_double("key")
    file = kept_programs / "key"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    other = pickle.dumps(["what an older version wrote"])
    file.write_bytes(
        {
            "cut short": content[: len(content) // 2],
            "a bit flipped": content,
            "another class": programs.DIGEST(other).digest() + other,
            "empty": b"",
        }[damage]
    )
    assert programs.load("key", devices) is None
    (line,) = [r.getMessage() for r in caplog.records if r.name == programs.__name__]
    assert str(file) in line
    assert "compiled again" in line
    assert not file.exists()


def test_the_folder_is_bounded_and_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    keys = [letter * 64 for letter in "abcd"]
    for age, name in enumerate([*keys, "thesis.tex", "results"]):
        (tmp_path / name).write_bytes(b"0" * 10)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    programs._make_room(tmp_path, 25)
    assert {path.name for path in tmp_path.iterdir()} == {*keys[:2], "thesis.tex", "results"}


def test_what_cannot_be_written_is_no_error(
    kept_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(programs, "write_atomic", full)
    assert programs.load("key", save_double("key")) is None
    kept_programs.rmdir()
    kept_programs.write_text("a file is in the way")
    assert programs.load("key", save_double("key")) is None


@pytest.mark.usefixtures("kept_programs")
def test_what_comes_from_jax_s_cache_is_told_from_what_is_compiled() -> None:
    """It can't be written again on CPUs: "Function … not found", once it is called."""
    least = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        lowered = jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((4, 4), jnp.float32))
        new = [programs.compile_lowered(lowered)[1]]
        jax.clear_caches()
        lowered = jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((4, 4), jnp.float32))
        new.append(programs.compile_lowered(lowered)[1])
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    assert new == [True, False]
