"""A W&B run made from a run's own files, which are the truth: where W&B has none, or lacks rows."""

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actsweep.loggers import wandb_log
from actsweep.loggers import wandb_support as support
from actsweep.loggers.wandb_run import WandbRun
from actsweep.runs.rows import MemberInfo


def replay(
    info: MemberInfo, mode: str, options: Mapping[str, Any], summary: Mapping[str, Any]
) -> Path:
    """Log all rows of a run to W&B anew, and its final numbers; return the W&B file.

    Their times are those of the replay: only `epoch` and the step say when something was.

    Args:
        info: the run's.
        mode: `offline` or `online`.
        options: arguments of `wandb.init`.
        summary: the final numbers, with the run's `state`.

    Raises:
        TimeoutError: wandb-core hasn't written the file to its end.
    """
    run = WandbRun(dataclasses.replace(info, resumed_at=None), mode, dict(options))
    try:
        for row in support.past_rows(info, math.inf):
            run.put(row)
        run.end(summary["state"], support.final_numbers(summary))
        run.finish(summary["state"])
        if not wandb_log.wait_until_finished(run.file, time.monotonic() + support.FINISH_SECONDS):
            raise TimeoutError(f"W&B has not written {run.file} after {support.FINISH_SECONDS:g} s")
    except Exception:
        if mode == "offline":  # else the next upload would take this part for a run of its own
            wandb_log.mark_synced(run.file)
        raise
    return run.file
