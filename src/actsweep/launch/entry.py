"""What stands around Hydra: one-line errors, exit codes, signals; Hydra's task itself.

Nothing here imports jax before training starts.
"""

import functools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from actsweep.config import resolve
from actsweep.config.error_messages import explain
from actsweep.config.overrides import for_hydra
from actsweep.launch.job import (
    first_line,
    is_coordinator,
    run_worker,
    show_plan,
    train_all,
    train_members,
)
from actsweep.runs import run_dir
from actsweep.runs.members import make_member
from actsweep.runtime import supervisor
from actsweep.runtime.distributed import ProcessLost
from actsweep.runtime.process import Process
from actsweep.sweeps.exit_codes import BAD_INPUT, INTERRUPTED, OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.plan import discard, freeze, new_plan
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import train_command

details = logging.getLogger("actsweep.traceback")  # to the job's log file alone

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class Refused(BaseException):
    """Takes a UserError (its cause) past Hydra, which would report any `Exception` of a job."""


@functools.cache
def this_process() -> Process:
    """Return what this process has been asked to do, and whom it trains with.

    Hydra hands its task and its sweeper nothing but a config: they find it here. Everything below
    them gets it as an argument.
    """
    return Process()


def guard(main: Callable[[], None]) -> int:
    """Run the Hydra application; turn what it raises into one line and an exit code."""

    def typed(process: Process) -> int:
        sys.argv[1:] = for_hydra(sys.argv[1:])
        main()
        return OK

    return guarded(typed)


def guarded(action: Callable[[Process], int]) -> int:
    """Run what trains and returns an exit code; turn what it raises into a line and such a code.

    HYDRA_FULL_ERROR=1 shows the traceback as well.
    """
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and leaves the telling to us
    process = this_process()
    set_up_process(process)
    try:
        return _unless_lost(action, process)
    except KeyboardInterrupt:
        return _interrupted(process)
    except (Exception, Refused) as raised:
        error = raised.__cause__ if isinstance(raised, Refused) else raised
        assert error is not None
        if full:
            traceback.print_exception(error)
        if process.stop.asked:  # the signal came in the way of whatever raised this
            return _interrupted(process)
        code = BAD_INPUT if _is_input(error) else SOME_FAILED
        number = getattr(error, "errno", None)  # none in what Hydra calls an OSError
        private = code != BAD_INPUT or number is not None  # of this process alone, maybe
        if private or os.environ.get("SLURM_PROCID", "0") == "0":
            print(f"error: {explain(error)}", file=sys.stderr)
        return code


def _interrupted(process: Process) -> int:
    print("interrupted; the same command goes on from what is saved", file=sys.stderr)
    return INTERRUPTED if process.stop.asked in (None, signal.SIGINT) else PREEMPTED


def _unless_lost(action: Callable[[Process], int], process: Process) -> int:
    """Run it; a process that has lost others ends without waiting for them."""
    code: Any = SOME_FAILED
    group = process.group
    try:
        code = action(process)
    except SystemExit as end:
        code = end.code
        raise
    except ProcessLost as lost:  # in a worker
        code, why = PREEMPTED, lost.__cause__
        if why and not isinstance(why, RuntimeError | ValueError):  # not what JAX says of others
            print(
                f"error: process {group.rank} of {group.count}: {first_line(why)}", file=sys.stderr
            )
    finally:
        if group.lost:
            supervisor.report_abort()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else SOME_FAILED)
    return code


def set_up_process(process: Process) -> None:
    """Listen to signals; keep tracebacks off the terminal that others than us would print."""
    process.stop.install()
    logging.raiseExceptions = False  # one for every line that a full disk keeps out of a log
    others = sys.unraisablehook

    def tell(it: Any) -> None:
        # After a save that failed, and was told of, threads of Orbax find their loop closed.
        if str(it.exc_value) != "Event loop is closed":
            others(it)

    sys.unraisablehook = tell


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
            raise SystemExit(_single(cfg, hydra, this_process()))
        if cfg.pack.members is None:
            sweeper = hydra.runtime.choices["hydra/sweeper"]
            raise UserError(f"hydra/sweeper={sweeper}: must be pack; leave it out")
        process = this_process()
        alone = hydra.runtime.choices["hydra/launcher"] != "basic"
        if alone:
            set_up_process(process)
        return train_members(Path(hydra.sweep.dir), list(cfg.pack.members), process, alone=alone)
    except UserError as error:
        if hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] != "basic":
            raise  # another process: only an Exception comes back from it
        raise Refused from error
    except Exception:
        details.error("%s", traceback.format_exc())
        raise


def _single(cfg: DictConfig, hydra: Any, process: Process) -> int:
    """Check, plan and train one run, a sweep of its own; return the exit code."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from actsweep.config.compose import act_params, checked

    folder = Path(hydra.run.dir)
    overrides = list(hydra.overrides.task)
    try:
        if hydra.runtime.choices["hydra/launcher"] == "slurm":
            raise UserError(f"hydra/launcher=slurm: submits sweeps; type {train_command()} -m …")
        loader = GlobalHydra.instance().config_loader()
        params_of = functools.partial(act_params, loader)
        config = checked(resolve.typed(cfg), overrides, hydra.runtime.choices, params_of)
        run_dir.check_writable(config.paths.outputs)
    except UserError:
        discard(folder)
        raise
    member = make_member(config)
    if config.pack.plan:
        discard(folder)
        show_plan([[member]])
        return OK
    if not is_coordinator(config):
        return run_worker(config, process)
    plan = new_plan(folder, [[member]], {member.run_id: overrides})
    whole = OmegaConf.create({**cfg, "hydra": OmegaConf.to_container(hydra)})
    # With these `actsweep resume` will go on: one run is trained here, whatever the launcher.
    whole.hydra.mode = RunMode.MULTIRUN
    whole.hydra.launcher = {"_target_": BASIC}
    whole.hydra.runtime.choices["hydra/launcher"] = "basic"
    freeze(plan, whole)
    try:
        return train_all(
            plan,
            lambda jobs: [train_members(folder, job, process, alone=False) for job in jobs],
            process,
        )
    except UserError:
        discard(folder)
        raise
