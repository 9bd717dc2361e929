"""The loggers beside W&B: what each tool's own reader finds, also after an interruption."""

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_writers import make_histogram, make_members, make_rows

from actsweep.config import identity, resolve
from actsweep.config.overrides import expand
from actsweep.loggers import tool_writer, tools
from actsweep.loggers.base import Writer, Writers
from actsweep.loggers.tool_writer import ToolWriter
from actsweep.loggers.wandb_support import final_numbers
from actsweep.runs.metrics_file import MetricsFile
from actsweep.runs.rows import MemberInfo, Row, with_quantiles
from actsweep.stats.histogram import Histogram, quantiles
from actsweep.utils.errors import UserError

Series = dict[str, dict[int, float]]
"""A metric's values by step."""


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")


def once(pairs: list[tuple[int, float]]) -> dict[int, float]:
    """Values by step; no step may come twice, and they come in order."""
    steps = [step for step, _ in pairs]
    assert steps == sorted(set(steps))
    return dict(pairs)


def read_csv(info: MemberInfo) -> Series:
    table = pd.read_csv(info.run_dir / "metrics.csv", index_col="step")
    return {name: once(list(table[name].dropna().items())) for name in table}


def events(info: MemberInfo) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(info.run_dir / "tensorboard"), {"scalars": 0, "histograms": 0})
    return reader.Reload()


def read_tensorboard(info: MemberInfo) -> Series:
    reader = events(info)
    return {
        name: once([(event.step, event.value) for event in reader.Scalars(name)])
        for name in reader.Tags()["scalars"]
    }


def trackio_rows(info: MemberInfo) -> list[dict[str, Any]]:
    import trackio

    (run,) = [run for run in trackio.Api().runs("actsweep") if run.id == info.wandb_id]
    rows: list[dict[str, Any]] = trackio.SQLiteStorage.get_logs("actsweep", run.name, run_id=run.id)
    return rows


def read_trackio(info: MemberInfo) -> Series:
    rows = trackio_rows(info)
    names = {name for row in rows for name, value in row.items() if isinstance(value, int | float)}
    return {
        name: once([(row["step"], row[name]) for row in rows if name in row])
        for name in names - {"step"}
    }


def mlflow_run(info: MemberInfo) -> tuple[Any, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(info.run_dir.parent.parent / "mlruns").as_uri())
    found = client.get_experiment_by_name("actsweep")
    runs = client.search_runs([found.experiment_id], f"tags.`actsweep.id` = '{info.wandb_id}'")
    (run,) = runs
    return client, run


def read_mlflow(info: MemberInfo) -> Series:
    client, run = mlflow_run(info)
    histories = {
        name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics
    }
    return {
        name: once(sorted((metric.step, metric.value) for metric in history))
        for name, history in histories.items()
    }


READERS: dict[str, Callable[[MemberInfo], Series]] = {
    "csv": read_csv,
    "tensorboard": read_tensorboard,
    "trackio": read_trackio,
    "mlflow": read_mlflow,
}
QUANTILES = ("csv", "mlflow")
"""Those that keep quantiles of a histogram."""


def two_members(tmp_path: Path) -> list[MemberInfo]:
    return make_members(tmp_path / "runs", 2)


def train(tool: str, members: list[MemberInfo], rows: list[Row], *, end: bool = True) -> None:
    """What a cohort does with its writers, whose second member measures twice as much."""
    writers = Writers([MetricsFile(), *(tools.build({tool: {}}) if tool else [])])
    writers.check(members)
    writers.open(members)
    for row in rows:
        for member in range(len(members)):
            scalars = {name: (1 + member) * value for name, value in row.scalars.items()}
            writers.row(member, Row(row.step, row.epoch, scalars, row.histograms))
    if end:
        for member in range(len(members)):
            writers.finish(member, "complete", {"test_loss": 0.5})
    writers.close()


def expected(tool: str, rows: list[Row], member: int) -> Series:
    series: Series = {}
    for row in rows:
        scalars = {name: (1 + member) * value for name, value in row.scalars.items()}
        if tool in QUANTILES:
            scalars |= with_quantiles(Row(0, 0, {}, row.histograms)).scalars
        for name, value in {"epoch": row.epoch, **scalars}.items():
            series.setdefault(name, {})[row.step] = value
    return series


def agree(found: Series, wanted: Series) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].keys() == values.keys(), name
        np.testing.assert_allclose(list(found[name].values()), list(values.values()), rtol=1e-6)


@pytest.mark.parametrize("tool", READERS)
def test_each_tool_has_every_step_of_every_member_once(tool: str, tmp_path: Path) -> None:
    members, rows = two_members(tmp_path), make_rows()
    rows.append(Row(rows[-1].step, rows[-1].epoch, {"test/loss": 0.5}))  # belongs to the last step
    train(tool, members, rows)
    for member, info in enumerate(members):
        agree(READERS[tool](info), expected(tool, rows, member))


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("before", [True, False], ids=["resumed", "added"])
def test_what_goes_on_has_no_step_twice_and_none_is_missing(
    tool: str, before: bool, tmp_path: Path
) -> None:
    members, rows = two_members(tmp_path), make_rows(count=8)
    train(tool if before else "", members, rows[:6], end=False)
    resumed = [type(info)(**{**vars(info), "resumed_at": rows[3].step}) for info in members]
    train(tool, resumed, rows[4:])
    for member, info in enumerate(members):
        agree(READERS[tool](info), expected(tool, rows, member))


@pytest.mark.parametrize("tool", READERS)
def test_a_new_training_of_the_same_run_replaces_or_stands_beside_it(
    tool: str, tmp_path: Path
) -> None:
    members, rows = two_members(tmp_path), make_rows(count=6)
    train(tool, members, make_rows(seed=1, count=8))
    again = [type(info)(**{**vars(info), "training": "again"}) for info in members]
    train(tool, again, rows)
    for member, info in enumerate(again):
        agree(READERS[tool](info), expected(tool, rows, member))


def test_tensorboard_draws_histograms_from_their_counts(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path / "runs", 1)
    rows = make_rows()
    train("tensorboard", [info], rows)
    found = events(info).Histograms("hist/act/hidden_1")
    assert [event.step for event in found] == [row.step for row in rows]
    for event, row in zip(found, rows, strict=True):
        value = event.histogram_value
        assert list(value.bucket) == row.histograms["hist/act/hidden_1"].counts.tolist()
        assert list(value.bucket_limit) == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
        assert (value.min, value.max, value.num) == (-3.0, 3.0, sum(value.bucket))
        middles = np.repeat(np.arange(-2.5, 3.0), np.array(value.bucket, int))
        np.testing.assert_allclose(
            [value.sum, value.sum_squares], [middles.sum(), middles @ middles]
        )


def test_tensorboard_groups_by_what_a_run_is_and_keeps_what_was_said(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    (info,) = make_members(tmp_path / "runs", 1)
    (writer,) = tools.build({"tensorboard": {}})
    writer.open([info])
    writer.row(0, Row(0, 0.0, {"a": 1.0}))
    writer.message(0, "half of hidden_2 is dead")
    writer.finish(0, "diverged", {})
    writer.close()
    reader = events(info)
    content = reader.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["sweep"].string_value == "test-sweep"
    assert (hparams["act"].string_value, hparams["seed"].number_value) == ("relu", 0)
    said = {
        tag: reader.Tensors(tag)[0].tensor_proto.string_val[0]
        for tag in reader.Tags()["tensors"]
        if "session" not in tag
    }
    assert {tag: text.decode() for tag, text in said.items()} == {
        "state": "diverged",
        "messages": "half of hidden_2 is dead",
    }


def test_trackio_has_histograms_groups_and_final_numbers(tmp_path: Path) -> None:
    import trackio

    (info,) = make_members(tmp_path / "runs", 1)
    train("trackio", [info], make_rows())
    first = trackio_rows(info)[0]["hist/act/hidden_1"]
    as_trackio = trackio.Histogram(np_histogram=(first["values"], first["bins"]))
    assert first == as_trackio._to_dict()
    assert (first["values"], first["bins"]) == ([0, 1, 2, 3, 4, 5], [-3, -2, -1, 0, 1, 2, 3])
    (run,) = trackio.Api().runs("actsweep")
    assert (run.name, run.config["_Group"]) == (info.run_id, "test-sweep")
    assert (run.config["act"], run.config["state"]) == ("relu", "complete")
    assert run.config["summary"] == {"test_loss": 0.5}


def test_mlflow_has_the_config_the_sweep_and_how_it_ended(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path / "runs", 1)
    train("mlflow", [info], make_rows(), end=False)
    _, run = mlflow_run(info)
    assert run.info.status == "KILLED"
    train("mlflow", [type(info)(**{**vars(info), "resumed_at": 40})], [])
    _, run = mlflow_run(info)
    assert (run.info.run_name, run.info.status) == (info.run_id, "FINISHED")
    assert (run.data.tags["sweep"], run.data.tags["state"]) == ("test-sweep", "complete")
    assert run.data.tags["summary.test_loss"] == "0.5"
    assert (run.data.params["act"], run.data.params["config.optim.lr"]) == ("relu", "0.01")


def test_where_a_run_was_pruned_is_gone_once_it_went_on(tmp_path: Path) -> None:
    """MLflow's tags stay; W&B's summary, too, whose writer takes the same numbers."""
    (info,) = make_members(tmp_path / "runs", 1)
    for state, more in (("pruned", {"pruned_epoch": 2}), ("complete", {})):
        (writer,) = tools.build({"mlflow": {}})
        writer.open([info])
        writer.finish(0, state, {"epochs": 4.0, **more})
        writer.close()
        _, run = mlflow_run(info)
        kept = {name: v for name, v in run.data.tags.items() if name.startswith("summary.")}
        assert (run.data.tags["state"], kept) == (state, {"summary.epochs": "4.0"})
        info = replace(info, resumed_at=40)
    assert final_numbers({"pruned_epoch": 2, "a": float("nan")}) == {"a": None}


def test_quantiles_are_those_of_values_spread_over_the_bins() -> None:
    rng = np.random.default_rng(0)
    values, edges = rng.normal(size=20_000), np.linspace(-4.0, 4.0, 81)
    counts = np.histogram(values, edges)[0]
    histogram = Histogram(np.array([0, *counts, 0]), edges)
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(quantiles(histogram, shares), np.quantile(values, shares), atol=0.01)
    gap = Histogram(np.array([0, 2, 0, 2, 0]), np.array([0.0, 1.0, 2.0, 3.0]))
    assert quantiles(gap, [0.0, 0.25, 0.5, 0.75, 1.0]) == [0.0, 0.5, 1.0, 2.5, 3.0]
    assert np.isnan(quantiles(Histogram(np.zeros(5, int), gap.edges), [0.5])).all()


def test_csv_gets_columns_that_come_later(tmp_path: Path) -> None:
    (info,) = make_members(tmp_path / "runs", 1)
    writer = tools.build({"csv": {}})[0]
    writer.open([info])
    writer.row(0, Row(0, 0.0, {"a": 1.0}))
    writer.row(0, Row(1, 0.25, {"a": 2.0}))
    file = info.run_dir / "metrics.csv"
    assert wait_for(lambda: file.exists() and "0,0.0,1.0" in file.read_text())
    writer.row(0, Row(2, 0.5, {"a": float("nan"), 'odd "name", indeed': 2.0}))
    writer.finish(0, "complete", {})
    writer.close()
    table = pd.read_csv(info.run_dir / "metrics.csv")
    assert list(table) == ["step", "epoch", "a", 'odd "name", indeed']
    assert table.isna().to_numpy().tolist() == [
        *[[False, False, False, True]] * 2,
        [False, False, True, False],
    ]


def wait_for(happened: Callable[[], bool]) -> bool:
    import time

    until = time.monotonic() + 10
    while not happened() and time.monotonic() < until:
        time.sleep(0.05)
    return happened()


# Failures.


class Broken:
    """A run of a tool whose disk is full from step 2 on."""

    def step(self, row: Row) -> None:
        if row.step >= 2:
            raise OSError("disk full")

    def flush(self) -> None: ...

    def end(self, state: str, summary: dict[str, Any], messages: Any) -> None: ...


def test_a_tool_that_raises_is_told_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (info,) = make_members(tmp_path / "runs", 1)
    broken = ToolWriter("broken", lambda info: Broken())
    writers = Writers([MetricsFile(), broken, *tools.build({"csv": {}})])
    writers.open([info])
    for step in range(6):
        writers.row(0, Row(step, step, {"a": 1.0}))
        if step == 3:
            assert wait_for(lambda: broken._error is not None)
    writers.finish(0, "complete", {})
    writers.close()
    assert [record.getMessage() for record in caplog.records] == [
        "broken is switched off, since it failed in row: OSError('disk full')"
    ]
    assert list(read_csv(info)["a"]) == [0, 1, 2, 3, 4, 5]


def test_a_tool_that_fails_at_the_very_end_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (info,) = make_members(tmp_path / "runs", 1)
    writers = Writers([ToolWriter("broken", lambda info: Broken())])
    writers.open([info])
    writers.row(0, Row(2, 0.0, {"a": 1.0}))
    writers.finish(0, "complete", {})
    writers.close()
    assert "broken is switched off, since it failed in close: OSError('disk full')" in caplog.text


def test_a_tool_that_hangs_is_left_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import threading

    (info,) = make_members(tmp_path / "runs", 1)
    go_on = threading.Event()

    class Hanging(Broken):
        def flush(self) -> None:
            go_on.wait(30)

    writers = Writers([ToolWriter("hanging", lambda info: Hanging(), close_seconds=0.1)])
    writers.open([info])
    writers.row(0, Row(0, 0.0, {"a": 1.0}))
    writers.close()
    go_on.set()
    assert "it did not finish within 0 s" in caplog.text


def test_the_rows_of_a_run_that_goes_on_don_t_count_as_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    (info,) = make_members(tmp_path / "runs", 1)
    past = [Row(step, step, {"a": 1.0}) for step in range(5)]
    monkeypatch.setattr(tool_writer, "past_rows", lambda info, until: past)
    monkeypatch.setattr(tool_writer, "QUEUE_ROWS", 2)
    go_on = threading.Event()

    def slow(info: MemberInfo) -> Broken:
        go_on.wait(30)
        return Broken()

    writer = ToolWriter("slow", slow, close_seconds=1.0)
    writer.open([replace(info, resumed_at=4)])
    writer.row(0, Row(5, 5, {"a": 1.0}))

    def more() -> None:
        for step in range(6, 12):
            writer.row(0, Row(step, step, {"a": 1.0}))

    with pytest.raises(TimeoutError, match="it is too slow"):
        more()
    go_on.set()


# What is typed.


@pytest.mark.parametrize("tool", ["tensorboard", "trackio", "mlflow"])
def test_a_missing_package_is_one_line_with_the_extra(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(UserError) as raised:
        tools.check({tool: {}})
    assert str(raised.value) == (
        f'logger={tool}: needs the package {tool}; type pip install "actsweep[{tool}]"'
    )


class Mine(Writer):
    """A user's own logger, which takes what it likes."""

    def __init__(self, label: str = "x") -> None:
        self.label = label
        self.steps: list[int] = []

    def row(self, member: int, row: Row) -> None:
        self.steps.append(row.step)


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_loggers")
    vars(module).update(Mine=Mine, half=lambda: object())
    monkeypatch.setitem(sys.modules, "my_loggers", module)


@pytest.mark.usefixtures("own_module")
def test_a_logger_of_ones_own(tmp_path: Path) -> None:
    (mine,) = tools.build({"mine": {"_target_": "my_loggers.Mine", "label": "y"}, "csv": None})
    assert isinstance(mine, Mine)
    assert mine.label == "y"
    writers = Writers([mine])
    members = make_members(tmp_path, 1)
    writers.check(members)
    writers.open(members)
    writers.row(0, Row(3, 0.0))
    writers.message(0, "so")
    writers.finish(0, "complete", {})
    writers.close()
    assert mine.steps == [3]


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"mlflo": {}}, "logger.writers=mlflo: no such name; did you mean"),
        ({"csv": {"delimiter": ";"}}, "logger.writers.csv={'delimiter': ';'}: "),
        ({"mine": {"_target_": "my_loggers.Nil"}}, "can't be imported"),
        ({"mine": {"_target_": "my_loggers.half"}}, "returned a object without check, open, row"),
    ],
)
def test_bad_loggers_are_refused(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        tools.build(entries)
    assert message in str(raised.value)


def test_the_mode_of_wandb_holds_wherever_it_stands() -> None:
    assert expand("logger=[offline,tensorboard]") == ["logger=[tensorboard,offline]"]
    assert expand("logger=[csv, online, mlflow]") == ["logger=[csv,mlflow,online]"]
    assert expand("logger=offline") == ["logger=offline"]
    assert expand("logger.writers.csv={}") == ["++logger.writers.csv={}"]


@pytest.mark.parametrize(
    ("writers", "message"),
    [
        ({"csv": 3}, "logger.writers.csv=3: must be a group of options"),
        ({"tensorbord": {}}, "logger.writers=tensorbord: no such name; did you mean"),
    ],
)
def test_bad_entries_are_refused_while_composing(writers: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        resolve.resolve({"act": {"name": "relu"}, "logger": {"writers": writers}})
    assert message in str(raised.value)


def test_loggers_never_count_in_the_run_id() -> None:
    def run_id(**logger: Any) -> str:
        plain = {"act": {"name": "relu"}, "logger": logger}
        return identity.run_id(resolve.resolve(plain))

    own = {"mine": {"_target_": "test_loggers.Mine"}}
    assert run_id() == run_id(mode="disabled", writers={"csv": {}}) == run_id(writers=own)


def test_histograms_of_the_fixture_are_what_the_tests_say() -> None:
    assert make_histogram(0).counts.tolist() == [0, 1, 2, 3, 4, 5]
