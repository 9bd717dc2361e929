"""Starts jobs through any Hydra launcher and says how each one ended, also one that died."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher


def launch(launcher: Launcher, jobs: Sequence[Sequence[str]]) -> list[Any]:
    """Run jobs, given as overrides; for each what it returned, or the exception that ended it.

    Raises:
        Exception: what the launcher raises if it can't start jobs or wait for them.
    """
    try:
        with _deaths_returned(launcher):
            returns = launcher.launch(jobs, initial_job_idx=0)
    except BrokenExecutor as died:  # joblib: with one process go the others and every result
        return [died] * len(jobs)
    # `return_value` would raise what ended the job, and print it.
    return [job._return_value for job in returns]


@contextlib.contextmanager
def _deaths_returned(launcher: Launcher) -> Iterator[None]:
    """Make submitit's launcher wait for all jobs; by itself it gives up at the first that died."""
    if "submitit" not in type(launcher).__module__:
        yield
        return
    from submitit.core.core import Job
    from submitit.core.utils import UncompletedJobError

    original = Job.results

    def results(job: Job) -> list[Any]:
        try:
            return original(job)
        except UncompletedJobError as died:
            return [JobReturn(status=JobStatus.FAILED, _return_value=died)]

    Job.results = results
    try:
        yield
    finally:
        Job.results = original
