"""The command `actsweep rerun`: a run again, from what was typed for it."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actsweep.config.conf_dir import conf_dir
from actsweep.config.overrides import for_hydra
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import find, plan
from actsweep.utils.errors import UserError

CONFIG_DIR = ("--config-dir", "-cd")


def rerun(name: str, words: Sequence[str]) -> int:
    """Train a run again, or another that differs in `words`; return the exit code.

    Args:
        name: the run's id or its folder.
        words: further overrides. Without any, it is the same run that is trained.

    Raises:
        UserError: there is no such run, no sweep knows what was typed for it, or that makes another
            run today.
    """
    given = [word.partition("=")[2] for word in words if word.startswith("paths.outputs=")]
    (run,) = find.find_runs(Path(given[-1] if given else "outputs"), [name])
    run = RunDir(run.root.absolute(), run.run_id)
    folder, frozen = _sweep_of(run)
    typed = [*frozen["members"][run.run_id]["overrides"], f"paths.outputs={run.root}"]
    options = _config_dirs(frozen)
    plan.reopen(folder)
    if not [word for word in words if not word.startswith("paths.outputs=")]:
        _check_same(run, typed, options[1::2])
    from actsweep.cli.train import train

    return train([*options, *typed, "rerun=all", *words])


def _sweep_of(run: RunDir) -> tuple[Path, dict[str, Any]]:
    """Return the newest sweep that holds a run, and its plan."""
    for folder in find.newest(run.root):
        try:
            frozen = plan.read_frozen(folder)
        except UserError:
            continue
        if run.run_id in frozen["members"]:
            return folder.absolute(), frozen
    raise UserError(
        f"{run.run_id}: no sweep in {run.root}/sweeps knows what was typed for it; its settings "
        f"are in {run.config}: type those that aren't the defaults"
    )


def _config_dirs(frozen: dict[str, Any]) -> list[str]:
    """Return the options of the command that name config folders, made absolute."""
    options: list[str] = []
    words = frozen["command"]
    for place, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key in CONFIG_DIR:
            value = value if equals else words[place + 1]
            options += ["--config-dir", os.path.join(frozen["cwd"], value)]
    return options


def _check_same(run: RunDir, typed: Sequence[str], config_dirs: Sequence[str]) -> None:
    """Check that what was typed makes the same run today.

    Raises:
        UserError: the defaults or the user's own code have changed since.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from actsweep.config import resolve
    from actsweep.config.compose import act_option, checked
    from actsweep.runs.members import make_member

    resolve.register()
    search = [f"hydra.searchpath=[{','.join(f'file://{d}' for d in config_dirs)}]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", [*for_hydra(typed), *search * bool(config_dirs)])
        option_of = functools.partial(act_option, GlobalHydra.instance().config_loader())
        member = make_member(checked(resolve.typed(config), typed, {}, option_of))
    if member.run_id != run.run_id:
        raise UserError(
            f"{run.run_id}: what was typed for it makes {member.run_id} today: a default, the code "
            f"or the data has changed since; to train that, type actsweep train {' '.join(typed)}"
        )
