"""A sweep and its runs as they are now, from their folders, their owners, and SLURM. No jax."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actsweep.runs import run_dir
from actsweep.runs.leases import Owner, living_owners, owners
from actsweep.runs.run_dir import RunDir
from actsweep.sweeps import plan, slurm_jobs
from actsweep.sweeps.slurm_jobs import Job, SlurmError
from actsweep.utils.invocation import typed_again

ORDER = (
    *("complete", "running", "failed", "diverged", "interrupted", "preempted"),
    *("starting", "queued", "waiting"),
)
"""How states are counted off."""


@dataclass(frozen=True)
class RunStatus:
    """One run of a sweep, as it is now.

    Attributes:
        run: its folder.
        state: as in `ledger.STATES`; `interrupted` if it was killed, `waiting` if nobody has begun;
            `queued` or `starting` if its SLURM job is.
        left: whether the sweep would still train it.
        epochs: how many it is to be trained.
        status: what its folder says, if there is anything.
        owner: who trains it.
        job: the SLURM job that it was last submitted in.
    """

    run: RunDir
    state: str
    left: bool
    epochs: int
    status: Mapping[str, Any]
    owner: Owner | None
    job: Job | None = None


@dataclass(frozen=True)
class SweepSnapshot:
    """A sweep as it is now; `tended` says whether a living process trains it, or waits for jobs, or
    SLURM has some; `trouble` why SLURM can't be asked."""

    folder: Path
    command: str
    runs: Sequence[RunStatus]
    tended: bool
    trouble: str | None = None

    def counts(self) -> str:
        """How many runs are in which state, such as `3 complete, 1 failed`."""
        count = Counter(one.state for one in self.runs)
        return ", ".join(f"{count[state]} {state}" for state in ORDER if count[state])


def take_snapshot(folder: Path) -> SweepSnapshot:
    """A sweep and its runs.

    Raises:
        UserError: its plan can't be read.
    """
    plain = plan.read_frozen(folder)
    outputs = plan.outputs_dir(folder, plain)
    held = owners(outputs, plain["members"])
    by = (folder.name, plain["attempt"])
    jobs, trouble = _jobs(folder)
    runs = [
        _see(RunDir(outputs, run_id), one["config"], held.get(run_id), jobs.get(run_id), *by)
        for run_id, one in plain["members"].items()
    ]
    tended = any(one.left and (one.owner or (one.job and one.job.live)) for one in runs)
    tended = tended or any(one.sweep == folder.name for one in living_owners(outputs))
    return SweepSnapshot(folder, typed_again(plain["command"]), runs, tended, trouble)


def _jobs(folder: Path) -> tuple[dict[str, Job], str | None]:
    """SLURM's jobs by run id, and why it can't say."""
    try:
        return slurm_jobs.states(slurm_jobs.batches(folder)), None
    except SlurmError as error:
        return {}, str(error)


def _see(
    run: RunDir,
    config: Mapping[str, Any],
    owner: Owner | None,
    job: Job | None,
    sweep: str,
    attempt: int,
) -> RunStatus:
    status = run_dir.read_status(run) or {}
    state = status.get("state", "waiting")
    own = (status.get("sweep"), status.get("attempt")) == (sweep, attempt)
    done = state in run_dir.ENDED and (
        own or run_dir.keeps(status, config["rerun"], sweep, attempt)
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
