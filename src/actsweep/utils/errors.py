"""Errors that a user can act on: what is wrong, where, what is allowed, what to type."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. Shown as one line, without a traceback; the program ends with exit code 2."""


class LocalError(UserError):
    """Bad input that may concern this process alone, of several that were started together."""


class CallbackError(Exception):
    """An exception, its cause, that a user's callback has raised; the text names both."""


def cause_of(error: BaseException) -> str:
    """Return an error's type and message."""
    return str(error) if isinstance(error, CallbackError) else f"{type(error).__name__}: {error}"


def bad_value(path: str, value: object, allowed: str, fix: str) -> UserError:
    """Return the error for a config value that isn't allowed.

    Args:
        path: the config path, as it is typed (`optim.lr`).
        value: the value that was given.
        allowed: what is allowed, in words that follow "must be".
        fix: an override that works, as it is typed (`optim.lr=0.01`).
    """
    return UserError(f"{path}={value}: must be {allowed}; type for example {fix}")


def unknown_name(path: str, name: object, known: Iterable[str], fix: str = "") -> UserError:
    """Return the error for a name that isn't in its dictionary; it suggests the nearest one.

    Args:
        path: the config path, as it is typed (`act`).
        name: the name that was given.
        known: every accepted name.
        fix: what to type when no known name is similar; by default the first known one.
    """
    known = sorted(known)
    folded = str(name).lower().replace("-", "_")
    near = [entry for entry in known if entry.lower() == folded]
    near = near or difflib.get_close_matches(folded, known, n=1, cutoff=0.5)
    near = near or [entry for entry in known if name and entry.startswith(str(name))]
    fix = (
        f"{path}={near[0]}" if near else fix or (f"{path}={known[0]}" if known else "another name")
    )
    hint = f"did you mean {fix}?" if near else f"type for example {fix}."
    return UserError(f"{path}={name}: no such name; {hint} Known: {', '.join(known)}")


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message; some libraries add a whole log."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
