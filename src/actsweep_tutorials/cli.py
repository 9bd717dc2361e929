"""`actsweep experiment` and `actsweep claims`, found by the command through an entry point."""

from pathlib import Path

from cyclopts import App

from actsweep.cli.commands import OUTPUTS, Outputs


def add_commands(app: App) -> None:
    """Add the tutorials' experiments, and what they claim, to the command `actsweep`."""
    app.command(experiment)
    app.command(claims)


def experiment(name: str, /, *words: str, outputs: Outputs = OUTPUTS) -> int:
    """Do an experiment of the tutorials.

    Writes figures, result.json and a page README.md to OUTPUTS/experiments/NAME. What trains goes
    through actsweep train: to go on after an interruption, type the same command again. Any
    override of it may follow.

    Args:
        name: An experiment, or list.
        words: Parameters as KEY=VALUE, such as act=relu,tanh.
    """
    from actsweep_tutorials.commands import list_experiments, run_experiment

    return list_experiments() if name == "list" else run_experiment(name, words, outputs)


def claims(*, all: bool = False, docs: Path = Path("docs"), outputs: Outputs = OUTPUTS) -> int:
    """Check what the tutorials claim; writes a page.

    Computes the verdict on every claim and writes claims.md, figures, and the numbers of what
    trains, into the folder of --docs. Without --all the latter are read from there.

    Args:
        all: Also what needs training.
        docs: Where to.
    """
    from actsweep_tutorials.commands import check_claims

    return check_claims(outputs, docs, everything=all)
