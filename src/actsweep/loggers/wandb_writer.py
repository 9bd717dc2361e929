"""Weights & Biases, at arm's length: one side thread makes every call, and none can stop training.

`metrics.jsonl` is the truth. What W&B can't take is counted, reported once and left out.

A resumed run stays one W&B run. W&B holds some of its rows already: offline what the files of
earlier attempts say, online what the server says. Those are left out; the others up to the step
where training goes on are taken from the run's own files.
"""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from actsweep.loggers import wandb_log
from actsweep.loggers import wandb_support as support
from actsweep.loggers.wandb_run import WandbRun
from actsweep.runs.rows import MemberInfo, Row
from actsweep.utils.errors import UserError

log = logging.getLogger(__name__)

ONLINE_THREADS = 16
WRITING_SECONDS = 2.0
"""What wandb-core gets to write its files after `finish`; it takes milliseconds."""


class WandbWriter:
    """A W&B run for each member.

    Args:
        mode: `offline` (files in the run's folder) or `online`.
        options: arguments of `wandb.init`, the same for every run; see
            `wandb_support.init_options`.
        require_online: raise rather than go offline when the server can't be reached.
        queue_rows: rows that may wait for W&B; further ones are left out and counted.
        close_seconds: how long `close` waits for W&B before it gives up; may be set until then.
    """

    def __init__(
        self,
        mode: str,
        options: Mapping[str, Any],
        require_online: bool = False,
        queue_rows: int = 10_000,
        close_seconds: float = 60.0,
    ) -> None:
        self.mode = mode
        self._init = dict(options)
        self._require_online = require_online
        self._queue_rows = queue_rows
        self.close_seconds = close_seconds
        self.cut_short = "running"  # the state of runs that haven't ended when it is closed
        self._queue: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]] | None]
        self._queue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._members: list[MemberInfo] = []
        self._past: dict[int, list[Row]] = {}
        self._runs: dict[int, WandbRun] = {}
        self._files: dict[int, Path] = {}
        self._warnings: dict[int, list[str]] = {}
        self._ended: set[int] = set()
        self._finishing: list[Future[None]] = []
        self._finished: list[Path] = []
        self._unreachable: str | None = None
        self._warned = False
        self._broken = False
        self._counting = threading.Lock()
        self.lost_rows = 0

    def check(self, members: Sequence[MemberInfo]) -> None:
        """Check what can be checked before anything is touched.

        Raises:
            UserError: several members under a W&B sweep agent, or no server where one is required.
        """
        if os.environ.get("WANDB_SWEEP_ID") and len(members) > 1:
            raise UserError(
                f"WANDB_SWEEP_ID is set and the pack has {len(members)} members: an agent's job is "
                "one W&B run, so they would overwrite each other; type pack.size=1"
            )
        if self.mode != "online":
            return
        self._unreachable = support.preflight()
        if self._unreachable and self._require_online:
            raise UserError(
                f"logger.require_online=true, but W&B is out of reach: {self._unreachable}; "
                "type logger.mode=offline, or logger.require_online=false to fall back by itself"
            )

    def open(self, members: Sequence[MemberInfo]) -> None:
        """Start the side thread; it opens the runs."""
        if self._unreachable:
            self._go_offline(self._unreachable, members)
        fit = support.runs_that_fit(len(members))
        if fit < len(members):
            log.warning(
                "W&B takes the first %d of %d runs, as the limit on open files is too low; "
                "raise it (ulimit -n) or type pack.size=%d",
                *(fit, len(members), max(fit, 1)),
            )
        self._members = list(members)[:fit]
        for member, info in enumerate(self._members):
            if info.resumed_at is not None:  # read here: from now on the file grows
                self._past[member] = support.past_rows(info, info.resumed_at)
        self._thread = threading.Thread(target=self._work, name="wandb-writer", daemon=True)
        self._put(self._open_runs)
        self._thread.start()

    def row(self, member: int, row: Row) -> None:
        """Queue one row; returns at once, whatever W&B does."""
        if self._queue.qsize() < self._queue_rows:
            self._put(self._log, member, row)
        elif member < len(self._members):
            self._lose(f"it is too slow: {self._queue_rows} rows wait for it")

    def message(self, member: int, text: str) -> None:
        """Keep a line for the run's summary, under `warnings`."""
        self._warnings.setdefault(member, []).append(text)

    def finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        """Queue the end of one run, with its final numbers as the W&B summary."""
        self._ended.add(member)
        warnings = self._warnings.pop(member, [])
        more = {"warnings": warnings} if warnings else {}
        final = support.final_numbers({**summary, "state": state, **more})
        self._put(self._finish, member, state, final)

    def close(self) -> None:
        """Wait for the queue, up to `close_seconds`, and check that every run is on disk."""
        if self._thread is None:
            return
        for member in range(len(self._members)):
            if member not in self._ended:  # interrupted: W&B must not show it as finished
                self._put(self._finish, member, self.cut_short, {})
        self._put(self._end)
        self._queue.put(None)
        self._thread.join(self.close_seconds)
        if self._thread.is_alive():
            self._broken = True
            self._warn(f"it did not finish within {self.close_seconds:.0f} s")
            with contextlib.suppress(Exception):
                support.stop_service()
            self._thread.join(5.0)  # its call has failed by now
        self._thread = None
        self._check_files()

    def _go_offline(self, reason: str, members: Sequence[MemberInfo]) -> None:
        self.mode = "offline"
        log.warning(
            "W&B is OFFLINE: %s. Nothing is lost; upload later with: %s",
            *(reason, support.sync_command([info.run_dir for info in members])),
        )

    # From here on: the side thread.

    def _put(self, job: Callable[..., None], *args: Any) -> None:
        self._queue.put((job, args))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            job, args = item
            try:
                job(*args)
            except Exception as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._broken = self._broken or isinstance(error, ConnectionError)  # wandb-core is gone
        self._warn(f"{type(error).__name__}: {error}")

    def _open_runs(self) -> None:
        started = self._start_online() if self.mode == "online" else {}
        if started and (address := next(iter(started.values())).address(len(started))):
            log.info("W&B: %s", address)
        if self.mode == "offline":
            started = self._start_offline()
        for member, run in started.items():
            self._runs[member], self._files[member] = run, run.file
            past = self._past.pop(member, None)
            if past is not None:
                try:
                    run.go_on(past)
                except Exception as error:
                    self._failed(error)
                for row in past:
                    self._log(member, row)

    def _start_online(self) -> dict[int, WandbRun]:
        """Start all runs or, if one fails, none: wandb-core keeps the id of a run that failed."""
        self._pool = ThreadPoolExecutor(ONLINE_THREADS, thread_name_prefix="wandb-online")
        starting = [
            self._pool.submit(WandbRun, info, "online", self._init) for info in self._members
        ]
        try:
            return {member: future.result() for member, future in enumerate(starting)}
        except Exception as error:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self._go_offline(reason, self._members)
            support.restart_service()
            return {}

    def _start_offline(self) -> dict[int, WandbRun]:
        started = {}
        for member, info in enumerate(self._members):
            try:
                started[member] = WandbRun(info, "offline", self._init)
            except Exception as error:
                self._failed(error)
        return started

    def _log(self, member: int, row: Row) -> None:
        if member >= len(self._members):
            return
        run = self._runs.get(member)
        if run is None or self._broken:
            self._lose("the run is not open")
            return
        try:
            run.put(row)
        except Exception as error:
            self._failed(error)
            self._lose(f"{type(error).__name__}: {error}")

    def _finish(self, member: int, state: str, summary: dict[str, Any]) -> None:
        run = self._runs.pop(member, None)
        if run is None:
            return
        if self._broken:
            if run.held:
                self._lose("wandb-core is gone")
            return
        try:
            run.end(state, summary)
        except Exception as error:
            self._failed(error)
        if self._pool:
            self._finishing.append(self._pool.submit(self._finish_run, run, state))
        else:
            self._finish_run(run, state)

    def _finish_run(self, run: WandbRun, state: str) -> None:
        try:
            run.finish(state)
            self._finished.append(run.file)
        except Exception as error:
            self._failed(error)

    def _end(self) -> None:
        for future in self._finishing:
            future.result()
        if self._pool:
            self._pool.shutdown()
        if self._broken:  # so that the next pack of this process gets a new wandb-core
            support.restart_service()
            for info in self._members:  # it may have been cut off within a record
                wandb_log.close_interrupted(info.run_dir / "wandb", info.wandb_id)
        until = time.monotonic() + (0 if self._broken else WRITING_SECONDS)
        for file in filter(Path.exists, self._finished):  # a run isn't complete before its file is
            wandb_log.wait_until_finished(file, until)
        self._keep_unsent(until)

    def _keep_unsent(self, until: float) -> None:
        """Prepare what the server didn't take of online runs for `wandb sync`."""
        unsent, reasons = list[Path](), dict[str, None]()
        for member, file in self._files.items():
            if wandb_log.is_online(file) and not wandb_log.is_synced(file):
                reasons[wandb_log.uploaded(file)[1] or "wandb-core ended before"] = None
                wandb_log.salvage(file, until)
                unsent.append(self._members[member].run_dir)
        if unsent and not self._warned:
            self._warned = True
            log.warning(
                "W&B lacks rows of %d runs: %s. Nothing is lost; upload them with: %s",
                *(len(unsent), ", ".join(reasons), support.sync_command(unsent)),
            )

    # Counting and reporting, from either thread.

    def _lose(self, reason: str) -> None:
        with self._counting:
            self.lost_rows += 1
        self._warn(reason)

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        log.warning(
            "W&B: %s. Training goes on and metrics.jsonl has every row; "
            "to upload what W&B has taken, type: %s",
            *(reason, support.sync_command([info.run_dir for info in self._members])),
        )

    def _check_files(self) -> None:
        missing = [
            info.run_id
            for member, info in enumerate(self._members)
            if member not in self._files or not self._files[member].exists()
        ]
        if missing:
            log.warning("W&B left no file for %d runs, such as %s", len(missing), missing[0])
        if self.lost_rows:
            log.warning("W&B lacks %d rows; metrics.jsonl has them", self.lost_rows)
