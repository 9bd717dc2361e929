"""What is typed of an activation that is rescaled for its network's depth: `act.transform`. No jax.

Its numbers are found by `theory.transforms`.
"""

from typing import Any

from actsweep.config import by_layer
from actsweep.config.numbers import is_number
from actsweep.config.schema import TRANSFORMS, RunConfig
from actsweep.formulas.rescaling import TARGET, transform_of
from actsweep.utils.errors import UserError, bad_value, unknown_name

INITS = ("normal", "lecun_normal", "orthogonal")
"""Those that may have weights of variance 1 / fan_in, and no biases."""


def normalise(act: dict[str, Any]) -> None:
    """Write `transform` in one way: absent for `none`.

    Raises:
        UserError: the name is unknown; a target without a transform, or that is no number above 0;
            or a transform of `act.by_layer`.
    """
    name = act.get("transform")
    if name in (None, "none"):
        if act.pop("transform", None):  # none among others of a sweep
            act.pop(TARGET, None)
        elif TARGET in act and "_target_" not in act:
            raise UserError(
                f"act.{TARGET}={act[TARGET]}: is what a transform aims at, and there is none; "
                "leave it out, or type act.transform=dks"
            )
        return
    if name not in TRANSFORMS:
        raise unknown_name("act.transform", str(name), ("none", *TRANSFORMS))
    target = act.get(TARGET)
    if target is None:
        act.pop(TARGET, None)
        return
    if not is_number(target) or not 0 < target < 1e6:
        allowed = "a number above 0, or null for the published one"
        raise bad_value(f"act.{TARGET}", target, allowed, f"act.{TARGET}=null")
    act[TARGET] = float(target)


def check(run: RunConfig) -> None:
    """Refuse a transform where the maps of the network aren't those that it is made for.

    Raises:
        UserError: the first setting that contradicts.
    """
    name = transform_of(run.act)
    if not name:
        return
    what, init, model = f"act.transform={name}", run.init, run.model
    if run.act.get("_target_") and run.trainer.distributed:
        raise UserError(
            f"{what}: evaluates act._target_={run.act['_target_']} before the processes of "
            "trainer.distributed are joined; leave one of the two out"
        )
    if by_layer.entries(run.act):
        raise UserError(
            f"{what}: is of one activation in all layers; leave out act.by_layer, or the transform"
        )
    if model._target_ or model.name != "mlp" or model.residual or model.dropout:
        given = model._target_ or next(
            (f"{model.name} model.{key}={value}" for key, value in _beyond(run) if value),
            model.name,
        )
        raise UserError(
            f"{what}: is for plain networks, whose maps are known here, and model={given} isn't "
            "one; type model=mlp model.residual=false model.dropout=0.0"
        )
    if model.norm not in (None, "none"):
        raise UserError(
            f"{what}: is made to do without normalisation; type model.norm=none, or leave the "
            "transform out"
        )
    if init.gain != 1.0:
        raise UserError(
            f"init.gain={init.gain}: {what} finds the size of the signal itself; type init.gain=1.0"
        )
    _check_init(run, what)


def _beyond(run: RunConfig) -> list[tuple[str, Any]]:
    return [("residual", run.model.residual), ("dropout", run.model.dropout)]


def _check_init(run: RunConfig, what: str) -> None:
    """Refuse weights of another variance than 1 / fan_in, and biases."""
    init = run.init
    if init.name not in INITS:
        raise UserError(
            f"init={init.name}: {what} assumes weights of variance 1/fan_in and biases of 0; type "
            f"init=normal or init=orthogonal"
        )
    usual = {"scale": 1.0, "sigma_w": 1.0, "sigma_b": 0.0, "bias": 0.0}
    for key, value in usual.items():
        if getattr(init, key) != value:
            raise UserError(
                f"init.{key}={getattr(init, key)}: {what} assumes weights of variance 1/fan_in and "
                f"biases of 0; type init.{key}={value}"
            )
    wider = [(a, b) for a, b in zip(run.widths, run.widths[1:], strict=False) if b > a]
    if init.name == "orthogonal" and wider:
        raise UserError(
            f"init=orthogonal: from {wider[0][0]} to {wider[0][1]} units its weights have another "
            f"variance than the 1/fan_in that {what} assumes; type init=normal"
        )
