"""A user's own code, by its dotted path."""

import importlib
from typing import Any

from actsweep.utils.errors import UserError


def find(group: str, target: str) -> Any:
    """What `<group>._target_` names: `module.name` or `package.module.name`.

    Raises:
        UserError: it can't be imported, with the reason.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{group}._target_={target}: can't be imported ({error}); type a dotted path whose "
            f"folder is on PYTHONPATH, for example {group}._target_=my_module.my_own"
        ) from error
