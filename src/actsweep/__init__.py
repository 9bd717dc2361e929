"""actsweep: what does this activation function do to training?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsweep.runs.load import Run, load_run

    __version__: str

__all__ = ["Run", "__version__", "load_run"]


def __getattr__(name: str) -> Any:
    """What importing actsweep must not wait for: `load_run` imports jax; the version is read from
    what is installed, which has it from pyproject.toml."""
    if name == "__version__":
        from importlib.metadata import version

        return version("actsweep")
    if name in __all__:
        from actsweep.runs import load

        return getattr(load, name)
    raise AttributeError(f"module 'actsweep' has no attribute {name!r}")
