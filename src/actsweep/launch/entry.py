"""Entry points around Hydra: one-line errors, exit codes, signals, and Hydra's task.

Nothing here imports jax before training starts.
"""

import contextlib
import functools
import gc
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from actsweep.config import resolve
from actsweep.config.error_messages import explain
from actsweep.config.overrides import for_hydra
from actsweep.config.schema import RunConfig
from actsweep.launch.job import (
    check_before,
    is_coordinator,
    run_worker,
    show_plan,
    train_all,
    train_members,
)
from actsweep.runs import run_dir
from actsweep.runs.members import make_member
from actsweep.runtime import streams, supervisor
from actsweep.runtime.distributed import ProcessLost
from actsweep.runtime.process import Process
from actsweep.sweeps.exit_codes import BAD_INPUT, INTERRUPTED, OK, PREEMPTED, SOME_FAILED
from actsweep.sweeps.plan import FreshFiles, check_folder, freeze, new_plan
from actsweep.utils.errors import LocalError, UserError, first_line
from actsweep.utils.invocation import train_command

details = logging.getLogger("actsweep.traceback")  # goes only to the job's log file

FULL_ERROR = "HYDRA_FULL_ERROR"
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


class Refused(BaseException):
    """A UserError, its cause, on the way past Hydra, which would report any `Exception`."""


@functools.cache
def this_process() -> Process:
    """Return the state of this process: its signals and its process group.

    Hydra passes nothing but a config to its task and its sweeper, so they get it here. Everything
    below them gets it as an argument.
    """
    return Process()


def guard(main: Callable[[], None]) -> int:
    """Run the Hydra application; return an exit code, and print an error as one line."""

    def typed(process: Process) -> int:
        sys.argv[1:] = for_hydra(sys.argv[1:])
        main()
        return OK

    return guarded(typed)


def guarded(action: Callable[[Process], int]) -> int:
    """Run an action and return its exit code, or print its error as one line.

    HYDRA_FULL_ERROR=1 shows the traceback as well.
    """
    full = os.environ.get(FULL_ERROR) == "1"
    process = this_process()
    set_up_process(process)
    try:
        with hydra_raises():
            return _unless_lost(action, process)
    except KeyboardInterrupt:
        return _interrupted(process)
    except (Exception, Refused) as raised:
        error = raised.__cause__ if isinstance(raised, Refused) else raised
        assert error is not None
        if full:
            traceback.print_exception(error)
        if process.stop.asked:  # the signal caused the error
            return _interrupted(process)
        code = BAD_INPUT if is_input(error) else SOME_FAILED
        number = getattr(error, "errno", None)  # none in what Hydra calls an OSError
        # Maybe of this process only.
        private = code != BAD_INPUT or number is not None or isinstance(error, LocalError)
        if private or not _is_worker():
            print(f"error: {explain(error)}", file=sys.stderr)
        return code


@contextlib.contextmanager
def hydra_raises() -> Iterator[None]:
    """Have Hydra raise errors inside, which we report, instead of printing them."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(FULL_ERROR, None)
        else:
            os.environ[FULL_ERROR] = before


def _is_worker() -> bool:
    """Return whether another process of the same command will report bad input."""
    distributed = any(re.match(r"\+*trainer\.distributed=", word) for word in sys.argv[1:])
    return distributed and os.environ.get("SLURM_PROCID", "0") != "0"


def _interrupted(process: Process) -> int:
    print("interrupted; the same command goes on from what is saved", file=sys.stderr)
    return INTERRUPTED if process.stop.asked in (None, signal.SIGINT) else PREEMPTED


def _unless_lost(action: Callable[[Process], int], process: Process) -> int:
    """Run an action, return its exit code; end at once if another process was lost."""
    code: Any = SOME_FAILED
    group = process.group
    try:
        code = action(process)
    except SystemExit as end:
        code = end.code
        raise
    except ProcessLost as lost:  # in a worker
        code, why = PREEMPTED, lost.__cause__
        if why and not isinstance(why, RuntimeError | ValueError):  # as JAX raises for others
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
    """Handle signals; keep tracebacks of other libraries off the terminal."""
    process.stop.install()
    # Importing and tracing make millions of objects and hardly any garbage: by default Python looks
    # for it so often that this takes 7 % of a small sweep's time.
    gc.set_threshold(50_000, 20, 50)
    logging.raiseExceptions = False  # else a traceback per log line on a full disk
    if not process.called:  # the streams are the caller's
        streams.make_lasting()


def is_input(error: BaseException) -> bool:
    """Return whether an error says that the input was bad."""
    from hydra.errors import HydraException

    kinds = (UserError, HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError)
    return isinstance(error, kinds)


def run(cfg: DictConfig) -> list[dict[str, Any]]:
    """Run Hydra's task: train the runs of this job, or a sweep of one run to its end."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    os.chdir(hydra.runtime.cwd)  # hydra.job.chdir has left it; our paths are relative to it
    try:
        if hydra.mode != RunMode.MULTIRUN:
            raise SystemExit(_single(cfg, hydra, this_process()))
        if cfg.pack.members is None:
            sweeper = hydra.runtime.choices["hydra/sweeper"]
            raise UserError(
                f"hydra/sweeper={sweeper}: must be pack, optuna, race or tune; leave it out"
            )
        process = this_process()
        alone = hydra.runtime.choices["hydra/launcher"] != "basic"
        if alone:
            set_up_process(process)
        return train_members(Path(hydra.sweep.dir), list(cfg.pack.members), process, alone=alone)
    except (UserError, OmegaConfBaseException) as error:
        if hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] != "basic":
            raise  # another process: only an Exception comes back from it
        raise Refused from error
    except Exception:
        details.error("%s", traceback.format_exc())
        raise


def tell_twins(runs: Iterable[RunConfig]) -> None:
    """Print a line for each formula of the runs that the catalogue has by a name."""
    acts = [run.act for run in runs if "formula" in run.act]
    if acts:
        from actsweep.theory.twins import tell  # needs NumPy

        tell(acts)


def check_called(process: Process, launcher: str, distributed: str | None) -> None:
    """Check that what was called from Python trains in this process.

    Raises:
        UserError: it would train in others.
    """
    if not process.called:
        return
    why = "a call from Python trains in its own process; leave it out, or type actsweep train -m …"
    if launcher != "basic":
        raise UserError(f"hydra/launcher={launcher}: {why}")
    if distributed:
        raise UserError(f"trainer.distributed={distributed}: {why}")


def _single(cfg: DictConfig, hydra: Any, process: Process) -> int:
    """Check, plan and train one run as a sweep; return the exit code."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from actsweep.config.compose import act_option, checked

    folder = Path(hydra.run.dir)
    fresh = FreshFiles(folder)
    # As typed: `${…}` in them belongs to the config, not to this list.
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    try:
        launcher = hydra.runtime.choices["hydra/launcher"]
        check_called(process, launcher, cfg.trainer.distributed)
        if launcher == "slurm":
            raise UserError(
                f"hydra/launcher=slurm: only submits sweeps; type {train_command()} -m …"
            )
        loader = GlobalHydra.instance().config_loader()
        option_of = functools.partial(act_option, loader)
        config = checked(resolve.typed(cfg), overrides, hydra.runtime.choices, option_of)
        run_dir.check_writable(config.paths.outputs)
        member = make_member(config)
        tell_twins([config])
        if config.pack.plan:
            fresh.discard()
            show_plan([[member]])
            return OK
        plan = new_plan(folder, [[member]], {member.run_id: overrides})
        plan = check_folder(plan, "hydra.run.dir")
        check_before(plan)
    except UserError:
        fresh.discard()
        raise
    if not is_coordinator(config):
        return run_worker(config, process)
    whole = OmegaConf.create({**cfg, "hydra": OmegaConf.to_container(hydra)})
    # `actsweep resume` goes on with these: it trains one run in this process, for any launcher.
    whole.hydra.mode = RunMode.MULTIRUN
    whole.hydra.launcher = {"_target_": BASIC}
    whole.hydra.runtime.choices["hydra/launcher"] = "basic"
    freeze(plan, whole)
    process.folder = folder
    try:
        return train_all(
            plan,
            lambda jobs: [train_members(folder, job, process, alone=False) for job in jobs],
            process,
        )
    except UserError:
        fresh.discard()
        raise
