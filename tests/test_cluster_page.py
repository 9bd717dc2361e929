"""docs/cluster.md, typed word for word on a real cluster; slurm/README.md's commands, too."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import Cluster
from wandb_server import KEY, WandbServer

from actsweep.runs import run_dir

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "cluster.md").read_text()


def blocks(mark: str) -> list[str]:
    """The shell commands of a page under such a mark."""
    return re.findall(rf"<!-- {mark} -->\n```bash\n(.*?)```", PAGE, re.S)


def test_the_install_is_the_readmes() -> None:
    (install,) = blocks("install")
    readme = (ROOT / "README.md").read_text()
    assert "\n".join(install.splitlines()[:2]) in readme
    assert len(re.findall("```bash", PAGE)) == 1 + len(blocks("run")) + len(blocks("over"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("conf", "slurm"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("local"))
    shutil.copy(ROOT / "train.py", tmp_path)
    return tmp_path


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with slurm_cluster.cluster(nodes=2) as running:
        yield running


@pytest.mark.slow
def test_the_walk(folder: Path, cluster: Cluster) -> None:
    server = WandbServer()
    server.start()
    env = {
        **cluster.env,
        "PATH": f"{Path(sys.executable).parent}:{cluster.env['PATH']}",
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": KEY,
    }

    def typed(block: str) -> str:
        words = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(
            words, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def over() -> bool:
        return not cluster.ask("squeue", "-h")

    try:
        _prepare, _local, submit, look, stop_and_go = (typed(block) for block in blocks("run"))
        assert submit.startswith("9 runs in 3 jobs: array 1 of SLURM; logs: ")
        assert " queued " in look or " starting " in look
        assert "cancelled 3 jobs; go on:  actsweep resume " in stop_and_go
        end = time.monotonic() + 240
        while not over():
            assert time.monotonic() < end
            time.sleep(0.5)
        (block,) = blocks("over")
        table = typed(block)
        (sweep,) = (folder / "outputs" / "sweeps").iterdir()
        assert [row["state"] for row in run_dir.read_members_csv(sweep)] == ["complete"] * 9
        assert {line.split()[0] for line in table.splitlines()[2:5]} == {"relu", "elu", "swish"}
        assert len(server.runs) == 9
        assert all(len(run.steps) == len(set(run.steps)) > 1 for run in server.runs.values())
        asked = cluster.ask("sacct", "-XnPj", "1", "-o", "Partition,Timelimit,ReqCPUS").split()
        assert set(asked) == {"main|08:00:00|2"}
        logs = [*sweep.glob("slurm/2/*.log")]
        assert len(logs) == 3
        assert all(f"on {os.uname().nodename}" in log.read_text() for log in logs)
    finally:
        server.stop()


def test_every_script_is_named_on_its_page() -> None:
    text = (ROOT / "slurm" / "README.md").read_text()
    assert all(f"`{file.name}`" in text for file in (ROOT / "slurm").glob("*.sbatch"))
    for key in set(re.findall(r"`((?:slurm|trainer|pack|paths)\.\w+)", PAGE + text)):
        group, name = key.split(".")
        from actsweep.config.schema import RunConfig

        assert name in vars(getattr(RunConfig(), group)), key
