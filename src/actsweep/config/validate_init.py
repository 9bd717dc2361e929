"""The checks of `init`: names, bounds, and what contradicts inits that find numbers. No jax."""

from actsweep.config.numbers import at_least, check_float32, is_number
from actsweep.config.schema import CRITICAL_INITS, INITS, RunConfig
from actsweep.utils.errors import UserError, bad_value, unknown_name


def check(run: RunConfig) -> None:
    """Refuse an init that is unknown, out of bounds, or contradicts the rest of its run.

    Raises:
        UserError: the first value that isn't allowed.
    """
    init = run.init
    if init.name not in INITS:
        raise unknown_name("init", init.name, INITS)
    if init.gain != "auto":
        if not is_number(init.gain):
            raise bad_value("init.gain", init.gain, "auto or a number above 0", "init.gain=auto")
        init.gain = float(init.gain)
        at_least("init.gain", init.gain, 0, "init.gain=1.0", strict=True)
    at_least("init.scale", init.scale, 0, "init.scale=1.0")
    at_least("init.sigma_w", init.sigma_w, 0, "init.sigma_w=1.0")
    at_least("init.sigma_b", init.sigma_b, 0, "init.sigma_b=0.0")
    check_float32("init.bias", init.bias, "init.bias=0.0")
    _check_critical(run)
    _check_autoinit(run)
    _check_lsuv(run)


def _check_lsuv(run: RunConfig) -> None:
    """Refuse a gain beside what is scaled by the data, and layers that act at every step."""
    init, model = run.init, run.model
    if init.name != "lsuv":
        return
    if init.gain != 1.0:
        raise UserError(
            f"init.gain={init.gain}: init=lsuv scales the weights by the data; type init.gain=1.0"
        )
    if not model._target_ and model.name == "rnn":
        raise UserError(
            "init=lsuv: scales a layer by its one output, and those of model=rnn act at every step "
            "of time; type init=orthogonal, or model=mlp"
        )


def _check_autoinit(run: RunConfig) -> None:
    """Refuse networks in which the moments of layers aren't those that AutoInit is followed for."""
    init, model = run.init, run.model
    if init.name != "autoinit":
        return
    if init.gain != "auto":
        raise UserError(
            f"init.gain={init.gain}: init=autoinit takes the activation's own; type init.gain=auto"
        )
    # The defaults of the CNN have a pooling.
    pools = model.name == "cnn" and model.pool != "none"
    others = {"residual": model.residual, "dropout": model.dropout, "pool": pools}
    norm = model.norm not in (None, "none")
    given = [key for key, value in {**others, "norm": norm}.items() if value]
    if model._target_ or model.name not in ("mlp", "cnn") or given:
        what = model._target_ or f"{model.name}{' with model.' + given[0] if given else ''}"
        raise UserError(
            f"init=autoinit: is followed through dense layers, convolutions and activations, and "
            f"model={what} has more; type init=lecun_normal init.gain=auto, or model=mlp"
        )


def _check_critical(run: RunConfig) -> None:
    """Refuse what contradicts an init that finds the weights' size itself."""
    init = run.init
    if init.name not in CRITICAL_INITS:
        if init.q is not None:
            raise UserError(
                f"init.q={init.q}: is a place on the edge of chaos, and init={init.name} doesn't "
                f"take it; leave it out, or type init={CRITICAL_INITS[0]}"
            )
        return
    if init.q is not None:
        at_least("init.q", init.q, 0, "init.q=1.0", strict=True)
    if init.gain != 1.0:
        raise UserError(
            f"init.gain={init.gain}: init={init.name} finds the size of the weights itself; type "
            "init.gain=1.0"
        )
    if run.act.get("_target_") and run.trainer.distributed:
        raise UserError(
            f"init={init.name}: evaluates act._target_={run.act['_target_']} before the processes "
            "of trainer.distributed are joined; find its numbers by actsweep theory, and type them "
            "as init=normal init.sigma_w=… init.sigma_b=…"
        )
