"""Training as a call from Python: what the command does, without its exit codes.

What the command sets for its whole process is as before when the call returns: Hydra's globals,
logging, signals, `sys.argv`. Two things stay: jax's devices and its settings, which can't be taken
back, and the working folder in `sys.path`, by which a run's own code is found when it is loaded.
No jax before training starts.
"""

import contextlib
import copy
import gc
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime

from actsweep.config.error_messages import explain
from actsweep.config.overrides import for_hydra
from actsweep.launch.entry import (
    Refused,
    hydra_raises,
    is_input,
    set_up_process,
    this_process,
)
from actsweep.launch.train import application
from actsweep.runtime.process import Process
from actsweep.sweeps.exit_codes import INTERRUPTED, PREEMPTED
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import as_train


def train(words: Sequence[str], config_dir: Path | None, *, multirun: bool) -> Path | None:
    """Train what the words ask for, in this process, as `actsweep train` does.

    Args:
        words: overrides, such as `act=relu,elu`.
        config_dir: a folder with further groups, as `--config-dir`.
        multirun: whether they may list several values, as with `-m`.

    Returns:
        The sweep's folder; None with `pack.plan=true`, which trains nothing.

    Raises:
        UserError: bad input; nothing has started.
        KeyboardInterrupt: the training was interrupted; what it has saved is on disk.
    """
    for word in words:
        if not isinstance(word, str) or word.startswith("-"):
            raise UserError(f"{word}: must be an override, such as act=relu,elu; leave it out")
    options = ["-m"] if multirun else []
    if config_dir is not None:
        options += ["--config-dir", str(config_dir)]
    with _as_before(), _as_command([*options, *words]) as process:
        code = _exit_code(process)
    if process.stop.asked not in (None, signal.SIGINT):
        signal.raise_signal(process.stop.asked)  # which the caller handles
    if code in (INTERRUPTED, PREEMPTED):
        raise KeyboardInterrupt("interrupted; the same call goes on from what is saved")
    return process.folder


def _exit_code(process: Process) -> object:
    """Train, and return the command's exit code."""
    try:
        sys.argv[1:] = for_hydra(sys.argv[1:])
        application()()
    except SystemExit as end:
        return end.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Exception, Refused) as raised:
        error = raised.__cause__ if isinstance(raised, Refused) else raised
        assert isinstance(error, Exception)
        if process.stop.asked:  # the signal caused the error
            return INTERRUPTED
        if is_input(error) and not isinstance(error, UserError):
            raise UserError(explain(error)) from error
        raise error from error.__cause__
    return None


@contextlib.contextmanager
def _as_command(words: Sequence[str]) -> Iterator[Process]:
    """Make this process the command of some words, inside."""
    argv = sys.argv
    collected, raises = gc.get_threshold(), logging.raiseExceptions
    this_process.cache_clear()
    process = this_process()
    process.called = True
    try:
        as_train(words)
        set_up_process(process)
        with hydra_raises():
            yield process
    finally:
        process.stop.uninstall()
        this_process.cache_clear()
        gc.set_threshold(*collected)
        logging.raiseExceptions = raises
        sys.argv = argv


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Leave Hydra's globals and everybody's loggers as they were."""
    hydra, config, runtime = GlobalHydra.instance(), HydraConfig.instance(), JobRuntime.instance()
    globals_before = hydra.hydra, config.cfg, copy.deepcopy(runtime.conf)
    names = [None, *logging.root.manager.loggerDict]
    loggers = [logging.getLogger(name) for name in names]
    before = [
        (each, list(each.handlers), each.level, each.propagate, each.disabled) for each in loggers
    ]
    hydra.clear()
    try:
        yield
    finally:
        hydra.hydra, config.cfg, runtime.conf = globals_before
        for name in list(logging.root.manager.loggerDict):
            if name.startswith(("actsweep", "absl")) and name not in names:
                before.append((logging.getLogger(name), [], logging.NOTSET, True, False))
        for logger, handlers, level, propagate, disabled in before:
            for handler in logger.handlers:
                if handler not in handlers:
                    handler.close()
            logger.handlers[:], logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)
