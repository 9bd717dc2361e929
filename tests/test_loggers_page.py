"""docs/loggers.md: its commands are typed, its own logger trains, its tables name what there is."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from actsweep.config.schema import LoggerConfig
from actsweep.loggers.tools import TOOLS
from actsweep.runs.metrics_file import read_metrics

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "loggers.md").read_text()
PLANNED = ("tensorboard", "several", "mlflow", "in-depth")
COMMANDS = [block.strip() for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.S | re.M)]
QUICK = "debug=default logger.report=false"


def type_in(command: str, *more: str, folder: Path) -> str:
    """Type a command of the page in the repository's root; return what it printed."""
    words = " ".join([command, *map(shlex.quote, more)])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "MY": f"{folder}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run(
        ["bash", "-c", words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.usefixtures("compiled_fast")
@pytest.mark.parametrize("command", [c for c in COMMANDS if "$MY" not in c], ids=PLANNED)
def test_every_command_is_accepted(command: str, tmp_path: Path) -> None:
    small = ("pack.plan=true", "callbacks=none", f"paths.outputs={tmp_path}")
    out = type_in(command, *small, folder=tmp_path)
    assert re.search(r"\b[14] runs?\b", out), out
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # a plan writes none


def test_the_page_s_own_logger(tmp_path: Path) -> None:
    (module,) = re.findall(r"^```python\n# my_loggers.py\n(.*?)^```$", PAGE, re.S | re.M)
    (tmp_path / "my_loggers.py").write_text(module)
    (command,) = [c for c in COMMANDS if "$MY" in c]
    outputs = tmp_path / "outputs"
    out = type_in(command, *QUICK.split(), f"paths.outputs={outputs}", folder=tmp_path)
    (run,) = (outputs / "runs").iterdir()
    columns = read_metrics(run / "metrics.jsonl")
    wanted = columns["val/accuracy"]
    printed = [line.split() for line in out.splitlines() if line.startswith(f"{run.name} ")]
    assert [int(step) for _, step, _ in printed] == columns["step"][wanted == wanted].tolist()
    assert (run / "metrics.csv").is_file()
    assert not (run / "wandb").exists()


def test_every_tool_and_every_option_is_on_the_page() -> None:
    options = {path.stem for path in (ROOT / "conf" / "logger").glob("*.yaml")}
    assert set(TOOLS) < options
    assert [name for name in options if f"`{name}`" not in PAGE] == []
    beside = {"mode", "writers", "console", "report"}
    names = {field.name for field in fields(LoggerConfig)} - beside
    table = PAGE.split("| `logger.` |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", table)) >= names
    for field in fields(LoggerConfig):
        shown = re.search(rf"^\| `{field.name}` \| (\w+)", table, re.M)
        if shown:
            assert shown[1] == str(field.default).lower(), field.name
