"""Where conf/ is: in a wheel inside the package, in a checkout at its top."""

from pathlib import Path

from actsweep.utils.errors import UserError

PACKAGE = Path(__file__).parents[1]


def conf_dir() -> Path:
    """The folder of `config.yaml` and the groups.

    Raises:
        UserError: the installation isn't whole.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise UserError(f"{PACKAGE}: conf/ is missing; install actsweep again, from a wheel or with -e")
