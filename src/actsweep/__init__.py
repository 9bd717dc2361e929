"""actsweep: what does this activation function do to training?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsweep.runs.load import Run, load_run

__all__ = ["Run", "load_run"]


def __getattr__(name: str) -> Any:
    """`load_run` on demand: importing actsweep must not import jax."""
    if name in __all__:
        from actsweep.runs import load

        return getattr(load, name)
    raise AttributeError(f"module 'actsweep' has no attribute {name!r}")
