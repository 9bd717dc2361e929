"""`actsweep experiment` and `actsweep claims`, found by the command through an entry point."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands `experiment` and `claims`.

    Args:
        commands: the subparsers of `actsweep`.
        add: makes a subparser: `add(commands, name, run, help, description)`.
    """
    experiment = add(
        commands, "experiment", _experiment, "run an experiment of the tutorials", _EXPERIMENT
    )
    experiment.add_argument("name", metavar="NAME", help="an experiment, or list")
    experiment.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="parameters, such as act=relu,tanh"
    )
    check = add(
        commands,
        "claims",
        _claims,
        "check the tutorials' claims and write a page",
        _CLAIMS,
    )
    check.add_argument("--all", action="store_true", help="also train what the claims need")
    check.add_argument(
        "--docs", type=Path, default=Path("docs"), metavar="DIR", help="the folder to write into"
    )


_EXPERIMENT = """Writes figures, result.json and a page README.md to DIR/experiments/NAME. Training
goes through train.py: to go on after an interruption, type the same command again. Any override of
train.py may follow."""
_CLAIMS = """Computes the verdict on every claim and writes claims.md, gallery.md and figures into
the folder of --docs. With --all, the experiments that train are run as well, and their numbers kept
in that folder; without it, these numbers are read from it."""


def _experiment(options: argparse.Namespace) -> int:
    from actsweep_tutorials import commands

    if options.name == "list":
        return commands.list_experiments()
    return commands.run_experiment(options.name, options.words, options.outputs)


def _claims(options: argparse.Namespace) -> int:
    from actsweep_tutorials import commands

    return commands.check_claims(options.outputs, options.docs, everything=options.all)
