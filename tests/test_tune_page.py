"""docs/tune.md: its commands are typed, its tables and figures are those of the product."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from test_search_page import SMALL, type_in

from actsweep.config.conf_dir import conf_dir
from actsweep.report.tuned import Tuned, TunedGroup
from actsweep.sweeps.find import find_sweep
from actsweep.sweeps.tuning import EDGE, STEP, read
from benchmarks.page import SIMULATED

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tune.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.S | re.M)
    for line in block.splitlines()
]


def test_the_table_of_settings_is_the_config() -> None:
    settings = yaml.safe_load((conf_dir() / "hydra/sweeper/tune.yaml").read_text())
    listed = dict(re.findall(r"^\| `tune\.(\w+)` \| `?([^ |`]+)`? \|", PAGE, re.M))
    del settings["_target_"], settings["params"]
    assert listed == {key: "none" if v is None else str(v) for key, v in settings.items()}
    assert (EDGE, STEP) == (0.1, 0.5)  # the outer tenth, half the width


def test_every_key_of_the_json_is_named() -> None:
    text = " ".join(PAGE.split("`--json` prints")[1].split("\n\n")[0].split())
    for each in (Tuned, TunedGroup):
        for field in dataclasses.fields(each):
            if field.name != "sweep":
                assert f"`{field.name}`" in text, field.name


def test_figures_in_the_text_were_simulated() -> None:
    measured = json.loads(SIMULATED.read_text())["fights"]
    more = measured["four times the trials"]
    text = " ".join(PAGE.split())
    validation, fresh = (
        f"{100 * more[key]:.0f}" for key in ("ahead in validation", "ahead afresh")
    )
    assert (
        f"ahead in validation in {validation} % of fights, and with a fresh seed in {fresh} %"
        in text
    )
    assert f"{measured['trials']} fights a row with {measured['size']} trials and" in text
    assert f"trials and {measured['seeds']} seeds" in text


@pytest.mark.slow
def test_every_command_is_typed(tmp_path: Path) -> None:
    """One after the other, in small."""
    first, typed, show, wine, both, resumed = COMMANDS
    out = type_in(f"{first} {SMALL}", tmp_path)
    assert "tuned over optim.lr 0.001 to 0.1: 8 trials for each seed" in out
    assert "compared at once: 1 pair" in out
    assert f"{show.split()[-1]}" == "last"
    assert "expected best val/accuracy, % of k trials" in type_in(show, tmp_path)
    assert "compared at once: 1 pair" in type_in(f"{wine} {SMALL}", tmp_path)
    assert re.search(r"^share of 2 sweeps within", type_in(both, tmp_path), re.M)
    assert "compared at once: 1 pair" in type_in(resumed, tmp_path)
    tuning = read(find_sweep(tmp_path / "outputs", "digits"))
    assert tuning is not None
    fresh = [trial.params["seed"] for trial in tuning.trials if tuning.is_fresh(trial)]
    assert sorted(fresh) == sorted([*range(1000, 1006)] * 2)
    out = type_in(f"{typed} {SMALL}", tmp_path)
    assert "tuned over optim.lr 0.001 to 1, optim.momentum 0 to 0.95: 4 trials" in out
