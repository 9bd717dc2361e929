"""The command `actsweep`: everything that isn't training. Training is `python train.py`."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from actsweep.errors import UserError

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input is one line and exit code 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return BAD_INPUT
    try:
        options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "actsweep", description=__doc__, epilog="To train: python train.py -m act=relu,elu seed=0,1"
    )
    parser.add_argument("--version", action="version", version=version("actsweep"))
    commands = parser.add_subparsers(title="commands")
    data = commands.add_parser("data", help="data sets").add_subparsers(required=True)
    prepare = data.add_parser(
        "prepare", help="fetch, verify and prepare a data set ahead of time", description=_PREPARE
    )
    prepare.add_argument("name", help="fashion_mnist, mnist or kmnist")
    prepare.add_argument("--dir", type=Path, help="where to (default: as data.dir)")
    prepare.add_argument("--force", action="store_true", help="even if it is there: make it anew")
    prepare.set_defaults(run=_prepare)
    show = commands.add_parser("show", help="a run's state and final numbers")
    show.add_argument("run_dir", type=Path, help="outputs/runs/<run_id>")
    show.set_defaults(run=_show)
    return parser


_PREPARE = """Training does this by itself; ahead of time it helps where compute nodes have no
network. Prints the folder that holds the prepared data."""


def _prepare(options: argparse.Namespace) -> None:
    from actsweep.data.prepare import prepare

    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    print(prepare(options.name, options.dir, say, force=options.force))


def _show(options: argparse.Namespace) -> None:
    from actsweep.load import load_run

    run = load_run(options.run_dir)
    for name, value in {**run.status, **run.summary}.items():
        print(f"{name:18} {value}")


if __name__ == "__main__":
    sys.exit(main())
