"""One run as every part of the program knows it: its config, its id, its folder. No jax."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsweep.config.identity import config_value, pack_key, run_id, static_part, varying_paths
from actsweep.config.schema import RunConfig
from actsweep.runs.run_dir import RunDir

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Member:
    """One run: its resolved config, its id and its folder, made once and passed on."""

    config: RunConfig
    run_id: str
    dir: RunDir

    def describe(self) -> dict[str, Any]:
        """Return what tells a run apart from others at a glance; every summary starts with it."""
        return {
            "run_id": self.run_id,
            "act": self.config.act["name"],
            "depth": len(self.config.widths),
            "init": self.config.init.name,
            "seed": self.config.seed,
            "lr": self.config.optim.lr,
        }


@dataclass(frozen=True)
class Pack:
    """Members of one program. `static` is the config that they share, without what varies."""

    static: RunConfig
    members: tuple[Member, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The members' seeds, in order."""
        return tuple(member.config.seed for member in self.members)


def make_member(config: RunConfig) -> Member:
    """Return the member that a resolved config describes; this hashes the config."""
    name = run_id(config)
    return Member(config, name, RunDir(Path(config.paths.outputs), name))


def make_pack(members: Sequence[Member]) -> Pack:
    """Return the pack of some members.

    Raises:
        ValueError: there are none, or they don't share one program.
    """
    if not members:
        raise ValueError("a pack needs at least one member")
    if len({pack_key(member.config) for member in members}) > 1:
        ids = ", ".join(member.run_id for member in members)
        raise ValueError(f"these members don't share one program: {ids}")
    return Pack(static_part(members[0].config), tuple(members))


def stack_hparams(pack: Pack) -> "dict[str, np.ndarray]":
    """Stack what differs between members along a leading axis M.

    Returns:
        Config path -> float32[M]; `seed` is uint32[M].
    """
    import numpy as np  # here, so that a config error needn't wait for it

    paths = varying_paths(pack.members[0].config)
    columns = {path: [config_value(m.config, path) for m in pack.members] for path in paths}
    return {
        path: np.asarray(values, np.uint32 if path == "seed" else np.float32)
        for path, values in columns.items()
    }
