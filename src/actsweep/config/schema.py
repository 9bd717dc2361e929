"""The typed schema of `conf/`: the keys of a run's config, and the allowed names. No jax."""

from dataclasses import dataclass, field
from typing import Any

INITS = (
    "torch_uniform",
    "lecun_normal",
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "orthogonal",
    "normal",
    "critical",
    "critical_orthogonal",
    "delta_orthogonal",
    "randomized_asymmetric",
    "autoinit",
    "lsuv",
)
CRITICAL_INITS = ("critical", "critical_orthogonal")
"""Those whose sigma_w and sigma_b follow from the activation: the edge of chaos."""
TRANSFORMS = ("dks", "tat")
"""What may rescale an activation for the depth of its network: `act.transform`."""
OPTIMISERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "warmup_cosine")
PRECISIONS = ("float32", "tf32", "bfloat16")
BATCHINGS = ("auto", "map", "vmap")
RANDOM_ACTS = ("rrelu",)
"""The activations that are random in training."""
MIXABLE = (
    "identity",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "hard_tanh",
    "softsign",
    "softplus",
    "relu",
    "relu6",
    "squared_relu",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "gelu",
    "swish",
    "silu",
    "hard_swish",
    "mish",
)
"""The activations that may share a program (`pack.mix`): all elementwise ones that train nothing,
but for log_sigmoid, which was once seen to round otherwise. See tests/test_mixed.py."""
LOGGERS = ("csv", "tensorboard", "trackio", "mlflow")
"""The loggers beside W&B, under `logger.writers`."""
LOGGER_MODES = ("offline", "online", "disabled")
RERUNS = ("none", "failed", "diverged", "all")
MODELS: dict[str, tuple[str, ...]] = {
    "mlp": ("norm", "residual", "dropout"),
    "cnn": ("channels", "convs", "kernel", "stride", "pool", "norm", "dropout"),
    "resnet": ("norm", "skip", "preact"),
    "transformer": ("heads", "patch", "norm", "dropout"),
    "rnn": ("cell", "bidirectional", "dropout"),
}
"""The options of each model that comes with actsweep."""
DEPTHS = {"resnet": (8, 16), "transformer": (4, 64), "rnn": (1, 128)}
"""The number and the width of a model's layers where `depth` says neither; else (4, 256)."""
TABLES = ("csv", "npz", "wine", "breast_cancer", "diabetes")
TEXTS = ("text", "pydocs")
SOURCES = ("tfds", "hf")
"""Where image sets of any name come from: `data.source`."""
IMAGE_SETS = ("fashion_mnist", "mnist", "kmnist", "cifar10", "cifar100", "svhn")
"""Image sets that arrive by themselves."""
DATASETS = (
    *IMAGE_SETS,
    *("idx", "digits", "circle", "xor", "xor_table", "quadratic"),
    *TABLES,
    *TEXTS,
    *SOURCES,
)
STREAMS = (False, True, "disk")
AUGMENTS = ("none", "crop_flip")
LEVELS = ("char", "byte")
TASKS = ("auto", "classification", "regression", "multilabel")
LOSSES = ("auto", "cross_entropy", "binary_cross_entropy", "squared_error", "next_token")
MAX_SEED = 2**32 - 1
RANDOM_SOURCES = ("init", "order", "split")
"""What a run draws: initial weights; the order of examples and all other noise of training
(dropout, `data.augment`); which examples are for training and which for validation."""
SLURM_REQUEUE_S = 30.0
"""Seconds reserved to queue a SLURM job again, between `trainer.grace_s` and its time limit."""
USUAL_VARY = "init+order"
"""What follows `seed` where `vary` says nothing."""


@dataclass
class DepthConfig:
    """The layers with the activation: `layers` of equal `width`, or the list `widths`.

    They are the MLP's and the CNN's dense layers, a transformer's blocks, recurrent layers, all
    layers of a residual network, whose `width` is the channels of its first stage.
    """

    layers: int | None = None
    width: int | None = None
    widths: list[int] | None = None


@dataclass
class InitConfig:
    """The distribution of initial weights and biases; `gain` is a number or `auto`.

    `q` says where on the edge of chaos `critical` and `critical_orthogonal` are: the second moment
    of pre-activations. These two find `sigma_w` and `sigma_b` themselves.
    """

    name: str = "torch_uniform"
    scale: float = 1.0
    gain: Any = 1.0
    sigma_w: float = 1.0
    sigma_b: float = 0.0
    bias: float = 0.0
    q: float | None = None


@dataclass
class ModelConfig:
    """The network around the activation, and its options; None leaves the model's own default.

    `channels` are those of the CNN's stages, `convs` the convolutions of each stage.
    """

    name: str = "mlp"
    channels: list[int] = field(default_factory=list)
    norm: str | None = None
    dropout: float | None = None
    residual: bool | None = None
    skip: bool | None = None
    preact: bool | None = None
    convs: int | None = None
    kernel: int | None = None
    stride: int | None = None
    pool: str | None = None
    heads: int | None = None
    patch: int | None = None
    cell: str | None = None
    bidirectional: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)
    _target_: str | None = None


@dataclass
class DataConfig:
    """The data set. `dir` holds prepared TFDS folders; `stream` keeps the examples on the host.

    With `stream=disk` images stay on the disk. `source` says who knows an image set by its `name`:
    `tfds` or `hf`, of which `config` is a set's variant; None for a set that comes with actsweep.
    Images are resized to `size`, `[height, width]` or `[height, width, channels]`.

    Of a table, `path` is the file (of `idx` the folder), `target` the column to predict and
    `columns` those to predict it from (by default the last, and all others). `val_size` and
    `test_size` are numbers of examples or shares of all; with `stratify` each split has the classes
    in their shares. `standardize` gives each feature mean 0 and deviation 1. `task` is `auto`,
    `classification`, `regression` or `multilabel`, of which `target` lists the columns. `augment`
    changes the images of training steps at random.

    Of a text, `path` is the file, `level` says what a token is, `char` or `byte`, and `length` how
    many make an example.
    """

    name: str = "fashion_mnist"
    source: str | None = None
    config: str | None = None
    size: list[int] = field(default_factory=list)
    path: str | None = None
    level: str = "char"
    length: int = 64
    target: Any = None
    columns: list[str] = field(default_factory=list)
    task: str = "auto"
    test_size: float = 0.2
    stratify: bool = False
    standardize: bool = True
    dir: str | None = None
    val_size: Any = 10_000
    split_seed: int = 0
    examples: int = 1_000
    noise: float = 0.0
    stream: Any = False
    augment: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    _target_: str | None = None

    @property
    def kind(self) -> str:
        """Return which of `DATASETS` it is: the source, or the name of what comes with actsweep."""
        return self.source or self.name


@dataclass
class LossConfig:
    """What training minimises; `auto` follows from the data.

    `label_smoothing` is the share of each label that is given to all classes evenly. It changes the
    training loss alone: validation and test are measured by the labels as they are.
    """

    name: str = "auto"
    label_smoothing: float = 0.0


@dataclass
class OptimConfig:
    """The optimiser, its schedule and its clipping.

    `weight_decay` is for kernels; `decay_bias` and `decay_act` extend it to biases and to learned
    parameters of activations.
    """

    name: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False
    decay_act: bool = False
    schedule: str = "constant"
    warmup: float = 0.1
    clip_norm: float | None = None


@dataclass
class MeshConfig:
    """The number of devices that share one member's batch."""

    data: int = 1


@dataclass
class TrainerConfig:
    """Length, batches, early stopping, precision and checkpoints of the training.

    Where memory is short, `accumulate` cuts each batch into so many equal parts, whose gradients
    are averaged. `save_every_s` are the seconds between checkpoints (0: one after
    every chunk), `grace_s` those within which training ends after a signal. `distributed` joins
    several processes to train each pack together: `slurm`, or the address `host:port` of process 0
    with `process`, the index of this process, and `processes`, their number.
    """

    epochs: int = 10
    batch_size: int = 256
    patience: int | None = 7
    min_epochs: int = 0
    precision: str = "float32"
    accumulate: int = 1
    chunk_steps: int = 100
    probe_examples: int = 512
    save_every_s: float = 60.0
    grace_s: float = 30.0
    mesh: MeshConfig = field(default_factory=MeshConfig)
    distributed: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclass
class LoggerConfig:
    """Weights & Biases, offline by default; `report` writes a report at the end of a sweep.

    What is null or empty is taken from W&B's environment variables, such as WANDB_PROJECT.
    `writers` are the loggers beside W&B: name -> options, or a `_target_`. W&B records the commit
    with `git`, installed packages with `requirements` and the machine's load with `system`. With
    `checkpoint` it gets the last checkpoint, which holds the best parameters, as an artifact, with
    `alerts` an alert for each run that diverges or fails, with `report_run` a sweep's report.
    """

    mode: str = "offline"
    writers: dict[str, Any] = field(default_factory=dict)
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    notes: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    git: bool = True
    requirements: bool = False
    system: bool = False
    checkpoint: bool = False
    alerts: bool = False
    report_run: bool = True
    require_online: bool = False
    console: bool = True
    report: bool = True


@dataclass
class PathsConfig:
    """The folder to which everything is written."""

    outputs: str = "outputs"


@dataclass
class PackConfig:
    """The way in which members of a sweep share compiled programs.

    With `mix`, runs that differ in their activation share a program under `map`. Without `wait`,
    runs that other processes are training are left to them. The sweeper fills in `members`.
    """

    size: Any = "auto"
    batching: str = "auto"
    mix: bool = False
    plan: bool = False
    wait: bool = True
    members: list[str] | None = None


@dataclass
class SlurmConfig:
    """The resources of a job of hydra/launcher=slurm; None leaves the choice to the cluster.

    `gpus` and `cpus` are per node, `hours` is the time after which a job is queued again, and
    `max_parallel` the number of jobs that run at once. `setup` holds shell commands that run first,
    `extra` further options of sbatch. With `wait` the command follows the jobs to their end;
    without `submit` it only writes the script.
    """

    partition: str | None = None
    account: str | None = None
    hours: float = 4.0
    nodes: int = 1
    gpus: int = 1
    cpus: int = 4
    mem_gb: float | None = None
    max_parallel: int | None = None
    setup: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    wait: bool = True
    submit: bool = True


@dataclass
class SweepConfig:
    """Which combinations a sweep trains, what it is called, and whether a failure ends it.

    Commands find a sweep by its `name`; `notes` and `tags` are shown beside it.

    `pairs` lists keys whose values go together, one by one; `exclude` combinations to leave out, as
    values by key. With `fail_fast` no further pack is begun once a run has failed.
    """

    name: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    pairs: list[Any] = field(default_factory=list)
    exclude: list[Any] = field(default_factory=list)
    fail_fast: bool = False


@dataclass
class SeedsConfig:
    """Seeds of single sources of randomness; None follows `seed`, or what `vary` says.

    `init` draws the initial weights, `order` the order of the examples, dropout and augmentation.
    The split has `data.split_seed`.
    """

    init: int | None = None
    order: int | None = None


@dataclass
class RunConfig:
    """One fully resolved run; the fields are named as on the command line.

    `vary` lists the sources of randomness that follow `seed`, as `init`, `init+split` or `all`; the
    others keep seed 0, the split `data.split_seed`. None is `init+order`.
    """

    act: dict[str, Any] = field(default_factory=dict)
    depth: DepthConfig = field(default_factory=DepthConfig)
    init: InitConfig = field(default_factory=InitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    pack: PackConfig = field(default_factory=PackConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    seed: int = 0
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    vary: Any = None
    rerun: str = "failed"

    @property
    def act_params(self) -> dict[str, Any]:
        """Return the activation's parameters, the numbers of `act.transform` among them, without
        name, formula, target, `by_layer` and `transform`."""
        others = ("name", "formula", "_target_", "by_layer", "transform")
        return {key: value for key, value in self.act.items() if key not in others}

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the widths of the hidden dense layers, from input to output."""
        assert self.depth.widths is not None
        return tuple(self.depth.widths)

    @property
    def init_seed(self) -> int:
        """Return the seed of the initial weights."""
        return self._seed_of("init", self.seeds.init)

    @property
    def order_seed(self) -> int:
        """Return the seed of the order of the examples, of dropout and of augmentation."""
        return self._seed_of("order", self.seeds.order)

    def _seed_of(self, source: str, own: int | None) -> int:
        if own is not None:
            return own
        return self.seed if source in varied_sources(self.vary) else 0


def varied_sources(vary: str | None) -> tuple[str, ...]:
    """Return the sources of randomness that follow `seed`, by a checked `vary`."""
    return RANDOM_SOURCES if vary == "all" else tuple((vary or USUAL_VARY).split("+"))
