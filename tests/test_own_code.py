"""A user's own code counts towards the run id: what has been edited is another run."""

import sys
from pathlib import Path

import pytest

from actsweep.config import identity, resolve


def test_edited_code_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    act = {"name": "bent", "_target_": "my_own_acts.bent"}
    ids = []
    for text in ("def bent(z): return z", "def bent(z): return 2 * z", "def bent(z): return z"):
        (tmp_path / "my_own_acts.py").write_text(text)
        sys.modules.pop("my_own_acts", None)
        identity._source_digest.cache_clear()
        ids.append(identity.run_id(resolve.resolve({"act": act})))
    assert ids[0] == ids[2] != ids[1]


def test_code_that_is_not_there_yet_still_has_an_id() -> None:
    act = {"name": "bent", "_target_": "no_such_module.bent"}
    assert identity.run_id(resolve.resolve({"act": act})).startswith("bent-")
