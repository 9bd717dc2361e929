"""The loggers that the config lists under `logger.writers`, built by name or from a `_target_`."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from actsweep.loggers import csv_log, mlflow_log, tensorboard_log, trackio_log
from actsweep.loggers.base import Writer
from actsweep.utils import imports
from actsweep.utils.errors import UserError, unknown_name

TOOLS: dict[str, Callable[..., Writer]] = {
    "csv": csv_log.writer,
    "tensorboard": tensorboard_log.writer,
    "trackio": trackio_log.writer,
    "mlflow": mlflow_log.writer,
}
METHODS = ("check", "open", "row", "message", "finish", "close")


def build(entries: Mapping[str, Mapping[str, Any] | None]) -> list[Writer]:
    """Build the loggers that the config lists.

    Args:
        entries: name -> arguments of the factory, among them `_target_` for the dotted path of a
            user's factory. An entry of None switches that logger off.

    Raises:
        UserError: a name is unknown, its package isn't installed, an import fails, or a factory
            refuses its arguments.
    """
    return [
        _build_one(name, dict(options)) for name, options in entries.items() if options is not None
    ]


def check(entries: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Check what can be without importing a user's code.

    Raises:
        UserError: as `build`.
    """
    build({name: options for name, options in entries.items() if "_target_" not in (options or {})})


def _build_one(name: str, options: dict[str, Any]) -> Writer:
    path = f"logger.writers.{name}"
    target = options.pop("_target_", None)
    if target is not None:
        factory = imports.import_target(path, str(target))
    elif name not in TOOLS:
        raise unknown_name("logger.writers", name, TOOLS)
    else:
        factory = TOOLS[name]
        if name != "csv" and not find_spec(name):
            raise UserError(
                f'logger={name}: needs the package {name}; type pip install "actsweep[{name}]"'
            )
    try:
        writer = factory(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}={options}: {error}") from error
    if missing := [method for method in METHODS if not hasattr(writer, method)]:
        raise UserError(
            f"{path}: {target} returned a {type(writer).__name__} without {', '.join(missing)}; "
            "return a subclass of actsweep.loggers.base.Writer"
        )
    made: Writer = writer
    return made
