"""What we use of other packages beyond their public interfaces: each is still what we take it for.

A new version may move any of these without a word. Then a line here says which name has changed, in
which version, and which of our files uses it.
"""

import ast
import copy
import importlib
import importlib.metadata
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PUBLIC = {"_asdict", "_exit", "_replace", "_target_"}
"""Names that begin with an underscore, and are documented."""


@dataclass(frozen=True)
class Private:
    """A private name, and what we rely on."""

    package: str
    name: str
    used_in: str
    check: Callable[[], None]
    """Raises if it isn't so."""


def load(path: str) -> Any:
    """What a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def takes(function: Any, *parameters: str) -> None:
    """Check a function's first parameters by name."""
    assert list(inspect.signature(function).parameters)[: len(parameters)] == [*parameters]


def hydra_overrides() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    loader = load("hydra._internal.config_loader_impl.ConfigLoaderImpl")
    cfg = OmegaConf.create({"optim": {"lr": 0.1}})
    loader._apply_overrides_to_config(OverridesParser.create().parse_overrides(["optim.lr=1"]), cfg)
    assert cfg.optim.lr == 1


def hydra_store() -> None:
    from hydra.core.config_store import ConfigStore

    from actsweep.config import resolve

    own = vars(ConfigStore).get("__deepcopy__")
    assert own is None or own.__module__ == resolve.__name__, "Hydra has a __deepcopy__ of its own"
    resolve.register()
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    assert store.load("schema.yaml").node is not store.load("schema.yaml").node, "no copy any more"


def hydra_callbacks() -> None:
    from omegaconf import OmegaConf

    callbacks = load("hydra._internal.callbacks.Callbacks")
    takes(callbacks, "config")
    made = callbacks(OmegaConf.create({"hydra": {"callbacks": {}}}))
    made.on_job_start(config=OmegaConf.create({}), task_function=print)


def hydra_sweeper() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = load("hydra._internal.core_plugins.basic_sweeper.BasicSweeper")
    takes(sweeper.__init__, "self", "max_batch_size", "params")
    assert sweeper(max_batch_size=None, params={"seed": "0,1"})._parse_config() == ["seed=0,1"]
    parsed = OverridesParser.create().parse_overrides(["act=relu,elu", "seed=0"])
    batches = sweeper.split_arguments(parsed, None)
    assert [list(map(list, jobs)) for jobs in batches] == [
        [["act=relu", "seed=0"], ["act=elu", "seed=0"]]
    ]


def hydra_launcher() -> None:
    from hydra.plugins.launcher import Launcher

    from actsweep.launch.entry import BASIC

    assert issubclass(load(BASIC), Launcher)


def hydra_return() -> None:
    from hydra.core.utils import JobReturn, JobStatus

    died = ValueError()
    assert JobReturn(status=JobStatus.FAILED, _return_value=died)._return_value is died


def omegaconf_nodes() -> None:
    from omegaconf import OmegaConf

    cfg = OmegaConf.create({"group": {"key": None}, "none": None})
    assert cfg._get_node("group")._get_node("key")._is_none()
    assert cfg._get_node("none")._is_none()
    assert cfg._get_node("missing") is None


def submitit_results() -> None:
    job = load("submitit.core.core.Job")
    takes(job.results, "self")
    assert issubclass(load("submitit.core.utils.UncompletedJobError"), Exception)
    source = inspect.getsource(
        importlib.import_module("hydra_plugins.hydra_submitit_launcher.submitit_launcher")
    )
    assert ".results()" in source, "the launcher doesn't ask Job.results any more"


def jax_client() -> None:
    state = load("jax._src.distributed.global_state")
    assert state.client is None  # this process is alone
    client = importlib.import_module("jax._src.lib")._jax.DistributedRuntimeClient
    for name in ("key_value_set", "blocking_key_value_get", "key_value_delete"):
        assert callable(getattr(client, name)), name


def orbax_consistency() -> None:
    execution = importlib.import_module("orbax.checkpoint.experimental.v1._src.saving.execution")
    takes(execution._check_directory_consistency, "directory")
    assert "_check_directory_consistency(" in inspect.getsource(execution).replace("def _check", "")


def tfds_checksum() -> None:
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    assert issubclass(NonMatchingChecksumError, Exception)


def tfds_registration() -> None:
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():
        pass


def tfds_cifar() -> None:
    import tensorflow_datasets as tfds

    for name, batches, keys in (("cifar10", 5, 1), ("cifar100", 1, 2)):
        cls = tfds.builder_cls(name)
        info = cls._cifar_info.fget(cls)
        assert (len(info.train_files), len(info.test_files)) == (batches, 1)
        assert len(info.label_files) == len(info.label_keys) == keys
        assert info.prefix.endswith("/")


def wandb_keys() -> None:
    from wandb.sdk.lib import wbauth

    takes(wbauth.AuthApiKey)
    wanted = {"host", "source", "prompt", "update_session"}
    assert wanted <= inspect.signature(wbauth.authenticate_session).parameters.keys()
    assert "api_key" in dir(wbauth.AuthApiKey)


def wandb_process() -> None:
    from wandb.sdk.lib.service import service_connection, service_process
    from wandb.sdk.wandb_setup import _WandbSetup

    assert "self._connection" in inspect.getsource(_WandbSetup)
    assert "self._proc " in inspect.getsource(service_connection.ServiceConnection)
    assert "self._process " in inspect.getsource(service_process.ServiceProcess)


def wandb_records() -> None:
    from wandb.proto import wandb_internal_pb2

    form: Any = wandb_internal_pb2
    record = form.Record(history=form.HistoryRecord(step=form.HistoryStep(num=7)))
    again = form.Record.FromString(record.SerializeToString())
    assert (again.WhichOneof("record_type"), again.history.step.num) == ("history", 7)
    kinds = {field.name for field in form.Record.DESCRIPTOR.oneofs_by_name["record_type"].fields}
    assert {"history", "run", "exit"} <= kinds


def wandb_settings() -> None:
    from actsweep.loggers.wandb_support import fast_settings

    assert fast_settings("offline").x_transaction_log_flush_interval == 1.0


def workspace_model() -> None:
    from actsweep.report import wandb_dashboard

    wandb_dashboard._quiet()
    import wandb_workspaces.workspaces as ws

    workspace = ws.Workspace(entity="e", project="p", name="n")
    workspace._internal_name = "nw-x-v"
    assert workspace._to_model().name == "nw-x-v"
    assert workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)


USES = [
    Private(
        "hydra-core",
        "ConfigLoaderImpl._apply_overrides_to_config",
        "config/compose.py",
        hydra_overrides,
    ),
    Private("hydra-core", "ConfigStore.__deepcopy__", "config/resolve.py", hydra_store),
    Private("hydra-core", "Callbacks", "launch/hydra.py", hydra_callbacks),
    Private("hydra-core", "JobReturn._return_value", "launch/hydra.py", hydra_return),
    Private("hydra-core", "BasicLauncher", "launch/entry.py", hydra_launcher),
    Private(
        "hydra-core",
        "BasicSweeper._parse_config",
        "hydra_plugins/actsweep_pack/sweeper.py",
        hydra_sweeper,
    ),
    Private(
        "omegaconf",
        "DictConfig._get_node, Node._is_none",
        "config/error_messages.py",
        omegaconf_nodes,
    ),
    Private("submitit", "Job.results", "launch/hydra.py", submitit_results),
    Private("jax", "jax._src.distributed.global_state", "runtime/distributed.py", jax_client),
    Private(
        "orbax-checkpoint",
        "_src execution._check_directory_consistency",
        "runs/checkpoint.py",
        orbax_consistency,
    ),
    Private("tensorflow-datasets", "NonMatchingChecksumError", "data/tfds.py", tfds_checksum),
    Private(
        "tensorflow-datasets",
        "core.registered.skip_registration",
        "data/tfds.py",
        tfds_registration,
    ),
    Private("tensorflow-datasets", "Cifar10._cifar_info", "data/tfds.py", tfds_cifar),
    Private("wandb", "sdk.lib.wbauth", "loggers/wandb_support.py", wandb_keys),
    Private("wandb", "_connection._proc._process", "loggers/wandb_support.py", wandb_process),
    Private("wandb", "Settings(x_…)", "loggers/wandb_support.py", wandb_settings),
    Private("wandb", "proto.wandb_internal_pb2", "loggers/wandb_log.py", wandb_records),
    Private(
        "wandb-workspaces",
        "Workspace._internal_name, _to_model",
        "report/wandb_dashboard.py",
        workspace_model,
    ),
]


def supported(package: str) -> str:
    """The versions that pyproject.toml allows; of what comes with others, the tested one."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    for line in [*declared, *pinned]:
        match = re.fullmatch(r"([\w.-]+)(.*)", line)
        if match and match[1].lower() == package:
            return match[2]
    raise AssertionError(f"{package}: neither in pyproject.toml nor in constraints.txt")


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.package}-{use.name}")
def test_a_private_interface_is_as_it_was(use: Private) -> None:
    assert use.used_in
    versions = supported(use.package)
    try:
        use.check()
    except Exception as error:
        pytest.fail(
            f"{use.name} of {use.package} {importlib.metadata.version(use.package)} has changed "
            f"({type(error).__name__}: {error}): it is known in {versions}, and used in "
            f"src/…/{use.used_in}",
            pytrace=False,
        )


def private_uses(path: Path) -> Iterator[str]:
    """Private names of other packages that a file imports, or takes from what it hasn't made."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and not node.module.startswith("actsweep")
        ):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if any(part.startswith("_") and part != "__future__" for part in whole.split(".")):
                    yield whole
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            yield node.attr


def test_every_private_name_is_checked_here() -> None:
    """Of other packages; a name that one of our own files defines is ours."""
    files = sorted(SRC.rglob("*.py"))
    ours = {
        name
        for path in files
        for name in re.findall(
            r"(?:def |class |self\.|cls\.|^ *)(_[a-z]\w*)\b", path.read_text(), re.M
        )
    }
    known = [(use.used_in, use.name) for use in USES]
    for path in files:
        place = path.relative_to(SRC).as_posix().removeprefix("actsweep/")
        for name in private_uses(path):
            last = name.rpartition(".")[2]
            if last in PUBLIC | ours:
                continue
            assert any(place == file and last in text for file, text in known), f"{path}: {name}"
