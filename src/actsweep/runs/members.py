"""One run as every part of the program knows it: its config, its id, its folder. No jax."""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from actsweep.config import by_layer, resolve
from actsweep.config.identity import (
    SEEDS,
    config_value,
    flatten,
    lent_numbers,
    pack_key,
    run_id,
    shared_part,
    varying_paths,
    what_counts,
    with_split_seed,
    without_neutral,
    without_spelling,
)
from actsweep.config.schema import CRITICAL_INITS, RunConfig
from actsweep.formulas.rescaling import transform_of
from actsweep.runs.run_dir import RunDir, read_status
from actsweep.utils.errors import UserError, first_line

if TYPE_CHECKING:
    import numpy as np

    from actsweep.runs.rows import MemberInfo

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Member:
    """One run: its resolved config, its id and its folder, made once and passed on."""

    config: RunConfig
    run_id: str
    dir: RunDir

    @functools.cached_property
    def pack_key(self) -> str:
        """Return a digest that is equal for members that one compiled program can train."""
        return pack_key(self.config)

    def info(self, sweep: str, resumed_at: int | None = None) -> "MemberInfo":
        """Return what writers need to know of it.

        Args:
            sweep: the name of the sweep.
            resumed_at: the step from which it goes on; None for a fresh run.
        """
        from actsweep.runs.rows import (
            MemberInfo,
        )  # needs NumPy, which bad input is answered without

        config = self.config
        return MemberInfo(
            run_id=self.run_id,
            run_dir=self.dir.path,
            config=resolve.to_dict(config),
            act=by_layer.label(config.act),
            depth=len(config.widths),
            init=config.init.name,
            seed=config.seed,
            model=config.model.name,
            data=config.data.name,
            lr=config.optim.lr,
            sweep=sweep,
            total_epochs=config.trainer.epochs,
            resumed_at=resumed_at,
            training=(read_status(self.dir) or {}).get("training", ""),
        )

    def describe(self) -> dict[str, Any]:
        """Return the fields that tell runs apart at a glance; every summary starts with them."""
        return {
            "run_id": self.run_id,
            "act": by_layer.label(self.config.act),
            "depth": len(self.config.widths),
            "init": self.config.init.name,
            "seed": self.config.seed,
            "lr": self.config.optim.lr,
        }


@dataclass(frozen=True)
class Pack:
    """Members that share one program; `static` is their config without the fields that vary."""

    static: RunConfig
    members: tuple[Member, ...]

    @property
    def order_seeds(self) -> tuple[int, ...]:
        """Return the seeds of the members' orders of examples, a seed for each member."""
        return tuple(member.config.order_seed for member in self.members)


def make_member(config: RunConfig) -> Member:
    """Return the member that a resolved config describes; this hashes the config.

    Where `vary` says that the split follows `seed`, it sets `data.split_seed`. With `init=critical`
    or `act.transform` it finds their numbers first, and says so once.

    Raises:
        UserError: the activation has no edge of chaos, or none of the transform's maps.
    """
    config = _with_found(with_split_seed(config))
    return recorded_member(config, run_id(config))


def _with_found(config: RunConfig) -> RunConfig:
    if config.init.name not in CRITICAL_INITS and not transform_of(config.act):
        return config
    from actsweep.theory.critical import with_critical
    from actsweep.theory.transforms import with_transform

    if config.act.get("_target_"):  # which jax evaluates: its devices can't be set up later
        from actsweep.runtime.devices import set_up_devices

        set_up_devices()
    for find in (with_transform, with_critical):
        config, line = find(config)
        if line:
            _say_once(line)
    return config


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def recorded_member(config: RunConfig, name: str) -> Member:
    """Return a member under the id that is on record; nothing is hashed, nothing checked."""
    return Member(config, name, RunDir(Path(config.paths.outputs), name))


def check_stored(member: Member) -> None:
    """Check that a run's folder holds the config that its id stands for.

    Raises:
        UserError: it holds another, or one that can't be read.
    """
    try:
        stored = yaml.load(member.dir.config.read_bytes(), Loader=_YAML)
        differ = _differences(resolve.from_dict(stored), member.config)
    except (OSError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
        raise UserError(
            f"{member.dir.config}: can't be read ({first_line(error)}); move {member.dir.path} away"
        ) from error
    if differ:
        raise UserError(
            f"{member.dir.config}: is another run's: {differ[0]}; move {member.dir.path} away"
        )


def _differences(stored: RunConfig, expected: RunConfig) -> list[str]:
    """Return the settings that can change the result and differ, as `optim.lr=0.1, not 0.01`."""
    ours, theirs = (
        flatten(without_spelling(without_neutral(what_counts(resolve.to_dict(config)))))
        for config in (expected, stored)
    )
    differ = [path for path in sorted({*ours, *theirs}) if theirs.get(path) != ours.get(path)]
    return [f"{path}={theirs.get(path)}, not {ours.get(path)}" for path in differ]


def make_pack(members: Sequence[Member]) -> Pack:
    """Return the pack of the members.

    Raises:
        ValueError: there are none, or they don't share one program.
    """
    if not members:
        raise ValueError("a pack needs at least one member")
    if len({member.pack_key for member in members}) > 1:
        ids = ", ".join(member.run_id for member in members)
        raise ValueError(f"these members don't share one program: {ids}")
    return Pack(shared_part([member.config for member in members]), tuple(members))


def stack_hparams(pack: Pack) -> "dict[str, np.ndarray]":
    """Stack what differs between members along a leading axis M.

    Returns:
        Config path -> float32[M]. `seed`, of the initial weights, and `seeds.order`, of training's
        noise, are those in effect, uint32[M].
    """
    import numpy as np  # imported here, so that a config error is reported without waiting for it

    rows = []
    for config in (member.config for member in pack.members):
        seeds = {"seed": config.init_seed, "seeds.order": config.order_seed}
        paths = (path for path in varying_paths(config) if path not in SEEDS)
        own = seeds | {path: config_value(config, path) for path in paths}
        lent = lent_numbers(config, pack.static)
        rows.append(own | {f"act.{key}": value for key, value in lent.items()})
    return {
        path: np.asarray([row[path] for row in rows], np.uint32 if path in SEEDS else np.float32)
        for path in rows[0]
    }
