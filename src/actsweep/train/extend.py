"""More epochs: a run takes over what a shorter training of the same config has left.

Whether a network trains for 3 epochs or for 6, its first 3 are the same, unless the schedule of its
learning rate follows from their number. The shorter run stays as it is.
"""

import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from actsweep.config import by_layer, resolve
from actsweep.runs import checkpoint, run_dir
from actsweep.runs.checkpoint import CheckpointError
from actsweep.runs.members import Member, check_stored, make_member
from actsweep.runs.metrics_file import MetricsFile, lacks, without_final
from actsweep.runs.rows import MetricsError
from actsweep.runs.run_dir import RunRecord, read_record
from actsweep.train.setup import PreparedPack
from actsweep.utils.errors import UserError
from actsweep.utils.files import write_atomic

log = logging.getLogger(__name__)

ENDED = ("complete", "diverged")
_EPOCHS = re.compile(r"^trainer:\n(?:  .*\n)*?  epochs: (\d+)$", re.M)


def extend(
    prepared: PreparedPack, due: Sequence[Member], records: Mapping[str, RunRecord]
) -> dict[str, RunRecord]:
    """Let runs that haven't begun take over what shorter ones have trained; return their records.

    Their folders then hold what an interruption after so many epochs would have left: rows,
    histograms and a checkpoint. What had ended early (patience, divergence) has ended in them, too.
    The status comes last: a process that dies before leaves a run that hasn't begun.

    Args:
        prepared: the pack.
        due: members that this process may train.
        records: their folders as they are now.
    """
    waiting = [member for member in due if _has_not_begun(member, records[member.run_id])]
    shorter = _shorter(waiting)
    if not shorter:
        return {}
    name = by_layer.label(prepared.pack.static.act)
    if why := _why_not(prepared):
        log.info("%s: %s again from the first epoch: %s", name, _begin(len(shorter)), why)
        return {}
    taken: dict[str, Member] = {}
    for member in waiting:
        before = shorter.get(member.run_id)
        if before and _take_over(member, before, prepared):
            taken[member.run_id] = before
    for epochs in sorted({before.config.trainer.epochs for before in taken.values()}):
        ids = [m.run_id for m in taken.values() if m.config.trainer.epochs == epochs]
        names = f"{ids[0]} and {len(ids) - 1} more" if len(ids) > 1 else ids[0]
        what = "1 run takes" if len(ids) == 1 else f"{len(ids)} runs take"
        log.info("%s: %s over what trainer.epochs=%d has trained: %s", name, what, epochs, names)
    return {member.run_id: read_record(member.dir) for member in due if member.run_id in taken}


def _begin(count: int) -> str:
    return "1 run begins" if count == 1 else f"{count} runs begin"


def _has_not_begun(member: Member, record: RunRecord) -> bool:
    if member.config.rerun == "all" or record.state in ENDED:
        return False
    return record.status is None or not checkpoint.steps(member.dir.checkpoints)


def _shorter(members: Sequence[Member]) -> dict[str, Member]:
    """Return, by run id, the longest shorter run of the same config that has ended, if any."""
    heads = {member.run_id.rpartition("-")[0] for member in members}
    roots = {member.dir.path.parent for member in members}
    folders = [each for root in roots if root.is_dir() for each in root.iterdir()]
    lengths = {
        int(match[1])
        for folder in folders
        if folder.name.rpartition("-")[0] in heads and (match := _EPOCHS.search(_config(folder)))
    }
    found: dict[str, Member] = {}
    for member in members:
        trainer = member.config.trainer
        for epochs in sorted((n for n in lengths if n < trainer.epochs), reverse=True):
            config = replace(member.config, trainer=replace(trainer, epochs=epochs))
            before = make_member(config)
            if (run_dir.read_status(before.dir) or {}).get("state") in ENDED:
                found[member.run_id] = before
                break
    return found


def _config(folder: Any) -> str:
    try:
        return str((folder / "config.yaml").read_text())
    except (OSError, ValueError):
        return ""


def _why_not(prepared: PreparedPack) -> str | None:
    """Return why the first epochs of a longer training are others, or can't be told apart."""
    config = prepared.pack.static
    if config.optim.schedule != "constant":
        return f"optim.schedule={config.optim.schedule} follows from trainer.epochs"
    for name, callback in prepared.callbacks.items():
        # Its final numbers can't be told from those of the last epoch, which they are added to.
        if callback.count and "_target_" in (config.callbacks[name] or {}):
            return f"callbacks.{name}, your own code, counts over the training set"
    return None


def _take_over(member: Member, before: Member, prepared: PreparedPack) -> bool:
    """Fill a member's folder; return whether it goes on from there."""
    epochs = before.config.trainer.epochs
    step = prepared.task.total_steps // member.config.trainer.epochs * epochs
    try:
        status = run_dir.read_status(before.dir)
        check_stored(before)
        flat, about = checkpoint.load(before.dir.checkpoints, step)
        if missing := lacks(before.dir.path, step, about.get("mark", {})):
            raise CheckpointError(f"checkpoint of step {step}: {missing}")
        run_dir.clear(member.dir, resolve.to_dict(member.config))
        write_atomic(member.dir.metrics, without_final(before.dir.metrics))
        if before.dir.histograms.exists():
            write_atomic(member.dir.histograms, before.dir.histograms.read_bytes())
        about |= {"mark": _mark(member, step), "task": asdict(prepared.task)}
        checkpoint.save(member.dir.checkpoints, step, flat, about)
        if run_dir.read_status(before.dir) != status:
            raise CheckpointError("it is being trained again")
    except (CheckpointError, MetricsError, UserError, OSError) as error:
        log.warning("%s: can't take over %s: %s; begins anew", member.run_id, before.run_id, error)
        return False
    cause, token = f"goes on from {before.run_id}", secrets.token_hex(3)
    run_dir.write_status(
        member.dir, "preempted", step=step, epoch=epochs, cause=cause, training=token
    )
    return True


def _mark(member: Member, step: int) -> dict[str, Any]:
    metrics = MetricsFile()
    metrics.open([member.info("", step)])
    try:
        return metrics.mark(0)
    finally:
        metrics.close()
