"""`logger=mlflow`: the runs in MLflow's store, by default files in the folder `mlruns` of outputs.

`mlflow-skinny` has no other store without a server: its SQLite store needs the whole `mlflow`.
"""

import os
import re
import time
from collections.abc import Sequence
from typing import Any

from actsweep.loggers.tool_writer import ToolWriter
from actsweep.loggers.wandb_support import run_config
from actsweep.runs.rows import MemberInfo, Row, shortest_scalars, with_quantiles

METRICS, PARAMS = 1000, 100
"""What a call of `log_batch` takes."""
LONGEST = 6000
"""Characters of a parameter."""
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "running": "KILLED", "preempted": "KILLED"}
ID = "actsweep.id"


def writer(tracking_uri: str | None = None, experiment: str = "actsweep") -> ToolWriter:
    """Return a writer to MLflow.

    Args:
        tracking_uri: of the store; by default MLFLOW_TRACKING_URI, or else files.
        experiment: the name of MLflow's experiment.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return ToolWriter("mlflow", lambda info: MlflowLog(uri, experiment, info))


class MlflowLog:
    """One run. MLflow keeps no histograms: they become quantiles.

    A run that goes on is found again by its tag. MLflow can't forget a step: what it has is left
    out, metric by metric, since the same training measures the same.
    """

    def __init__(self, uri: str | None, experiment: str, info: MemberInfo) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        files = (info.run_dir.parent.parent / "mlruns").absolute().as_uri()
        self._client = MlflowClient(tracking_uri=uri or files)
        self._known: dict[str, int] = {}
        self._metrics: list[tuple[str, float, int, int]] = []
        experiment_id = self._experiment(experiment)
        found = self._find(experiment_id, info) if info.resumed_at is not None else None
        self._run = found or self._create(experiment_id, info)

    def step(self, row: Row) -> None:
        """Take a step."""
        now = int(time.time() * 1000)
        for name, value in shortest_scalars(with_quantiles(row)).items():
            key = re.sub(r"[^\w.\- :/]", "_", name)
            if row.step > self._known.get(key, -1):
                self._metrics.append((key, value, now, row.step))

    def flush(self) -> None:
        """Send the steps."""
        from mlflow.entities import Metric

        for start in range(0, len(self._metrics), METRICS):
            part = self._metrics[start : start + METRICS]
            self._client.log_batch(self._run, metrics=[Metric(*metric) for metric in part])
        self._metrics = []

    def end(self, state: str, summary: dict[str, Any], messages: Sequence[str]) -> None:
        """Write the final numbers as tags; a run that isn't complete failed or was killed."""
        tags = {f"summary.{name}": str(value) for name, value in summary.items()}
        tags |= {"state": state} | ({"messages": "\n".join(messages)} if messages else {})
        for name, value in tags.items():
            self._client.set_tag(self._run, re.sub(r"[^\w.\- :/]", "_", name), value)
        self._client.set_terminated(self._run, STATUS.get(state, "FAILED"))

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else str(self._client.create_experiment(name))

    def _create(self, experiment_id: str, info: MemberInfo) -> str:
        from mlflow.entities import Param

        tags = {ID: info.wandb_id, "sweep": info.sweep}
        run = self._client.create_run(experiment_id, run_name=info.run_id, tags=tags)
        params = [Param(k, str(v)[:LONGEST]) for k, v in _flat(run_config(info)).items()]
        for start in range(0, len(params), PARAMS):
            self._client.log_batch(run.info.run_id, params=params[start : start + PARAMS])
        return str(run.info.run_id)

    def _find(self, experiment_id: str, info: MemberInfo) -> str | None:
        runs = self._client.search_runs([experiment_id], f"tags.`{ID}` = '{info.wandb_id}'")
        if not runs:
            return None
        run = runs[0]
        for key in run.data.metrics:
            history = self._client.get_metric_history(run.info.run_id, key)
            self._known[key] = max(metric.step for metric in history)
        self._client.update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = re.sub(r"[^\w.\- :/]", "_", f"{prefix}{key}")
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
