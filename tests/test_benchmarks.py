"""Every section of the benchmarks runs, the rig trains as the product does, and the pages say what
was measured."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from actsweep.callbacks.histograms import VALUE_EDGES
from actsweep.loggers.wandb_run import WandbRun
from actsweep.runs import load
from actsweep.runs.members import make_member
from actsweep.runs.metrics_file import read_metrics
from actsweep.train.pack import run_pack
from actsweep.train.types import SweepContext
from benchmarks import __main__ as command
from benchmarks import gpu, harness, kernels, page, rig, shell

FAST = ("training", "histograms", "packs", "verdicts", "looks")


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a JSON value."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in command.SECTIONS],
)
def test_a_section_runs_at_toy_size(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name != "equivalence":  # a toy's times mean nothing, its bits do
        request.getfixturevalue("compiled_fast")
    if name == "many":  # started as `sweep` is, but compiled before, and without a report
        monkeypatch.setattr(shell, "APART", ("XLA_FLAGS",))
    file = tmp_path / "new" / "results.json"
    with jax.numpy_dtype_promotion("standard" if name == "models" else "strict"):  # optax's Adam
        command.main(["--toy", "--only", name, "--out", str(file)])
    printed, table = capsys.readouterr()
    measured = json.loads(printed)
    assert measured == json.loads(file.read_text())
    assert [*measured] == [name]
    result = measured[name]
    assert result["toy"] is True
    assert result["took"] > 0
    assert result["machine"]["cores"] >= 1
    assert all(math.isfinite(value) for value in numbers(result))
    assert result["figures"]
    for row in result["figures"]:
        assert {"name", "value", "limit", "at_most", "met"} <= row.keys()
        # A toy's times mean nothing; but what must be equal is equal at any size.
        exact = name == "equivalence" or (
            name in ("races", "fights") and "false verdict" in row["name"]
        )
        assert row["met"] if exact else row["value"] > 0, row
        assert harness.line(name, row) in table.splitlines()


def test_sections_are_measured_one_by_one_into_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def section(name: str, **options: Any) -> harness.Section:
        def measure(rounds: int, toy: bool) -> harness.Result:
            asked.append((name, rounds, toy))
            return {"figures": [harness.figure(name, 2.0)]}

        return harness.Section(measure, rounds=9, **options)

    sections = {"a": section("a"), "b": section("b"), "far": section("far", apart=True)}
    monkeypatch.setattr(command, "SECTIONS", sections)
    file = tmp_path / "results.json"
    command.main(["--out", str(file)])
    command.main(["--out", str(file), "--only", "far", "--only", "a", "--rounds", "4"])
    command.main(["--only", "b", "--toy"])
    whole, part = [("a", 9, False), ("b", 9, False)], [("far", 4, False), ("a", 4, False)]
    assert asked == [*whole, *part, ("b", 1, True)]
    assert [*json.loads(file.read_text())] == ["a", "b", "far"]
    with pytest.raises(SystemExit):
        command.main(["--only", "c"])
    assert "invalid choice: 'c'" in capsys.readouterr().err


def test_a_figure_is_held_against_its_limit() -> None:
    assert harness.figure("a", 1.0, 1.05)["met"]
    assert not harness.figure("a", 1.1, 1.05)["met"]
    assert harness.figure("a", 1.1, 1.05, at_most=False)["met"]
    assert harness.figure("a", 1.1)["met"] is None
    row = harness.ratio("a / b", [2, 4, 9, 8, 10], [1, 1, 1, 4, 2], 2.9, scale=0.5)
    assert row["value"] == 2.0  # the median of 1, 2, 4.5, 1, 2.5; of the times it were 4
    assert row["spread"] == (1.0, 2.5)
    assert harness.line("s", row).split() == [
        "s",
        "a",
        "/",
        "b",
        "2.000",
        "1.000",
        "to",
        "2.500",
        "<=",
        "2.9",
        "met",
    ]


# The rig


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> list[load.Run]:
    """Two runs of two epochs, as the product trains them."""
    outputs = tmp_path_factory.mktemp("outputs")
    words = (*rig.TOY, "trainer.epochs=2", "logger=disabled", f"paths.outputs={outputs}")
    members = [make_member(rig.composed(*words, f"seed={seed}")) for seed in (0, 1)]
    assert [one["state"] for one in run_pack(members, SweepContext("test"))] == ["complete"] * 2
    return [load.load_run(member.dir.path) for member in members]


def test_the_rig_trains_and_measures_as_the_product_does(product: list[load.Run]) -> None:
    pack = rig.Pack(rig.prepare(2, *rig.TOY), logged=True)
    try:
        pack.everything()
        pack.everything()
        params = pack.active_set.states().params
        measured = [read_metrics(folder.metrics) for folder in pack.folders]
        assert all([*folder.wandb.glob("**/run-*.wandb")] for folder in pack.folders)
    finally:
        pack.close()
    for member, (run, rows) in enumerate(zip(product, measured, strict=True)):
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_array_equal(ours[member], theirs),  # noqa: B023
            params,
            run.parameters("last")[0],
        )
        expected = run.metrics()
        only_there = {name for name in expected if name.startswith(("test/", "exact_"))}
        assert rows.keys() == expected.keys() - only_there
        for name, column in rows.items():
            np.testing.assert_array_equal(column, expected[name][1:], err_msg=name)


def test_what_the_rig_leaves_out_changes_no_parameter(product: list[load.Run]) -> None:
    pack = rig.Pack(rig.prepare(2, *rig.TOY))
    pack.train()
    spent = pack.in_parts()
    assert spent.keys() == {"training", "probes", "rows"}
    assert min(spent.values()) > 0
    params = pack.active_set.states().params
    pack.close()
    own = jax.tree.map(lambda leaf: leaf[1], params)
    jax.tree.map(np.testing.assert_array_equal, own, product[1].parameters("last")[0])


def test_ended_members_stand_still_and_make_room() -> None:
    prepared = rig.prepare(4, "callbacks=none", *rig.TOY)
    frozen, repacked = rig.Pack(prepared), rig.Pack(prepared)
    frozen.end_members(2)
    repacked.end_members(2, repack=True)
    assert [*repacked.active_set.rows] == [2, 3]
    before = frozen.active_set.states().params
    for pack in (frozen, repacked):
        pack.train()
        after = pack.active_set.states().params
        moved = [
            any(not np.array_equal(a[m], b[m]) for a, b in pairs)
            for pairs in [[*zip(*map(jax.tree.leaves, (before, after)), strict=True)]]
            for m in range(4)
        ]
        assert moved == [False, False, True, True]
        pack.close()
    third = rig.Pack(prepared)
    with pytest.raises(RuntimeError, match="1 of 4 have ended, which are too few to repack"):
        third.end_members(1, repack=True)
    third.close()


def test_times_without_wandb_are_no_times_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(WandbRun, "put", full)
    pack = rig.Pack(rig.prepare(2, "callbacks=none", *rig.TOY), logged=True)
    pack.train_and_probe()
    with pytest.raises(RuntimeError, match="W&B lacks 2 rows of this pack"):
        pack.close()


# Kernels


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_every_histogram_kernel_counts_as_numpy_does(name: str) -> None:
    x = np.asarray(jax.random.normal(jax.random.key(1), (64, 64)) * 4)
    below = [(x < VALUE_EDGES[0]).sum()]
    inside = list(np.histogram(x, VALUE_EDGES)[0])
    expected = [*below, *inside, (x >= VALUE_EDGES[-1]).sum()]
    assert np.asarray(kernels.KERNELS[name](jax.numpy.asarray(x))).tolist() == expected


def test_a_kernel_that_counts_otherwise_is_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels.KERNELS, "wrong", lambda x: kernels.scatter(x + 1))
    with pytest.raises(ValueError, match="'wrong' counts otherwise than NumPy"):
        kernels.histograms(1, toy=True)


def test_the_flops_of_a_step() -> None:
    """6 a weight and example, without the first layer's input gradient."""
    weights = 784 * 512 + 512 * 256 + 256 * 256 + 256 * 128 + 128 * 10
    assert gpu.step_flops() == 256 * (6 * weights - 2 * 784 * 512)


# The pages


def test_the_results_are_of_the_sections_that_there_are() -> None:
    sections = {name for name, one in command.SECTIONS.items() if not one.apart}
    assert json.loads(page.SPEED.read_text()).keys() == sections


@pytest.mark.parametrize("path", page.PAGES, ids=lambda path: path.name)
def test_a_page_holds_the_saved_figures(path: Path) -> None:
    assert page.filled(path) == path.read_text()


def test_a_page_shows_what_is_not_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, text = tmp_path / "results.json", tmp_path / "page.md"
    rows = [harness.ratio("a / b", [3.0], [1.0], 2.0), harness.figure("c", 5.0)]
    results.write_text(json.dumps({"s": {"toy": False, "figures": rows}}))
    text.write_text("before\n\n<!-- figures -->\n\nold\n\n<!-- end -->\n\nafter\n")
    monkeypatch.setattr(page, "PAGES", {text: (results, {"figures": page.figures})})
    shown = page.filled(text)
    assert "| s | a / b | 3 | 3 to 3 | ≤ 2 | **not met** |" in shown.splitlines()
    assert "| s | c | 5 | | | |" in shown.splitlines()
    assert shown.startswith("before\n")
    assert shown.endswith("<!-- end -->\n\nafter\n")
    assert "old" not in shown
    text.write_text("nothing")
    with pytest.raises(ValueError, match="0 blocks between <!-- figures --> and <!-- end -->"):
        page.filled(text)
    results.write_text(json.dumps({"s": {"toy": True, "figures": []}}))
    with pytest.raises(ValueError, match="measured with --toy: s"):
        page.filled(text)
