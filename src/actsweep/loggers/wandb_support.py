"""What the W&B writer needs around `wandb.init`: settings, checks before the start, hints after."""

import base64
import contextlib
import functools
import json
import logging
import math
import os
import resource
import shlex
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actsweep.config.schema import LoggerConfig, RunConfig
from actsweep.runs.metrics_file import read_histograms
from actsweep.runs.rows import MemberInfo, Row
from actsweep.stats.histogram import Histogram
from actsweep.utils.files import finite

log = logging.getLogger(__name__)

PROJECT = "actsweep"
RUN_ID = "<run_id>"
"""What stands for a run's id in the name that all runs share."""
PREFLIGHT_SECONDS = 3.0
INIT_SECONDS = 30.0
FINISH_SECONDS = 30.0
FILES_A_RUN = 3
FILES_SPARE = 64
VIEWER = "query Viewer { viewer { id entity } }"


def import_wandb() -> Any:
    """Import wandb without its error reporting, which looks up a host even offline, and without its
    own advice: of an upload that broke off it names a `wandb sync` that would pass over the run.

    The wandb-core of the process that started this one isn't shared: it may end before this one.
    """
    os.environ.pop("WANDB_SERVICE", None)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def fast_settings(
    mode: str, logger: Mapping[str, Any] | None = None, commit: str | None = None
) -> Any:
    """Return settings by which a run starts in 7 ms, not 63, loses at most 1 s and never hangs.

    Args:
        mode: `offline` or `online`.
        logger: the run's `logger`, as nested plain values, which says what else is recorded.
        commit: of the code.
    """
    logger = logger or {}
    return import_wandb().Settings(
        mode=mode,
        silent=True,
        console="off",
        x_disable_stats=not logger.get("system", False),
        x_disable_meta=True,
        x_disable_machine_info=not logger.get("system", False),
        disable_git=True,
        disable_code=True,
        x_save_requirements=logger.get("requirements", False),
        git_commit=commit if logger.get("git", True) else None,
        x_transaction_log_flush_interval=1.0,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
    )


def init_options(run: RunConfig, sweep: str, runs: int) -> dict[str, Any]:
    """Return the arguments of `wandb.init` that are the same for all runs of a sweep.

    What the config leaves open is what W&B's environment variables say.

    Args:
        run: the config of a run; its `sweep` says the name, the notes and tags of all.
        sweep: the name of the sweep's folder, the runs' group by default.
        runs: how many runs the sweep has: a name alone would be that of all.
    """
    env, logger = os.environ.get, run.logger
    tags = list(logger.tags) or [tag for tag in env("WANDB_TAGS", "").split(",") if tag]
    name = logger.name or env("WANDB_NAME")
    return {
        "project": logger.project or env("WANDB_PROJECT") or PROJECT,
        "entity": logger.entity or env("WANDB_ENTITY"),
        "group": logger.group or env("WANDB_RUN_GROUP") or run.sweep.name or sweep,
        "name": f"{name} {RUN_ID}" if name and runs > 1 else name or RUN_ID,
        "notes": logger.notes or env("WANDB_NOTES") or run.sweep.notes,
        "job_type": logger.job_type or env("WANDB_JOB_TYPE"),
        "tags": list(dict.fromkeys([*tags, *run.sweep.tags])),
    }


def mode_of(logger: LoggerConfig) -> str:
    """Return the mode: the config's, or a more careful one that WANDB_MODE asks for."""
    asked = os.environ.get("WANDB_MODE", "").lower()
    modes = ("disabled", "offline", "online")
    if asked not in modes or modes.index(asked) == modes.index(logger.mode):
        return logger.mode
    if modes.index(asked) < modes.index(logger.mode):
        return asked
    _tell_once(f"WANDB_MODE={asked}: logger.mode={logger.mode} counts; type logger={asked} for it")
    return logger.mode


@functools.cache
def _tell_once(line: str) -> None:
    log.warning("%s", line)


def run_config(info: MemberInfo) -> dict[str, Any]:
    """Return a run's W&B config: what is grouped by at the top level, all else under `config`."""
    top = ("act", "depth", "init", "seed", "model", "data", "lr")
    return {**{key: getattr(info, key) for key in top}, "config": info.config}


def final_numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tools keep of a summary: finite numbers, and not where the run was pruned.

    Another sweep may train it on, and neither W&B nor MLflow forgets what it was told once.
    """
    return finite({key: value for key, value in summary.items() if key != "pruned_epoch"})


def past_rows(info: MemberInfo, until: float) -> list[Row]:
    """Read the rows up to a step from the run's own files."""
    histograms: dict[int, dict[str, Histogram]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name, series in read_histograms(info.run_dir / "histograms.npz").items():
            for step, counts in zip(series.steps.tolist(), series.counts, strict=True):
                histograms.setdefault(step, {})[name] = Histogram(counts, series.edges)
    rows: list[Row] = []
    with contextlib.suppress(FileNotFoundError), open(info.run_dir / "metrics.jsonl") as file:
        for line in file:
            values = {k: math.nan if v is None else v for k, v in json.loads(line).items()}
            step, epoch = int(values.pop("step")), values.pop("epoch")
            if step > until:
                break
            rows.append(Row(step, epoch, values, histograms.get(step, {})))
    return rows


def runs_that_fit(wanted: int, files: int = FILES_A_RUN) -> int:
    """Return how many runs the limit on open files leaves room for, after raising the soft limit.

    W&B holds three files a run and, when they run out, loses runs without an error. `files`: how
    many each run holds open, where it isn't W&B's alone.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = files * wanted + FILES_SPARE + _open_files()
    if soft != resource.RLIM_INFINITY and soft < need:
        raised = need if hard == resource.RLIM_INFINITY else min(need, hard)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        return max(0, min(wanted, (soft - FILES_SPARE - _open_files()) // files))
    return wanted


def server_url() -> str:
    """Return the URL of the W&B server that this user's settings name."""
    return str(import_wandb().setup().settings.base_url)


def preflight() -> str | None:
    """Ask the W&B server who we are; None when it answers within 3 s, else the reason in words."""
    try:
        import_wandb()
        from wandb.sdk.lib import wbauth

        url = server_url()
        auth = wbauth.authenticate_session(
            host=url, source="actsweep", prompt=False, update_session=False
        )
    except Exception as error:
        return f"no usable API key: {error}"
    if auth is None:
        return "no API key; type `wandb login` or set WANDB_API_KEY"
    if not isinstance(auth, wbauth.AuthApiKey):
        return None  # an identity token: only wandb itself can exchange it
    answer: list[str | None] = []
    asking = threading.Thread(
        target=lambda: answer.append(_ask_viewer(url, auth.api_key)), daemon=True
    )
    asking.start()  # in a thread, since a look-up of the host's name knows no time-out
    asking.join(PREFLIGHT_SECONDS + 0.5)
    return answer[0] if answer else f"{url} did not answer within {PREFLIGHT_SECONDS:.0f} s"


def hint_lines(run_dirs: Sequence[Path], mode: str) -> list[str]:
    """Return what to type to view the runs and, when they are offline, to upload them."""
    if not run_dirs:
        return []
    folders = [run_dir / "wandb" for run_dir in run_dirs]
    lines = [f"look:   wandb leet {shlex.quote(str(folders[0]))}"]
    if len(folders) > 1:
        lines[0] += f"   (and {len(folders) - 1} more)"
    if mode == "offline":
        lines.append(f"upload: {sync_command(run_dirs)}")
    return lines


def sync_command(run_dirs: Sequence[Path]) -> str:
    """Return the `wandb sync` line for these runs; past four of them, for all in their folder."""
    if len(run_dirs) > 4:
        return f"wandb sync {shlex.quote(str(run_dirs[0].parent))}/*/wandb/offline-run-*"
    folders = [f"{shlex.quote(str(run_dir))}/wandb/offline-run-*" for run_dir in run_dirs]
    return " ".join(["wandb sync", *folders])


def stop_service() -> None:
    """Kill and reap a wandb-core that is no use: wandb would wait for it at exit, for ever."""
    wandb = import_wandb()
    connection = wandb.setup()._connection
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    if process is not None:
        process.kill()
        process.wait()


def restart_service() -> None:
    """Kill wandb-core; the next run gets a new one."""
    with contextlib.suppress(Exception):
        stop_service()
        import_wandb().teardown()


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return FILES_SPARE


def _ask_viewer(url: str, key: str) -> str | None:
    login = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(
        f"{url.rstrip('/')}/graphql",
        data=json.dumps({"query": VIEWER}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Basic {login}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PREFLIGHT_SECONDS) as response:
            viewer = (json.load(response).get("data") or {}).get("viewer")
    except urllib.error.HTTPError as error:
        error.close()
        return f"{url} answered {error.code} {error.reason}"
    except Exception as error:
        return f"{url} can't be reached: {getattr(error, 'reason', error)}"
    return None if viewer else f"{url} does not know this API key"
