"""Puts conf/ into the wheel, as actsweep/conf; pyproject.toml says everything else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

LOCAL = Path("conf", "local")  # what one machine's user has set: it stays there


class BuildWithConf(build_py):
    """The modules, and conf/ beside them. An editable install reads conf/ where it is."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "actsweep", "conf")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for file in sorted(Path("conf").rglob("*.yaml")):
            if LOCAL not in file.parents:
                copy = target / file.relative_to("conf")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


setup(cmdclass={"build_py": BuildWithConf})
