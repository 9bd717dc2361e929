"""actsweep: what does this activation function do to training?

>>> import actsweep
>>> sweep = actsweep.sweep("act=relu,elu", "seed=0,1,2")  # doctest: +SKIP
>>> sweep.compare()  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsweep.api.calls import load_sweep, plan, sweep, train
    from actsweep.api.sweep import Sweep
    from actsweep.runs.load import Run, load_run
    from actsweep.utils.errors import UserError

    __version__: str

_HOMES = {
    "Run": "actsweep.runs.load",
    "Sweep": "actsweep.api.sweep",
    "UserError": "actsweep.utils.errors",
    "load_run": "actsweep.runs.load",
    "load_sweep": "actsweep.api.calls",
    "plan": "actsweep.api.calls",
    "sweep": "actsweep.api.calls",
}
__all__ = [
    "Run",
    "Sweep",
    "UserError",
    "__version__",
    "load_run",
    "load_sweep",
    "plan",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """Return what importing actsweep must not wait for.

    `load_run` imports jax; the version is read from what is installed, which has it from
    pyproject.toml. `train` is the package, which can be called.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("actsweep")
    if name == "train":
        return import_module("actsweep.train")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'actsweep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
