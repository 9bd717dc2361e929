"""docs/search.md: its commands are typed, its table of overrides is what is searched."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from actsweep.sweeps.pruning import PRUNERS, Pruner
from actsweep.sweeps.search import SAMPLERS, read
from hydra_plugins.actsweep_pack.space import divide

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "search.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.S | re.M)
    for line in block.splitlines()
]
SMALL = "depth=2 depth.width=8 callbacks=none logger=disabled"


def type_in(command: str, folder: Path) -> str:
    """Type a command of the page; return what it printed, errors too."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PATH": path, "PYTHONPATH": known}
    done = subprocess.run(
        ["bash", "-c", command.replace("train.py", str(ROOT / "train.py"))],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode in (0, 1), f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_every_command_is_typed(tmp_path: Path) -> None:
    """One after the other, in small; the search that `last` names is the first."""
    first, sobol, pruned, *resumed, joblib = COMMANDS
    out = type_in(f"{first} {SMALL} sweep.name=pilot", tmp_path)
    assert "search: 16 of 16 trials, best val/accuracy" in out
    for command, trials in zip(resumed, (16, 24), strict=True):
        out = type_in(command, tmp_path)
        assert f"search: {trials} of {trials} trials, best val/accuracy" in out
    (folder,) = (tmp_path / "outputs/sweeps").iterdir()
    search = read(folder)
    assert search is not None
    assert [len(trial.runs) for trial in search.trials] == [2] * 24
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.S | re.M)
    script = script.replace("outputs/sweeps/pilot", str(folder))
    assert re.search(r"'optim.lr': [\d.e-]+.*\['tanh-", type_in(f"python -c '{script}'", tmp_path))
    for command in (sobol, joblib):
        assert "search: 8 of 8 trials" in type_in(f"{command} {SMALL}", tmp_path)
    assert re.search(r"24 of 24 trials, \d+ pruned, best", type_in(f"{pruned} {SMALL}", tmp_path))


def test_the_table_of_overrides_is_what_is_searched() -> None:
    table = PAGE.split("| what is typed")[1].split("\n\n")[0]
    typed = [word.strip("'") for word in re.findall(r"`('?[a-z.]+=[^`…]+)`", table)]
    assert len(typed) == 8
    parser = OverridesParser.create()
    words = [word for word in typed if "glob" not in word and "seed" not in word]
    searched = [divide(parser.parse_overrides([word])).space for word in words]
    assert [[*space] for space in searched] == [[word.partition("=")[0]] for word in words]
    assert [space["depth"].high for space in searched if "depth" in space] == [10]


def test_the_table_of_settings_is_the_config() -> None:
    config = OmegaConf.load(ROOT / "conf/hydra/sweeper/optuna.yaml")
    for key in ("sampler", "trials", "batch", "seed", "pruner"):
        assert re.search(rf"^\| `{key}` \| `?{config[key]}`? \|", PAGE, re.M), key
    for sampler in SAMPLERS:
        assert f"`{sampler}`" in PAGE
    pruning = PAGE.split("| `hydra.sweeper.pruner` |")[1].split("\n\n")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", pruning, re.M), "none"} == {*PRUNERS}
    settings = {f.name for f in fields(Pruner)} - {"name", "epochs"}
    assert settings | {"params", "_target_", "sampler", "trials", "batch", "seed", "pruner"} == {
        *config
    }
    for key in settings:
        assert f"`{key}` ({config[key]})" in pruning, key
