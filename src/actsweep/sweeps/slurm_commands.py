"""What SLURM's own commands answer: the queue, the accounts, the cluster's limits. No jax."""

import re
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence

MAX_ARRAY = 1001
"""SLURM's default of MaxArraySize: an array has the indices 0 to MaxArraySize - 1."""

Answer = tuple[str, str, str]
"""State, node and reason of a job."""


class SlurmError(Exception):
    """An error of one of SLURM's commands: it is missing, fails, or doesn't answer."""


def ask(*command: str, env: Mapping[str, str] | None = None) -> str:
    """Run one of SLURM's commands, and return what it prints."""
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            start_new_session=True,  # so that Ctrl-C reaches this process alone
            env=env,
        )
    except FileNotFoundError as error:
        raise SlurmError(f"{command[0]}: no such command; is this a machine with SLURM?") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]}: no answer within {error.timeout:g} s") from error
    if process.returncode:
        message = _error_line(process.stderr or process.stdout, process.returncode)
        raise SlurmError(f"{command[0]}: {message}")
    return process.stdout


def _error_line(output: str, code: int) -> str:
    """Return the error message of a command that has failed, in one line."""
    lines = [re.sub(r"^\w+: (error: )?", "", line) for line in output.strip().splitlines()]
    kept = dict.fromkeys(line for line in lines if line and not line.startswith("Try "))
    return "; ".join(kept) or f"exit code {code}"


def queue() -> tuple[dict[str, Answer], dict[str, str]]:
    """Return this user's jobs that are queued or running.

    Returns:
        State, node and reason of each, by its name. The newest array of each batch script, by the
        script's path.
    """
    rows = _rows()
    live = {name: (state, node, reason) for name, (state, node, reason, _) in rows.items()}
    return live, {row[3]: name.partition("_")[0] for name, row in rows.items()}


def jobs_named(names: Iterable[str], scripts: Collection[str] = ()) -> set[str]:
    """Return those jobs of this user that are queued or running, of some jobs or whole arrays.

    Args:
        names: such as `12`, which also stands for all of the array 12, or `12_3`.
        scripts: file names of batch scripts: only jobs of such a one; empty for any.

    Raises:
        SlurmError: as `ask`.
    """
    wanted = {*names}
    rows = _rows() if wanted else {}
    found = {name: row for name, row in rows.items() if {name, name.partition("_")[0]} & wanted}
    return {name for name, row in found.items() if not scripts or _script(row[3]) in scripts}


def _script(command: str) -> str:
    """Return the file name of the script in a command such as `/my/array.sbatch act=relu`."""
    return command.partition(".sbatch")[0].rpartition("/")[2] + ".sbatch"


def _rows() -> dict[str, tuple[str, str, str, str]]:
    """Return state, node, reason and command of this user's jobs in the queue, by name."""
    answer = ask("squeue", "--me", "--noheader", "--array", "--format=%i|%T|%N|%r|%o")
    rows = [line.split("|", 4) for line in answer.splitlines() if line.count("|") >= 4]
    return {row[0].strip(): (row[1], row[2], row[3], row[4].strip()) for row in rows}


def history(arrays: Sequence[str]) -> dict[str, Answer]:
    """Return the same for jobs that have ended, as far as the cluster keeps accounts.

    An array of which no job has begun is listed as one job.
    """
    if not arrays:
        return {}
    words = ("--allocations", "--noheader", "--parsable2", "--format=JobID,State,NodeList")
    try:
        answer = ask("sacct", *words, f"--jobs={','.join(arrays)}")
    except SlurmError:
        return {}
    rows = [line.split("|") for line in answer.splitlines() if line.count("|") == 2]
    return {
        name: (state.partition(" ")[0], "" if node == "None assigned" else node, "")
        for names, state, node in rows
        for name in _expand(names)
    }


def _expand(names: str) -> list[str]:
    """Return the jobs that `12_[0-2,5%2]` stands for: sacct groups jobs that never began."""
    match = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", names)
    if match is None:
        return [names]
    spans = [part.partition("-") for part in match[2].split(",")]
    tasks = [task for low, _, high in spans for task in range(int(low), int(high or low) + 1)]
    return [f"{match[1]}_{task}" for task in tasks]


def largest_array() -> int:
    """Return how many jobs an array may have on this cluster; SLURM's default if it doesn't say."""
    try:
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.M)
    except SlurmError:
        found = None
    return max(1, int(found[1])) if found else MAX_ARRAY


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; they save what they train before they end.

    Args:
        jobs: their names, such as `12_3`.

    Raises:
        SlurmError: scancel is missing, fails, or doesn't answer.
    """
    ask("scancel", *jobs)
