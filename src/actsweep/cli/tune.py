"""`actsweep tune`: the sweeper `tune` of `actsweep train`, and what tunings have shown."""

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from actsweep.utils.errors import UserError


def tune(
    *words: str,
    show: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    json: bool = False,
    outputs: Annotated[Path, Parameter(help="The paths.outputs.")] = Path("outputs"),
) -> int:
    """Tune every activation with the same number of trials, then compare them with fresh seeds.

    Such as: actsweep tune act=relu,gelu tune.nuisance=[optim.lr,init.gain] tune.trials=16
    tune.seeds=5. The same as actsweep train -m hydra/sweeper=tune, see docs/tune.md.

    Args:
        words: Overrides, as for actsweep train -m, and tune.*.
        show: Train nothing: print what a tuning has shown, given by its name, its folder, or last;
            of several, a profile over them.
        json: Print that as JSON.
    """
    if show:
        if words:
            raise UserError(f"{words[0]}: isn't for --show, which trains nothing; leave it out")
        return _show(show, outputs, json=json)
    if json:
        raise UserError("--json: is for --show; type for example --show last --json")
    from actsweep.cli.train import train

    return train(["-m", "hydra/sweeper=tune", *words])


def _show(names: tuple[str, ...], outputs: Path, *, json: bool) -> int:
    from actsweep.report.tuned import as_json, read_tuned, tuned_text
    from actsweep.sweeps.find import find_sweep

    folders = [find_sweep(outputs, name) for name in names]
    if json:
        print(json_format.dumps(as_json([read_tuned(folder) for folder in folders]), indent=1))
    else:
        print(tuned_text(folders), end="")
    return 0
