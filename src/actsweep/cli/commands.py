"""What the commands of `actsweep` take, and what they call. Each loads what it needs itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from actsweep.cli.race import race
from actsweep.cli.tune import tune
from actsweep.utils.errors import UserError
from actsweep.utils.progress import slow, to_stderr

if TYPE_CHECKING:
    from actsweep.report.compare import ReportRequest

Outputs = Annotated[Path, Parameter(help="The paths.outputs.")]
Sweep = Annotated[str, Parameter(help="Its name, its folder, or last.")]
OUTPUTS = Path("outputs")


@Parameter(name="*")
@dataclass(frozen=True)
class Comparing:
    """What is compared, and how.

    Attributes:
        metric: Such as test/accuracy (the default), val/loss, dead_frac/all.
        by: act, depth, init, lr, a config path, or two of them: act,depth.
        where: Only such runs: KEY=VALUE, or as the page filters: 'lr > 0.1'. May be repeated.
        margin: Differences below it don't matter; by default 0.5 points.
        one_look: The number of seeds was set beforehand: verdicts for one look, which take fewer.
    """

    metric: str | None = None
    by: str | None = None
    where: tuple[str, ...] = ()
    margin: float | None = None
    one_look: bool = False

    @property
    def factors(self) -> list[str]:
        """What `by` lists."""
        return self.by.split(",") if self.by else []

    def request(self) -> "ReportRequest":
        """The same for a report."""
        from actsweep.report.compare import ReportRequest

        return ReportRequest(self.factors, self.metric, self.margin, self.where, self.one_look)


ALIKE = Comparing()


def train(*words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Train one network, or with -m a sweep; train --help lists what can be typed.

    Args:
        words: Overrides and options of Hydra, as in act=relu,elu seed=0,1.
    """
    raise AssertionError(f"main takes {words} before anything is parsed")


def status(
    sweep: Sweep | None = None, /, *, json: bool = False, outputs: Outputs = OUTPUTS
) -> None:
    """Show how far sweeps and their runs are; without a name the newest.

    Args:
        json: Print one sweep, by default the last, as JSON; docs/python.md says what its keys are.
    """
    from actsweep.cli.status import show, show_json

    show_json(outputs, sweep) if json else show(outputs, sweep)


def resume(sweep: Sweep, /, *words: str, outputs: Outputs = OUTPUTS) -> int:
    """Train what a sweep has left, as submitted.

    Args:
        words: Other resources for its SLURM jobs, as in slurm.mem_gb=16.
    """
    from actsweep.launch.resume import resume
    from actsweep.sweeps.find import find_sweep

    return resume(find_sweep(outputs, sweep), words)


def retry(
    sweep: Sweep = "last",
    /,
    *words: str,
    diverged: bool = False,
    outputs: Outputs = OUTPUTS,
) -> int:
    """Resume a sweep, and train again what has failed.

    Args:
        words: Other resources for its SLURM jobs, as in slurm.mem_gb=16.
        diverged: Also what has diverged.
    """
    from actsweep.launch.resume import retry
    from actsweep.sweeps.find import find_sweep

    return retry(find_sweep(outputs, sweep), words, diverged=diverged)


def table(sweep: Sweep = "last", /, *, outputs: Outputs = OUTPUTS) -> None:
    """Print a sweep's table, as at its end."""
    from actsweep.launch.resume import show_table
    from actsweep.sweeps.find import find_sweep

    show_table(find_sweep(outputs, sweep))


def cancel(sweep: Sweep, /, *, outputs: Outputs = OUTPUTS) -> None:
    """End a sweep's SLURM jobs; what they did is kept."""
    from actsweep.launch import slurm_submit
    from actsweep.sweeps.find import find_sweep

    slurm_submit.cancel(find_sweep(outputs, sweep))


def job(folder: Path, number: int, task: int, /) -> int:
    """Train one job of a submission: for batch scripts.

    Args:
        folder: The sweep's.
        number: The submission: FOLDER/slurm/NUMBER.
        task: The job, from 0 on.
    """
    from actsweep.launch import slurm_submit
    from actsweep.launch.entry import guarded

    return guarded(lambda process: slurm_submit.job(folder, number, task, process))


def compare(
    *sweep: Sweep,
    which: Comparing = ALIKE,
    all: bool = False,
    json: bool = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Say which activation is better, and how sure that is.

    Means with 95 % intervals, every pair compared seed by seed and corrected for their number, and
    the answer in words, which holds however often you look. What was tuned (optim.*) is chosen in
    validation. Without --by the groups are the activations and, if one other thing was swept, its
    values.

    Args:
        all: Every pair, also if they are many.
        json: Print it as JSON; docs/python.md says what its keys are.
    """
    from actsweep.report.compare import compare_sweeps
    from actsweep.report.tables import as_plain
    from actsweep.report.text import show
    from actsweep.sweeps.find import find_sweep
    from actsweep.utils.files import json_text

    folders = [find_sweep(outputs, name) for name in sweep or ("last",)]
    comparison = compare_sweeps(folders, which.request())
    if json:
        print(json_text(as_plain(comparison)))
    else:
        show(comparison, every=all)


def export(
    *sweep: Sweep,
    which: Comparing = ALIKE,
    latex: bool = False,
    csv: bool = False,
    parquet: bool = False,
    json: bool = False,
    figures: bool = False,
    to: Path | None = None,
    width: str = "3.25in",
    font_size: float = 8.0,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Write the table of a comparison, or its figures, for a paper.

    The table has a row for each group of actsweep compare: mean, 95 % interval, seeds. In LaTeX
    the best mean is bold only if its group is better than every other one, and the caption names
    the test and its correction.

    Args:
        latex: As a LaTeX table, with booktabs.
        csv: As CSV; numbers in their own units.
        parquet: The same as Parquet; needs --to.
        json: The whole comparison, as actsweep compare --json.
        figures: The scores and their curves as PDF and SVG, into a folder.
        to: Where to; by default tables are printed, and figures go to the sweep's folder figures/.
        width: Of a figure: a number with in, cm, mm or pt.
        font_size: Of a figure, in points.
    """
    from actsweep.report import export
    from actsweep.report import figures as drawing
    from actsweep.report.compare import compare_sweeps
    from actsweep.sweeps.find import find_sweep

    named = {"latex": latex, "csv": csv, "parquet": parquet, "json": json, "figures": figures}
    kinds = [f"--{kind}" for kind, chosen in named.items() if chosen]
    if len(kinds) != 1:
        typed = " and ".join(kinds) or "no format"
        raise UserError(f"{typed}: must be one of --{', --'.join(named)}; type for example --latex")
    folders = [find_sweep(outputs, name) for name in sweep or ("last",)]
    if figures:
        size = drawing.Size.of(width, font_size)
        own = folders[0] / "figures" if len(folders) == 1 else outputs / "figures"
        with slow("drawing the figures"):
            files = drawing.save(folders, which.request(), to or own, size)
        print(*files, sep="\n")
        return
    comparison = compare_sweeps(folders, which.request())
    kind = kinds[0].removeprefix("--")
    print(export.write(comparison, kind, to) if to else export.text(comparison, kind))


def report(
    *sweep: Sweep,
    which: Comparing = ALIKE,
    to: Path | None = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Write the report of sweeps.

    Writes a page index.html that needs no network, and every figure and table as PNG and CSV, to
    the sweep's folder report/; for several sweeps to OUTPUTS/report, or where --to says. Without
    --by the groups are those of actsweep compare.

    Args:
        to: Where to.
    """
    from actsweep.report.write import write
    from actsweep.sweeps.find import find_sweep

    folders = [find_sweep(outputs, name) for name in sweep or ("last",)]
    own = folders[0] / "report" if len(folders) == 1 else outputs / "report"
    with slow("writing the report"):
        page = write(folders, to or own, which.request())
    print(page)


def watch(
    sweep: Sweep = "last",
    /,
    *,
    which: Comparing = ALIKE,
    port: int = 8765,
    every: float = 20.0,
    no_open: bool = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Serve a sweep's report while it runs.

    Writes the same page whenever a run has got ahead, and serves it on this machine. The page keeps
    itself up to date, and shows how fast the sweep is. Ends when the sweep does, or by Ctrl-C.

    Args:
        port: Of 127.0.0.1; 0 is a free one.
        every: Seconds between two looks.
        no_open: Don't open the page in a browser.
    """
    from actsweep.report.watch import watch
    from actsweep.sweeps.find import find_sweep

    sweep_dir = find_sweep(outputs, sweep)
    watch(sweep_dir, which.request(), port, every, open_browser=not no_open)


def board(
    outputs: Annotated[Path, Parameter(help="The paths.outputs.")] = OUTPUTS,
    /,
    *,
    port: int = 8766,
    no_open: bool = False,
) -> None:
    """Serve a page of all sweeps.

    Each with its command, its states and its best group; opened, with its report, which is written
    or brought up to date. Several that are ticked become one report.

    Args:
        port: Of 127.0.0.1; 0 is a free one.
        no_open: Don't open the page in a browser.
    """
    from actsweep.report.board import serve

    serve(outputs, port, open_browser=not no_open)


def dashboard(
    target: str,
    /,
    *,
    sweep: Sweep = "last",
    push: bool = False,
    dry_run: bool = False,
    to: Path | None = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Make a W&B workspace for a project.

    Three saved views, by act, depth and init: final score as bars, against the learning rate and
    the settings; accuracy, loss, gradients by layer, dead and saturated units, quantiles, health,
    histograms over time; means over seeds with their standard error.

    Args:
        target: ENTITY/PROJECT: where the runs are.
        push: Save the views; needs a key.
        dry_run: Write them as JSON, as without --push.
        to: Where to; by default OUTPUTS/dashboard.
    """
    from actsweep.report import wandb_dashboard
    from actsweep.report.design import gather
    from actsweep.sweeps.find import find_sweep

    if push and dry_run:
        raise UserError("--dry-run: not with --push; leave one of them out")
    entity, _, project = target.partition("/")
    if not entity or not project or "/" in project:
        raise UserError(f"{target}: must be ENTITY/PROJECT; type for example me/actsweep")
    entries = gather([find_sweep(outputs, sweep)])
    names = wandb_dashboard.metric_names(entries)
    histograms = wandb_dashboard.histogram_names(entries)
    views = wandb_dashboard.workspaces(entity, project, names, histograms)
    if push:
        print(*wandb_dashboard.push(views), sep="\n")
    else:
        print(*wandb_dashboard.write(views, to or outputs / "dashboard"), sep="\n")


def sync(
    sweep: Sweep = "last",
    /,
    *,
    project: str | None = None,
    entity: str | None = None,
    rebuild: bool = False,
    outputs: Outputs = OUTPUTS,
) -> int:
    """Upload a sweep's offline runs to W&B.

    Uploads what the server lacks, and says what it did. Typed again, it goes on; runs in training
    are left for later.

    Args:
        project: By default the runs' own.
        entity: By default your own.
        rebuild: Make new W&B runs of the runs' own rows first, such as after logger=disabled.
    """
    from actsweep.sweeps.find import find_sweep
    from actsweep.sweeps.wandb_sync import sync

    return sync(find_sweep(outputs, sweep), project, entity, rebuild=rebuild)


def show(run: str, /, *, classes: bool = False, outputs: Outputs = OUTPUTS) -> None:
    """Print a run's state and final numbers.

    Args:
        run: Its id, or outputs/runs/<run_id>.
        classes: Also each class's accuracy on the test set, and what it is taken for.
    """
    from actsweep.sweeps.find import find_runs

    folders = find_runs(outputs, [run])
    from actsweep.runs.load import load_run

    for folder in folders:
        loaded = load_run(folder.path)
        for name, value in {**loaded.status, **loaded.summary}.items():
            print(f"{name:18} {value}")
        if classes:
            from actsweep.cli.classes import print_classes

            print()
            print_classes(loaded)


def rm(
    name: str,
    /,
    *more: str,
    yes: bool = False,
    dry_run: bool = False,
    keep_runs: bool = False,
    outputs: Outputs = OUTPUTS,
) -> int:
    """Remove runs, or sweeps with the runs that no other sweep has; asks before it does.

    Args:
        name: A run's id or folder, 'relu-*' in quotes, or a sweep's name or folder.
        more: Others.
        yes: Don't ask.
        dry_run: Only say what would go.
        keep_runs: Of a sweep, remove the plan, table and report alone.
    """
    from actsweep.cli.cleanup import rm

    return rm(outputs, [name, *more], yes=yes, dry_run=dry_run, keep_runs=keep_runs)


def gc(*, dry_run: bool = False, outputs: Outputs = OUTPUTS) -> None:
    """Remove what nobody needs any more.

    Removes half-written files and links of processes that were killed, empty sweep folders,
    checkpoints of complete runs but for the newest, and W&B folders that wandb sync has uploaded.
    Runs that are being trained are left alone.

    Args:
        dry_run: Only say what would go.
    """
    from actsweep.cli.cleanup import gc

    gc(outputs, dry_run=dry_run)


def doctor(*run: str, outputs: Outputs = OUTPUTS) -> int:
    """Name runs whose numbers may be wrong, and why.

    Weights that aren't finite, folders of other runs, data that changed since, and what earlier
    versions did otherwise.

    Args:
        run: Ids, folders, or 'relu-*' in quotes; by default all.
    """
    from actsweep.cli.doctor import doctor

    return doctor(outputs, [*run])


def rerun(run: str, /, *words: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Train a run again, as it was typed, with further overrides.

    Args:
        run: Its id or its folder.
        words: Overrides, as in optim.lr=0.1; paths.outputs=DIR says where the run is.
    """
    from actsweep.cli.rerun import rerun

    return rerun(run, words)


def prepare(name: str, /, *, dir: Path | None = None, force: bool = False) -> None:
    """Fetch, verify and prepare a data set ahead of time.

    Training does this by itself; ahead of time it helps where compute nodes have no network.
    Prints the folder that holds the prepared data.

    Args:
        name: fashion_mnist, mnist, kmnist, cifar10, cifar100 or svhn.
        dir: Where to; by default as data.dir.
        force: Even if it is there: make it anew.
    """
    from actsweep.data.prepare import prepare

    print(prepare(name, dir, to_stderr, force=force))


def theory(
    *words: str,
    q0: float | None = None,
    c0: float | None = None,
    data: bool = False,
    run: str | None = None,
    json: bool = False,
    config_dir: Path | None = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Say what can be said of networks without training them.

    For each activation the fixed points of mean-field theory and whether they are stable, depth
    scales, the edge of chaos, the Jacobian's spectrum, and what to expect of every layer;
    docs/theory.md says what each number is. Cards and figures are kept in OUTPUTS/theory.

    Args:
        words: Overrides, as in act=tanh,swish init=normal init.sigma_w=1.3.
        q0: Mean square of the inputs' features; by default 1.
        c0: Cosine of two inputs; by default 0.
        data: Measure both on the training set of data=NAME.
        run: Instead of words a run's id: its row of step 0, prediction beside measurement.
        json: Print the cards as JSON, without figures.
        config_dir: A folder with further groups, as for training.
    """
    if run is not None:
        from actsweep.cli.predictions import show_run

        show_run(run, outputs, given=[*words], as_json=json)
        return
    from actsweep.cli.theory import runs_of, show

    show(runs_of(words, config_dir), outputs, q0=q0, c0=c0, data=data, as_json=json)


def lint(
    *words: str, json: bool = False, no_cost: bool = False, config_dir: Path | None = None
) -> None:
    """Look at activations' numbers and shape: overflow, lost digits, kinks, zeros, cost.

    Args:
        words: Overrides, as in act=gelu,'x*tanh(softplus(x))' act.beta=0.5.
        json: Print everything as JSON.
        no_cost: Don't measure the time of both directions, as multiples of relu's.
        config_dir: A folder with further groups, as for training.
    """
    from actsweep.cli.lint import show
    from actsweep.cli.theory import runs_of

    show(runs_of(words, config_dir), as_json=json, cost=not no_cost)


COMMANDS = (
    *(train, race, tune, status, resume, retry, table, cancel, job),
    *(theory, lint),
    *(compare, export, report, watch, board, dashboard, sync),
    *(show, rerun, doctor, rm, gc),
)
