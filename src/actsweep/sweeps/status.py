"""Snapshot of a sweep and its runs: from their folders, their owners, and SLURM. No jax."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actsweep.runs import run_dir
from actsweep.runs.leases import Owner, living_owners, owners
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import plan, slurm_jobs
from actsweep.sweeps.progress import ORDER
from actsweep.sweeps.search import token_in
from actsweep.sweeps.slurm_commands import SlurmError
from actsweep.sweeps.slurm_jobs import Job
from actsweep.sweeps.status_text import as_text
from actsweep.utils.invocation import typed_again
from actsweep.utils.notebook import as_html


@dataclass(frozen=True)
class RunStatus:
    """Status of one run of a sweep, as it is now.

    Attributes:
        run: the run's folder.
        state: one of `run_dir.STATES`; or `interrupted` if the process was killed, `waiting` if
            none has begun, `queued` or `starting` if its SLURM job is.
        left: whether the sweep would still train it.
        epochs: number of epochs to train.
        status: its `status.json`; empty if there is none.
        owner: the process that trains it.
        job: the SLURM job in which it was last submitted.
    """

    run: RunDir
    state: str
    left: bool
    epochs: int
    status: Mapping[str, Any]
    owner: Owner | None
    job: Job | None = None


@dataclass(frozen=True, repr=False)
class SweepSnapshot:
    """A sweep as it is now.

    Attributes:
        folder: the sweep's folder.
        command: the command that was typed.
        runs: the status of every run.
        supervised: whether a living process trains it or waits for its jobs, or SLURM has jobs.
        trouble: why SLURM can't be asked, if so.
        about: its name, tags and notes.
        configs: every run's config as nested plain values, by run id.
    """

    folder: Path
    command: str
    runs: Sequence[RunStatus]
    supervised: bool
    trouble: str | None = None
    about: str = ""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def counts(self) -> str:
        """Return the number of runs in each state, such as `3 complete, 1 failed`."""
        count = Counter(run.state for run in self.runs)
        return ", ".join(f"{count[state]} {state}" for state in ORDER if count[state])

    def __str__(self) -> str:
        """Return what `actsweep status NAME` prints."""
        return as_text(self)

    def __repr__(self) -> str:
        return f"<SweepSnapshot of {self.folder.name}: {self.counts()}>"

    def _repr_html_(self) -> str:
        return as_html(str(self))


def take_snapshot(folder: Path) -> SweepSnapshot:
    """Return a snapshot of a sweep and its runs.

    Raises:
        UserError: its plan can't be read.
    """
    plain = plan.read_frozen(folder)
    outputs = plan.outputs_dir(folder, plain)
    owner_by_run = owners(outputs, plain["members"])
    attempt = (folder.name, plain["attempt"], token_in(folder))
    jobs, trouble = _jobs(folder)
    runs = [
        _run_status(
            RunDir(outputs, run_id),
            member["config"],
            owner_by_run.get(run_id),
            jobs.get(run_id),
            *attempt,
        )
        for run_id, member in plain["members"].items()
    ]
    supervised = any(run.left and (run.owner or (run.job and run.job.live)) for run in runs)
    supervised = supervised or any(owner.sweep == folder.name for owner in living_owners(outputs))
    first: Mapping[str, Any] = next(iter(plain["members"].values()), {"config": {}})
    about = plan.about(first["config"].get("sweep", {}))
    configs = {run_id: member["config"] for run_id, member in plain["members"].items()}
    command = typed_again(plain["command"])
    return SweepSnapshot(folder, command, runs, supervised, trouble, about, configs)


def _jobs(folder: Path) -> tuple[dict[str, Job], str | None]:
    """Return SLURM's jobs by run id, and why SLURM can't be asked, if so."""
    try:
        return slurm_jobs.states(slurm_jobs.batches(folder)), None
    except SlurmError as error:
        return {}, str(error)


def _run_status(
    run: RunDir,
    config: Mapping[str, Any],
    owner: Owner | None,
    job: Job | None,
    sweep: str,
    attempt: int,
    search: str,
) -> RunStatus:
    status = run_dir.read_status(run) or {}
    state = status.get("state", "waiting")
    by_this_attempt = (status.get("sweep"), status.get("attempt")) == (sweep, attempt)
    done = state in run_dir.ENDED and (
        (by_this_attempt and state != "pruned")
        or run_dir.keeps(status, config["rerun"], sweep, attempt, search)
    )
    if not done:
        if owner:
            state = "running"
        elif state == "running":
            state = "interrupted"
        elif state in run_dir.ENDED:  # in another sweep, or attempt
            state = "waiting"
        if job and job.live and not owner:
            if not job.queued:
                state = "starting"
            elif state != "preempted":
                state = "queued"
    epochs, owner = config["trainer"]["epochs"], None if done else owner
    return RunStatus(run, state, not done, epochs, status, owner, job)
