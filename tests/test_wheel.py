"""What people install: the wheel holds all that it needs, and trains in any folder without us."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("src", "conf", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
QUICK = "debug=default depth=2 depth.width=8 callbacks=light logger=disabled"
ACTIVATION = "def half(z):\n    return z / 2\n"
OPTION = "name: half\n_target_: my_acts.half\n"


def built(kind: str, source: Path, to: Path) -> Path:
    """A distribution of a source tree, made by the project's own build backend, without network."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(to)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return to / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from the source distribution, which is made from a checkout in use."""
    folder = tmp_path_factory.mktemp("build")
    checkout = folder / "checkout"
    waste = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, checkout / name, ignore=waste)
        else:
            shutil.copy(ROOT / name, checkout)
    (checkout / "conf" / "local").mkdir()
    (checkout / "conf" / "local" / "default.yaml").write_text("seed: 7\n")
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_nothing.py").write_text("")
    with tarfile.open(built("sdist", checkout, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return built("wheel", source, folder)


def test_the_wheel_holds_what_it_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        info = {name.rpartition("/")[2] for name in archive.namelist() if ".dist-info/" in name}
    conf = {f"actsweep/{file.relative_to(ROOT)}" for file in (ROOT / "conf").rglob("*.yaml")}
    conf = {name for name in conf if not name.startswith("actsweep/conf/local/")}
    kinds = ("*.py", "*.css", "*.js", "*.html")
    files = [file for kind in kinds for file in (ROOT / "src").rglob(kind)]
    code = {str(file.relative_to(ROOT / "src")) for file in files}
    assert {f"actsweep/report/{name}" for name in ("page.css", "select.js", "figures.js")} <= code
    assert names == conf | code
    assert {name.partition("/")[0] for name in code} == {
        "actsweep",
        "actsweep_tutorials",
        "hydra_plugins",
    }
    assert {"METADATA", "entry_points.txt", "LICENSE"} <= info


class Place(NamedTuple):
    """A folder that isn't a checkout, and an environment in which the wheel is installed."""

    folder: Path
    programs: Path

    def type(self, line: str, code: int = 0) -> str:
        """Type a command; what it printed, errors too."""
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ACTSWEEP_REPORT")}
        done = subprocess.run(
            [str(self.programs / "actsweep"), *shlex.split(line)],
            cwd=self.folder,
            env=env | {"COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone in an environment of its own, beside the packages that it depends on."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    programs = environment / "bin"
    install = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "-q"]
    subprocess.run([*install, "--no-index", "--no-deps", str(wheel)], check=True, timeout=120)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # not their .pth
    return programs


@pytest.fixture
def place(programs: Path, tmp_path: Path, compiled_fast: None) -> Place:
    """An empty folder beside the installed wheel."""
    return Place(tmp_path, programs)


@pytest.mark.slow
def test_trains_anywhere(place: Place) -> None:
    code = "import actsweep; print(actsweep.__file__, actsweep.__version__)"
    python = [str(place.programs / "python"), "-c", code]
    where, version = subprocess.check_output(python, cwd=place.folder, text=True).split()
    assert Path(where).is_relative_to(place.programs.parent)
    assert place.type("--version").strip() == version

    sweep = f"-m act=relu,elu {QUICK}"
    out = place.type(f"train {sweep}")
    assert "report: outputs/sweeps/" in out
    status = place.type("status")
    assert f"actsweep train {sweep}" in status
    assert "2 complete" in status

    before, (folder,) = runs(place), (place.folder / "outputs" / "sweeps").iterdir()
    shutil.rmtree(place.folder / "outputs" / "runs")  # as if it had been killed at once
    assert f"go on:  actsweep resume {folder.name}" in place.type("status")
    place.type("resume last")
    assert runs(place) == before

    said = place.type("train act=relu,elu", code=2)
    assert said.strip().endswith("type actsweep train -m act=relu,elu")
    assert "actsweep train act=swish depth=10" in place.type("train --help")
    assert place.type("train seed=3 --cfg job --package seed").strip().endswith("3")


def runs(place: Place) -> list[Path]:
    return sorted((place.folder / "outputs" / "runs").iterdir())


@pytest.mark.slow
def test_a_user_s_own_code_and_options(place: Place) -> None:
    """Both in the working folder; then in jobs that are processes of their own, and by resume."""
    (place.folder / "my_acts.py").write_text(ACTIVATION)
    option = place.folder / "my_conf" / "act" / "half.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(OPTION)
    typed = f"train --config-dir my_conf -m act=half,relu {QUICK} hydra/launcher=joblib"
    assert "half" in place.type(typed)
    shutil.rmtree(place.folder / "outputs" / "runs")
    option.unlink()  # the sweep is frozen
    place.type("resume last")
    assert [run.name[:5] for run in runs(place)] == ["half-", "relu-"]


@pytest.mark.slow
def test_an_experiment_that_trains(place: Place) -> None:
    words = "act=relu init=he_normal depth=2 width=8 epochs=1 seeds=1 data=digits"
    out = place.type(f"experiment depth {words}")
    assert "actsweep train -m" in out
    assert (place.folder / "outputs" / "experiments" / "depth" / "README.md").is_file()
