"""The command `actsweep`: training, how sweeps are, going on with them, comparing, tidying up."""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from actsweep.cli import commands
from actsweep.runtime import streams
from actsweep.utils.errors import UserError
from actsweep.utils.invocation import TRAIN

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
PLUGINS = "actsweep.commands"
"""Entry points that add commands: each a function of the `App`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input is one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # as a process of its own
        streams.make_lasting()
    try:
        return _run(words)
    except (UserError, CycloptsError) as error:
        print(f"error: {_explain(error)}", file=sys.stderr)
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
    _, path, rest = app.parse_commands(words)
    if not rest and path[-1].default_command is None:
        app.help_print(words)
        return BAD_INPUT
    done = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    return done if isinstance(done, int) else 0


def _explain(error: Exception) -> str:
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"{error.unused_tokens[0]}: not expected here; see actsweep --help"
    return " ".join(str(error).split()) if isinstance(error, CycloptsError) else str(error)


def command_line() -> App:
    """Every command, those of plugins too."""
    app = App(
        "actsweep",
        version=lambda: version("actsweep"),
        help=f"{__doc__}\n\nTo train: {TRAIN} -m act=relu,elu seed=0,1",
        help_formatter="plain",
        default_parameter=Parameter(negative=(), show_default=_shown),
        suppress_keyboard_interrupt=False,
    )
    for command in commands.COMMANDS:
        app.command(command)
    data = App("data", help="Data sets.")
    data.command(commands.prepare)
    app.command(data)
    for plugin in entry_points(group=PLUGINS):
        plugin.load()(app)
    app.register_install_completion_command(help="Complete this command with TAB in this shell.")
    return app


def _shown(default: object) -> object:
    """A default that helps; that an option isn't given unless it is given goes without saying."""
    return default or None
