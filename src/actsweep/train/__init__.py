"""Training: launch -> pack -> cohort -> loop -> population -> step.

The package has the name of the function `actsweep.train`, and can be called as it:
`actsweep.train("act=relu")`. See `actsweep.api.calls.train`.
"""

import sys
from os import PathLike
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actsweep.runs.load import Run


class _Callable(ModuleType):
    """A package that is also the function of its name."""

    def __call__(
        self,
        *words: str,
        outputs: "str | PathLike[str] | None" = None,
        config_dir: "str | PathLike[str] | None" = None,
    ) -> "Run":
        """Train one run; see `actsweep.api.calls.train`."""
        from actsweep.api import calls

        return calls.train(*words, outputs=outputs, config_dir=config_dir)


sys.modules[__name__].__class__ = _Callable
