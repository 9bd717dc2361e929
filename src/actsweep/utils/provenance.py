"""The code behind a run: the commit of the repository around the working folder, and versions."""

import functools
import hashlib
import importlib.metadata
import os
import subprocess
from collections.abc import Mapping
from typing import Any


def provenance() -> dict[str, Any]:
    """Return which code this process runs: `git` (sha, dirty, diff) and `versions` of packages."""
    return {"git": _git(), "versions": _versions()}


def other_code(status: Mapping[str, Any]) -> str | None:
    """Describe how the code that made a run differs from today's: `git 1a2b3c4 (now 5d6e7f8)`.

    Args:
        status: the contents of the run's `status.json`. What it doesn't record isn't compared, and
            files that git doesn't track aren't either.

    Returns:
        One line, or None if the code is the same.
    """
    then, now = status.get("versions") or {}, _versions()
    differences = [_other_commit(status.get("git") or {}, _git())]
    differences += [
        f"{package} {then[package]} (now {version})"
        for package, version in now.items()
        if then.get(package) and version and then[package] != version
    ]
    return ", ".join(filter(None, differences)) or None


def _other_commit(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    if not (then.get("sha") and now["sha"]):
        return None
    changed = bool(then["diff"] if "diff" in then else then.get("dirty"))
    old = f"git {then['sha'][:7]}{' with changes' if changed else ''}"
    if then["sha"] != now["sha"]:
        return f"{old} (now {now['sha'][:7]}{' with changes' if now['diff'] else ''})"
    if "diff" not in then and changed and now["dirty"]:
        return old  # from before digests were recorded: the changes may be the same or others
    if then.get("diff") == now["diff"] and changed == bool(now["diff"]):
        return None
    if changed:
        return f"{old} (now {'with others' if now['diff'] else 'without'})"
    return f"{old} (now with changes)"


@functools.cache
def _git() -> dict[str, Any]:
    """Return commit, dirty flag and digest of changes of the repository around the working folder.

    All are None outside a repository; the digest is also None if no tracked file has changed.
    """

    def git_output(*arguments: str) -> bytes | None:
        try:
            process = subprocess.run(
                ["git", *arguments], capture_output=True, timeout=5, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return process.stdout.strip()

    sha = git_output("rev-parse", "HEAD")
    changes = git_output("status", "--porcelain") if sha else None
    # `git diff HEAD` without the user's settings, so that equal changes have equal digests.
    plain = ("--binary", "--full-index", "--no-ext-diff", "--no-textconv")
    diff = git_output("diff-index", "-p", *plain, "HEAD") if changes else None
    return {
        "sha": sha.decode() if sha else None,
        "dirty": None if changes is None else bool(changes),
        "diff": hashlib.sha256(diff).hexdigest()[:12] if diff else None,
    }


@functools.cache
def _versions() -> dict[str, str | None]:
    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in ("actsweep", "jax")}


def slurm_job() -> str:
    """Return the SLURM batch job in which this process runs, as scancel takes it; empty for none.

    An interactive allocation isn't one: whoever cancels a sweep doesn't mean his shell.
    """
    if os.environ.get("ENVIRONMENT") != "BATCH":
        return ""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
