"""The command `actsweep`: how sweeps are, going on with them, tidying up."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from actsweep.utils.errors import UserError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
PLUGINS = "actsweep.commands"
"""Entry points that add commands: each a function of the subparsers and of `_command`."""
Run = Callable[[argparse.Namespace], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input is one line and exit code 2."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "words") and all(word[0] != "-" for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # words that stand behind an option
        options.words += rest
    if not hasattr(options, "run"):
        parser.print_help()
        return BAD_INPUT
    try:
        return options.run(options) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"error: {error.filename or 'actsweep'}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "actsweep", description=__doc__, epilog="To train: python train.py -m act=relu,elu seed=0,1"
    )
    parser.add_argument("--version", action="version", version=version("actsweep"))
    commands = parser.add_subparsers(title="commands")
    _add_sweeps(commands)
    _add_comparisons(commands)
    _add_wandb(commands)
    _add_runs(commands)
    for plugin in entry_points(group=PLUGINS):
        plugin.load()(commands, _command)
    data = commands.add_parser("data", help="data sets").add_subparsers(required=True)
    prepare = data.add_parser(
        "prepare", help="fetch, verify and prepare a data set ahead of time", description=_PREPARE
    )
    prepare.add_argument("name", help="fashion_mnist, mnist or kmnist")
    prepare.add_argument("--dir", type=Path, help="where to (default: as data.dir)")
    prepare.add_argument("--force", action="store_true", help="even if it is there: make it anew")
    prepare.set_defaults(run=_prepare)
    return parser


def _add_sweeps(commands: Any) -> None:
    """What is said and done about sweeps."""
    status = _command(commands, "status", _status, "how far sweeps and their runs are")
    status.add_argument("sweep", nargs="?", metavar="SWEEP", help=f"{_SWEEP}; without: the newest")
    resume = _command(commands, "resume", _resume, "train what a sweep has left, as submitted")
    resume.add_argument("sweep", metavar="SWEEP", help=_SWEEP)
    retry = _command(commands, "retry", _retry, "resume, and train again what has failed")
    retry.add_argument("sweep", nargs="?", default="last", metavar="SWEEP", help=_SWEEP)
    retry.add_argument("--diverged", action="store_true", help="also what has diverged")
    table = _command(commands, "table", _table, "a sweep's table, as at its end")
    table.add_argument("sweep", nargs="?", default="last", metavar="SWEEP", help=_SWEEP)
    cancel = _command(
        commands, "cancel", _cancel, "end a sweep's SLURM jobs; what they did is kept"
    )
    cancel.add_argument("sweep", metavar="SWEEP", help=_SWEEP)
    job = commands.add_parser("job", help="train one job of a submission: for batch scripts")
    job.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder")
    job.add_argument("number", type=int, metavar="N", help="the submission: DIR/slurm/N")
    job.add_argument("task", type=int, metavar="TASK", help="the job, from 0 on")
    job.set_defaults(run=_job)


def _add_comparisons(commands: Any) -> None:
    """Which is better, in words and figures."""
    compare = _command(
        commands, "compare", _compare, "which activation is better, and how sure that is", _COMPARE
    )
    compare.add_argument("sweep", nargs="*", default=["last"], metavar="SWEEP", help=_SWEEP)
    _add_comparing(compare)
    compare.add_argument("--all", action="store_true", help="every pair, also if they are many")
    report = _command(commands, "report", _report, "write the report of sweeps", _REPORT)
    report.add_argument("sweep", nargs="*", default=["last"], metavar="SWEEP", help=_SWEEP)
    _add_comparing(report)
    report.add_argument("--to", type=Path, metavar="DIR", help="where to")
    watch = _command(commands, "watch", _watch, "serve a sweep's report while it runs", _WATCH)
    watch.add_argument("sweep", nargs="?", default="last", metavar="SWEEP", help=_SWEEP)
    _add_comparing(watch)
    watch.add_argument("--port", type=int, default=8765, help="of 127.0.0.1 (8765; 0: a free one)")
    watch.add_argument(
        "--every", type=float, default=20.0, metavar="SECONDS", help="between two looks (20)"
    )


def _add_wandb(commands: Any) -> None:
    """What W&B gets to see."""
    board = _command(commands, "dashboard", _dashboard, "a W&B workspace for a project", _DASHBOARD)
    board.add_argument("target", metavar="ENTITY/PROJECT", help="where the runs are")
    board.add_argument("--sweep", default="last", metavar="SWEEP", help=f"metrics: {_SWEEP}")
    how = board.add_mutually_exclusive_group()
    how.add_argument("--push", action="store_true", help="save the views; needs a key")
    how.add_argument("--dry-run", action="store_true", help="write them as JSON (the default)")
    board.add_argument("--to", type=Path, metavar="DIR", help="where to (DIR/dashboard)")
    sync = _command(commands, "sync", _sync, "upload a sweep's offline runs to W&B", _SYNC)
    sync.add_argument("sweep", nargs="?", default="last", metavar="SWEEP", help=_SWEEP)
    sync.add_argument("--project", help="by default the runs' own")
    sync.add_argument("--entity", help="by default your own")


def _add_comparing(parser: argparse.ArgumentParser) -> None:
    """What is compared, and how."""
    parser.add_argument(
        "--metric", help="such as test/accuracy (the default), val/loss, dead_frac/all"
    )
    parser.add_argument(
        "--by", default="", metavar="FACTOR", help="act, depth, init, lr, a config path, or two"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only such runs"
    )
    parser.add_argument(
        "--margin", type=float, metavar="X", help="differences below it don't matter (0.5 points)"
    )


def _add_runs(commands: Any) -> None:
    """What is said and done about runs."""
    show = _command(commands, "show", _show, "a run's state and final numbers")
    show.add_argument("wanted", metavar="RUN", help="its id, or outputs/runs/<run_id>")
    rm = _command(commands, "rm", _rm, "remove runs")
    rm.add_argument("wanted", nargs="+", metavar="RUN", help="an id, a path, or 'relu-*' in quotes")
    gc = _command(commands, "gc", _gc, "remove what nobody needs any more", description=_GC)
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")


def _command(
    commands: Any, name: str, run: Run, what: str, description: str | None = None
) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=what, description=description or f"{what.capitalize()}.")
    made.add_argument(
        "--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="the paths.outputs"
    )
    made.set_defaults(run=run)
    return made


_SWEEP = "its name, its folder, or last"
_GC = """Removes half-written files and links of processes that were killed, empty sweep folders,
checkpoints of complete runs but for the newest, and W&B folders that wandb sync has uploaded. Runs
that are being trained are left alone."""
_COMPARE = """Means with 95 % intervals, every pair compared seed by seed and corrected for their
number, and the answer in words. What was tuned (optim.*) is chosen in validation. Without --by the
groups are the activations and, if one other thing was swept, its values."""
_REPORT = """Writes a page index.html that needs no network, and every figure and table as PNG and
CSV, to the sweep's folder report/; for several sweeps to DIR/report, or where --to says. Without
--by the groups are those of actsweep compare."""
_WATCH = """Writes the same page whenever a run has got ahead, and serves it on this machine."""
_DASHBOARD = """Three saved views, by act, depth and init: accuracy, loss, gradients by layer, dead
and saturated units, quantiles, health; means over seeds with their standard error."""
_SYNC = """Uploads what the server lacks, and says what it did. Typed again, it goes on; runs in
training are left for later."""
_PREPARE = """Training does this by itself; ahead of time it helps where compute nodes have no
network. Prints the folder that holds the prepared data."""


def _prepare(options: argparse.Namespace) -> None:
    from actsweep.data.prepare import prepare

    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    print(prepare(options.name, options.dir, say, force=options.force))


def _status(options: argparse.Namespace) -> None:
    from actsweep.cli.status import show

    show(options.outputs, options.sweep)


def _resume(options: argparse.Namespace) -> int:
    from actsweep.launch.resume import resume
    from actsweep.sweeps.find import find_sweep

    return resume(find_sweep(options.outputs, options.sweep))


def _retry(options: argparse.Namespace) -> int:
    from actsweep.launch.resume import retry
    from actsweep.sweeps.find import find_sweep

    return retry(find_sweep(options.outputs, options.sweep), diverged=options.diverged)


def _table(options: argparse.Namespace) -> None:
    from actsweep.launch.resume import show_table
    from actsweep.sweeps.find import find_sweep

    show_table(find_sweep(options.outputs, options.sweep))


def _compare(options: argparse.Namespace) -> None:
    from actsweep.report.compare import compare
    from actsweep.report.design import gather, usual_factors, where
    from actsweep.report.text import show
    from actsweep.sweeps.find import find_sweep

    entries = where(gather([find_sweep(options.outputs, s) for s in options.sweep]), options.where)
    by = options.by.split(",") if options.by else usual_factors(entries)
    found = compare(entries, by, options.metric, options.margin)
    show(found, every=options.all)


def _wanted(options: argparse.Namespace) -> Any:
    from actsweep.report.write import ReportRequest

    by = options.by.split(",") if options.by else ()
    return ReportRequest(by, options.metric, options.margin, options.where)


def _report(options: argparse.Namespace) -> None:
    from actsweep.report.write import write
    from actsweep.sweeps.find import find_sweep

    folders = [find_sweep(options.outputs, one) for one in options.sweep]
    own = folders[0] / "report" if len(folders) == 1 else options.outputs / "report"
    print(write(folders, options.to or own, _wanted(options)))


def _watch(options: argparse.Namespace) -> None:
    from actsweep.report.watch import watch
    from actsweep.sweeps.find import find_sweep

    folder = find_sweep(options.outputs, options.sweep)
    watch(folder, _wanted(options), options.port, options.every)


def _dashboard(options: argparse.Namespace) -> None:
    from actsweep.report import wandb_dashboard
    from actsweep.report.design import gather
    from actsweep.sweeps.find import find_sweep

    entity, _, project = options.target.partition("/")
    if not entity or not project or "/" in project:
        raise UserError(f"{options.target}: must be ENTITY/PROJECT; type for example me/actsweep")
    names = wandb_dashboard.metric_names(gather([find_sweep(options.outputs, options.sweep)]))
    found = wandb_dashboard.workspaces(entity, project, names)
    if options.push:
        print(*wandb_dashboard.push(found), sep="\n")
    else:
        print(*wandb_dashboard.write(found, options.to or options.outputs / "dashboard"), sep="\n")


def _sync(options: argparse.Namespace) -> int:
    from actsweep.sweeps.find import find_sweep
    from actsweep.sweeps.wandb_sync import sync

    return sync(find_sweep(options.outputs, options.sweep), options.project, options.entity)


def _cancel(options: argparse.Namespace) -> None:
    from actsweep.launch import slurm_submit
    from actsweep.sweeps.find import find_sweep

    slurm_submit.cancel(find_sweep(options.outputs, options.sweep))


def _job(options: argparse.Namespace) -> int:
    from actsweep.launch import slurm_submit
    from actsweep.launch.entry import guarded

    return guarded(
        lambda process: slurm_submit.job(options.folder, options.number, options.task, process)
    )


def _show(options: argparse.Namespace) -> None:
    from actsweep.sweeps.find import find_runs

    found = find_runs(options.outputs, [options.wanted])
    from actsweep.runs.load import load_run

    for one in found:
        run = load_run(one.path)
        for name, value in {**run.status, **run.summary}.items():
            print(f"{name:18} {value}")


def _rm(options: argparse.Namespace) -> None:
    from actsweep.cli.cleanup import rm

    rm(options.outputs, options.wanted)


def _gc(options: argparse.Namespace) -> None:
    from actsweep.cli.cleanup import gc

    gc(options.outputs, dry_run=options.dry_run)
