"""User code, imported by its dotted path."""

import importlib
from typing import Any

from actsweep.utils.errors import UserError


def import_target(group: str, target: str) -> Any:
    """Import and return what `<group>._target_` names.

    Args:
        group: the config path of the group, for the message.
        target: `module.name` or `package.module.name`.

    Raises:
        UserError: it can't be imported; the message gives the reason.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{group}._target_={target}: can't be imported ({error}); type a dotted path whose "
            f"folder is on PYTHONPATH, for example {group}._target_=my_module.my_name"
        ) from error
