"""Packs that are trained in this process, over and over: set up and compiled once."""

import functools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest
from test_resume import STEPS, folder, what_is_left
from test_resume import pack as pack_of
from test_run import run_pack

from actsweep.config.schema import RunConfig
from actsweep.runs import run_dir
from actsweep.runs.members import make_member, make_pack
from actsweep.train import checkpointing, pack
from actsweep.train.pack import set_up
from actsweep.train.setup import PreparedPack
from actsweep.train.types import SweepContext

NUMBERS = (0, 1, 2, 3)
"""Seeds of the pack; 2 is stopped by its hook, 3 diverges."""


def train(runs: Sequence[RunConfig], sweep: str = "sweep") -> list[pack.Result]:
    """Train a pack, or go on with it."""
    return run_pack(runs, SweepContext(sweep))


def resumed(one: RunConfig) -> list[int]:
    """The steps from which a run has gone on since it began."""
    return (run_dir.read_status(folder(one)) or {}).get("resumed", [])


@functools.cache
def program() -> PreparedPack:
    """The pack, set up and compiled."""
    return set_up(make_pack([make_member(one) for one in pack_of(Path(), *NUMBERS)]))


def compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every pack of such members be trained by the same compiled functions."""
    job = program()
    monkeypatch.setattr(
        pack, "set_up", lambda own, most=None, group=None, **_: replace(job, pack=own)
    )
    monkeypatch.setattr(jax, "clear_caches", lambda: None)


class Trained:
    """Four members: undisturbed, and cut short with two checkpoints each, to be copied.

    Attributes:
        expected: what each leaves if nothing happens to it.
        steps: of its checkpoints, the newest first.
    """

    steps = (36, 30)

    def __init__(self, root: Path) -> None:
        """Train them; `compile_once` makes it quick."""
        self._root = root
        whole = pack_of(root / "whole", *NUMBERS)
        train(whole)
        self.expected = [what_is_left(one) for one in whole]
        whole_save = checkpointing.Checkpointer.save

        def save_then_end(
            checkpointer: checkpointing.Checkpointer, step: int, *others: Any
        ) -> None:
            whole_save(checkpointer, step, *others)
            if step == self.steps[0]:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpointing.Checkpointer, "save", save_then_end)
            with pytest.raises(KeyboardInterrupt):
                train(pack_of(root / "cut", *NUMBERS))

    def cut(self, outputs: Path) -> list[RunConfig]:
        """A copy of the members that were cut short."""
        shutil.copytree(self._root / "cut", outputs, symlinks=True, dirs_exist_ok=True)
        return pack_of(outputs, *NUMBERS, trainer={**STEPS, "save_every_s": 60})

    def assert_whole(self, runs: Sequence[RunConfig]) -> None:
        """They have left what they leave if nothing happens to them."""
        for one, expected in zip(runs, self.expected, strict=True):
            assert what_is_left(one) == expected
