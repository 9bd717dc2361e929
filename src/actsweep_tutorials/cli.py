"""`actsweep experiment` and `actsweep claims`, found by the command through an entry point."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the tutorials' experiments, and what they claim.

    Args:
        commands: the subparsers of `actsweep`.
        add: makes a subparser: `add(commands, name, run, help, description)`.
    """
    experiment = add(
        commands, "experiment", _experiment, "do an experiment of the tutorials", _EXPERIMENT
    )
    experiment.add_argument("name", metavar="NAME", help="an experiment, or list")
    experiment.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="parameters, such as act=relu,tanh"
    )
    check = add(
        commands, "claims", _claims, "check what the tutorials claim; writes a page", _CLAIMS
    )
    check.add_argument("--all", action="store_true", help="also what needs training")
    check.add_argument("--docs", type=Path, default=Path("docs"), metavar="DIR", help="where to")


_EXPERIMENT = """Writes figures, result.json and a page README.md to DIR/experiments/NAME. What
trains goes through train.py and its ledger: typed again, it goes on. Any override of train.py may
follow."""
_CLAIMS = """Computes the verdict on every claim and writes claims.md, figures, and the numbers of
what trains, into the folder of --docs. Without --all the latter are read from there."""


def _experiment(options: argparse.Namespace) -> int:
    from actsweep_tutorials import commands

    if options.name == "list":
        return commands.show_list()
    return commands.do(options.name, options.words, options.outputs)


def _claims(options: argparse.Namespace) -> int:
    from actsweep_tutorials import commands

    return commands.check(options.outputs, options.docs, everything=options.all)
