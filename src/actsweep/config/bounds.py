"""Checks of single numbers of a config. No jax."""

import math

from actsweep.utils.errors import bad_value

SMALLEST, LARGEST = 1.1754943508222875e-38, 3.4028234663852886e38  # normal numbers of float32


def at_least(path: str, value: float, low: float, fix: str, strict: bool = False) -> None:
    """Refuse a number below `low`, or equal to it if `strict`; of `optim` and `init` as float32."""
    if path.partition(".")[0] in ("optim", "init") and math.isfinite(value):
        check_float32(path, value, fix)
    if not math.isfinite(value) or value < low or (strict and value == low):
        raise bad_value(path, value, f"a number {'above' if strict else 'of at least'} {low}", fix)


def check_float32(path: str, value: object, fix: str) -> None:
    """Refuse what isn't a number, or becomes 0 or infinite in float32, where training computes."""
    if not is_number(value):
        raise bad_value(path, value, "a finite number", fix)
    size = abs(float(value))  # type: ignore[arg-type]
    if size and not SMALLEST <= size <= LARGEST:
        allowed = f"0, or from {SMALLEST:.2g} to {LARGEST:.2g} in size, as float32 holds"
        raise bad_value(path, value, allowed, fix)


def is_int(value: object) -> bool:
    """Return whether this is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
