"""The command `actsweep`: training, how sweeps are, going on with them, comparing, tidying up."""

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version

from cyclopts import App, CycloptsError, Parameter

from actsweep.cli import commands
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import TRAIN

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
PLUGINS = "actsweep.commands"
"""Entry points that add commands: each a function of the `App`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input is one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except (UserError, CycloptsError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"error: {error.filename or 'actsweep'}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(words: list[str]) -> int:
    if words[:1] == ["train"]:  # whatever follows is Hydra's, --help too
        from actsweep.cli.train import train

        return train(words[1:])
    app = command_line()
    if not words:
        app.help_print([])
        return BAD_INPUT
    done = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    return done if isinstance(done, int) else 0


def command_line() -> App:
    """Every command, those of plugins too."""
    app = App(
        "actsweep",
        version=lambda: version("actsweep"),
        help=__doc__,
        help_epilogue=f"To train: {TRAIN} -m act=relu,elu seed=0,1",
        help_formatter="plain",
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    add: Callable[..., object]
    for add in commands.COMMANDS:
        app.command(add)
    data = App("data", help="Data sets.")
    data.command(commands.prepare)
    app.command(data)
    for plugin in entry_points(group=PLUGINS):
        plugin.load()(app)
    app.register_install_completion_command(help="Complete this command with TAB in this shell.")
    return app
