"""What `train.py` does around Hydra: one-line errors, exit codes, the sweep's folder and table.

Nothing here imports jax before training starts.
"""

import contextlib
import functools
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from actsweep.config import identity, resolve
from actsweep.config.error_messages import explain
from actsweep.config.overrides import for_hydra
from actsweep.config.schema import RunConfig
from actsweep.launch.finish import finish
from actsweep.runs import run_dir
from actsweep.runs.leases import Leases, owners
from actsweep.runtime import supervisor
from actsweep.runtime.distributed import ProcessLost, process_index, together
from actsweep.runtime.signals import Interrupted, stop_request
from actsweep.sweeps.exit_codes import BAD_INPUT, INTERRUPTED, OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.plan import Plan, discard, freeze, new_plan, read_plan
from actsweep.sweeps.results import (
    Result,
    ended_result,
    interrupted_result,
    result_on_disk,
    show_part,
)
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)
details = logging.getLogger("actsweep.traceback")  # to the job's log file alone

Jobs = Sequence[Sequence[str]]  # run ids
Ends = Sequence[list[Result] | Exception]
POLL_SECONDS = 1.0
FRUITLESS_S = 600.0
"""A job that has had so long, or half its time, without a step isn't queued again."""
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class Refused(BaseException):
    """Takes a UserError (its cause) past Hydra, which would report any `Exception` of a job."""


def guard(main: Callable[[], None]) -> int:
    """Run the Hydra application; turn what it raises into one line and an exit code."""

    def typed() -> int:
        sys.argv[1:] = for_hydra(sys.argv[1:])
        main()
        return OK

    return guarded(typed)


def guarded(action: Callable[[], int]) -> int:
    """Do what trains and returns an exit code; turn what it raises into one line and such a code.

    HYDRA_FULL_ERROR=1 shows the traceback as well.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and leaves the telling to us
    set_up_process()
    try:
        return _unless_lost(action)
    except KeyboardInterrupt:
        return _interrupted()
    except (Exception, Refused) as raised:
        error = raised.__cause__ if isinstance(raised, Refused) else raised
        assert error is not None
        if full:
            traceback.print_exception(error)
        if stop_request.asked:  # the signal came in the way of whatever raised this
            return _interrupted()
        code = BAD_INPUT if _is_input(error) else SOME_FAILED
        number = getattr(error, "errno", None)  # none in what Hydra calls an OSError
        own = code != BAD_INPUT or number is not None  # of this process alone, maybe
        if own or os.environ.get("SLURM_PROCID", "0") == "0":
            print(f"error: {explain(error)}", file=sys.stderr)
        return code


def _interrupted() -> int:
    print("interrupted; the same command goes on from what is saved", file=sys.stderr)
    return INTERRUPTED if stop_request.asked in (None, signal.SIGINT) else PREEMPTED


def _unless_lost(action: Callable[[], int]) -> int:
    """Do it; a process that has lost others ends without waiting for them."""
    code: Any = SOME_FAILED
    try:
        code = action()
    except SystemExit as end:
        code = end.code
        raise
    except ProcessLost as lost:  # in a process that follows
        code, why = PREEMPTED, lost.__cause__
        if why and not isinstance(why, RuntimeError | ValueError):  # not what JAX says of others
            who = f"process {together.rank} of {together.count}"
            print(f"error: {who}: {first_line(why)}", file=sys.stderr)
    finally:
        if together.lost:
            supervisor.report_abort()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else SOME_FAILED)
    return code


def set_up_process() -> None:
    """Listen to signals; keep tracebacks off the terminal that others than us would print."""
    stop_request.install()
    logging.raiseExceptions = False  # one for every line that a full disk keeps out of a log


def _is_input(error: BaseException) -> bool:
    from hydra.errors import HydraException

    kinds = (UserError, HydraException, OmegaConfBaseException, OSError, ValueError)
    return isinstance(error, kinds)


def run(cfg: DictConfig) -> list[dict[str, Any]]:
    """Hydra's task: train the runs of this job; alone, also finish the sweep of one."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    try:
        if hydra.mode != RunMode.MULTIRUN:
            raise SystemExit(_alone(cfg, hydra))
        if cfg.pack.members is None:
            sweeper = hydra.runtime.choices["hydra/sweeper"]
            raise UserError(f"hydra/sweeper={sweeper}: must be pack; leave it out")
        alone = hydra.runtime.choices["hydra/launcher"] != "basic"
        if alone:
            set_up_process()
        return train(Path(hydra.sweep.dir), list(cfg.pack.members), alone=alone)
    except UserError as error:
        if hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] != "basic":
            raise  # another process: only an Exception comes back from it
        raise Refused from error
    except Exception:
        details.error("%s", traceback.format_exc())
        raise


def _alone(cfg: DictConfig, hydra: Any) -> int:
    """Check, plan and train one run; the exit code."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from actsweep.config.compose import act_params, checked

    folder = Path(hydra.run.dir)
    overrides = list(hydra.overrides.task)
    try:
        if hydra.runtime.choices["hydra/launcher"] == "slurm":
            raise UserError("hydra/launcher=slurm: submits sweeps; type python train.py -m …")
        loader = GlobalHydra.instance().config_loader()
        params_of = functools.partial(act_params, loader)
        only = checked(resolve.typed(cfg), overrides, hydra.runtime.choices, params_of)
        run_dir.check_writable(only.paths.outputs)
    except UserError:
        discard(folder)
        raise
    if only.pack.plan:
        discard(folder)
        show_plan([[only]])
        return OK
    if not is_coordinator(only):
        return run_worker(only)
    plan = new_plan(folder, [[only]], [[overrides]])
    whole = OmegaConf.create({**cfg, "hydra": OmegaConf.to_container(hydra)})
    # With these `actsweep resume` will go on: one run is trained here, whatever the launcher.
    whole.hydra.mode = RunMode.MULTIRUN
    whole.hydra.launcher = {"_target_": BASIC}
    whole.hydra.runtime.choices["hydra/launcher"] = "basic"
    freeze(plan, whole)
    try:
        return train_all(plan, lambda jobs: [train(folder, job, alone=False) for job in jobs])
    except UserError:
        discard(folder)
        raise


def show_plan(packs: Sequence[Sequence[RunConfig]]) -> None:
    """Print which runs would share a program, and the memory that each pack would need.

    Raises:
        UserError: bad input that only shows once data and devices are there.
    """
    from actsweep.train.pack import preview

    for index, pack in enumerate(packs):
        says, done = preview(pack)
        print(f"pack {index}: {count(len(pack), 'run')}{says}")
        for one in pack:
            run_id = identity.run_id(one)
            print(f"  {run_id}{'  (complete already)' if run_id in done else ''}")
    print(f"{count(sum(map(len, packs)), 'run')} in {count(len(packs), 'pack')}")


def count(number: int, what: str) -> str:
    """So many of something, such as `3 runs`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def train_all(plan: Plan, launch: Callable[[Jobs], Ends]) -> int:
    """Train what a sweep has left: its packs, a job each; the exit code.

    Args:
        plan: the sweep.
        launch: trains jobs, given as run ids; says for each what it returned or what ended it.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    packs = [[identity.run_id(one) for one in pack] for pack in plan.packs]
    results = _work_off(plan, packs, launch)
    return finish(plan, [results[run_id] for run_id in plan.runs])


def train_job(plan: Plan, run_ids: Sequence[str]) -> int:
    """Train what some runs of a sweep have left, as one of its jobs; the exit code. Whoever ends
    last writes the sweep's table.

    Raises:
        UserError: every run was refused: nothing has started.
    """
    if not is_coordinator(plan.packs[0][0]):
        return run_worker(plan.packs[0][0])
    launch = lambda jobs: [train(plan.folder, job, alone=True) for job in jobs]  # noqa: E731
    began, before = time.monotonic(), _progress(plan, run_ids)
    results = _work_off(plan, [run_ids], launch)
    code = show_part(plan, [results[run_id] for run_id in run_ids])
    if all(ended_result(plan, one) for one in plan.runs.values()):
        finish(plan, [interrupted_result(plan, one) for one in plan.runs.values()])
    patience = min(FRUITLESS_S, 1800 * plan.packs[0][0].slurm.hours)
    took = time.monotonic() - began
    if code == PREEMPTED and took > patience and _progress(plan, run_ids) == before:
        log.error("no step in %.0f s: this job isn't queued again", took)
        return SOME_FAILED
    return code


def is_coordinator(one: RunConfig) -> bool:
    """Whether this process plans and writes; the others of those that train together `follow`.

    Raises:
        UserError: the config asks for several processes where there can't be.
    """
    return process_index(one.trainer)[0] == 0


def run_worker(one: RunConfig) -> int:
    """Train what the process that leads says, and as it says, until it is done; the exit code."""
    logging.disable()
    with stop_request.patience():  # the process that leads has been told as well, and decides
        together.join(one.trainer)
        from actsweep.train.pack import follow as follow_leader

        follow_leader()
        together.leave()
    return OK


def _progress(plan: Plan, run_ids: Sequence[str]) -> list[tuple[Any, Any]]:
    """What changes when runs get ahead."""
    found = [run_dir.read_status(run_dir.folder_of(plan.runs[run_id])) or {} for run_id in run_ids]
    return [(status.get("state") in run_dir.ENDED, status.get("step")) for status in found]


def _work_off(plan: Plan, jobs: Jobs, launch: Callable[[Jobs], Ends]) -> dict[str, Result]:
    """Train what the runs of some jobs have left, and what others were training; all results."""
    with together.leading(plan.packs[0][0].trainer):
        return _work_off_leading(plan, jobs, launch)


def _work_off_leading(plan: Plan, jobs: Jobs, launch: Callable[[Jobs], Ends]) -> dict[str, Result]:
    runs = {run_id: plan.runs[run_id] for job in jobs for run_id in job}
    results = {i: done for i, one in runs.items() if (done := ended_result(plan, one))}
    jobs = without_runs(results, jobs)
    try:
        # A sign of life for `actsweep status`, while jobs wait in a queue.
        with Leases(plan.outputs, plan.folder.name) if jobs else contextlib.nullcontext():
            while jobs:
                for job, end in zip(jobs, launch(jobs), strict=True):
                    results |= {r["run_id"]: r for r in _results(plan, job, end)}
                jobs = _after_others(plan, jobs, results)
    except KeyboardInterrupt:
        left = {i: one for i, one in runs.items() if i not in results}
        results |= {run_id: interrupted_result(plan, one) for run_id, one in left.items()}
    return results


def _results(plan: Plan, job: Sequence[str], end: list[Result] | Exception) -> list[Result]:
    if not isinstance(end, Exception):
        return end
    why = {"state": "failed", "cause": first_line(end)}
    return [result_on_disk(plan, plan.runs[run_id], why) for run_id in job]


def without_runs(run_ids: Collection[str], jobs: Jobs) -> list[list[str]]:
    """The jobs without some runs; one that loses all goes."""
    return [own for job in jobs if (own := [run_id for run_id in job if run_id not in run_ids])]


def _after_others(plan: Plan, jobs: Jobs, results: dict[str, Result]) -> Jobs:
    """Wait for the runs that other processes are training; take over what they leave behind."""
    busy = {run_id: plan.runs[run_id] for run_id, r in results.items() if "busy" in r}
    if not busy:
        return []
    waits = plan.packs[0][0].pack.wait
    if waits:
        who = dict.fromkeys(results[run_id]["busy"] for run_id in busy)
        log.warning("waiting for %s, in training by %s", count(len(busy), "run"), "; ".join(who))
        while owners(plan.outputs, busy):
            time.sleep(POLL_SECONDS)
    results |= {run_id: done for run_id, one in busy.items() if (done := ended_result(plan, one))}
    return (
        []
        if not waits
        else without_runs({run_id for run_id, r in results.items() if "busy" not in r}, jobs)
    )


def train(folder: Path, run_ids: Sequence[str], *, alone: bool) -> list[dict[str, Any]]:
    """Train the frozen members that one job holds; what goes wrong with them is in the results.

    Args:
        folder: the sweep's.
        run_ids: which of its runs.
        alone: whether this is a process of its own, whose results are all that others see of it.

    Returns:
        A result for each run. Bad input that only shows here leaves `refused` in it.

    Raises:
        Interrupted: a signal asked for it, and the process isn't the job's alone.
    """
    from actsweep.train.pack import failed, report, run_pack
    from actsweep.train.types import SweepContext

    plan = read_plan(folder)
    runs = {run_id: plan.runs[run_id] for run_id in run_ids}
    # A job that was queued again doesn't retry what it has seen fail before.
    done = {run_id: end for run_id, one in runs.items() if (end := ended_result(plan, one))}
    own = [one for run_id, one in runs.items() if run_id not in done]
    before = next(i for i, run_id in enumerate(plan.runs) if run_id == run_ids[0])
    place = SweepContext(folder.name, before + len(done), len(plan.runs), plan.attempt)
    try:
        return [*done.values(), *(run_pack(own, place) if own else [])]
    except UserError as error:
        return [*done.values(), *({**failed(one, error), "refused": str(error)} for one in own)]
    except Interrupted:
        if not alone:
            raise
        stop_request.hand_on()
        return [*done.values(), *(interrupted_result(plan, one) for one in own)]
    except Exception as error:
        report(error, run_ids)
        return [*done.values(), *(failed(one, error) for one in own)]


def first_line(error: BaseException) -> str:
    """What kind of error it is and the first line of what it says; submitit adds the job's log."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
