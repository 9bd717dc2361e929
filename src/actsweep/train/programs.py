"""Compiled programs, kept on disk: a pack whose programs are there neither traces nor lowers.

JAX's own cache keeps what XLA compiled, and asks for it by the traced and lowered program, which
takes Python longer to make than to load what it leads to. Here a pack's programs lie in one file
that is found by everything that shapes them.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import pickle
import platform
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import psutil
from jax.experimental import serialize_executable

from actsweep.config import resolve
from actsweep.config.identity import computation_key, targets
from actsweep.config.schema import RunConfig
from actsweep.nn.network import Task
from actsweep.utils.errors import first_line
from actsweep.utils.files import write_atomic

log = logging.getLogger(__name__)

KEPT_BYTES = 2**30
VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy")
DIGEST = hashlib.sha256
SIZE = DIGEST().digest_size
KEY = re.compile(f"[0-9a-f]{{{2 * SIZE}}}")
CACHE_HIT = "/jax/compilation_cache/cache_hits"
LAPACK = b"lapack_"
"""Begins the names of the functions of LAPACK that a program calls."""
OF_A_JOB = ("JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID")
CLOCK = 2.0  # seconds by which the start of a process may be wrong

_hits = threading.local()


class Program:
    """A jitted function, and what of it has been loaded from disk: that is called if it fits.

    Attributes:
        jitted: traces, lowers and compiles itself, for arguments of any shape.
        loaded: executables by the shapes of their arguments.
    """

    def __init__(self, jitted: Callable) -> None:
        self.jitted = jitted
        self.loaded: dict[Any, Callable] = {}

    def __call__(self, *args: Any) -> Any:
        if self.loaded and (loaded := self.loaded.get(_shapes(args))):
            try:
                return loaded(*args)
            except (TypeError, ValueError):  # elsewhere on the devices, say; nothing has run
                del self.loaded[_shapes(args)]
        return self.jitted(*args)

    def has(self, *args: Any) -> bool:
        """Return whether an executable is loaded for arguments of these shapes."""
        return _shapes(args) in self.loaded

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """Trace and lower the function for arguments, or their shapes."""
        lowered: jax.stages.Lowered = self.jitted.lower(*args)  # type: ignore[attr-defined]
        return lowered


@dataclass(frozen=True)
class Kept:
    """Programs of a pack as they lie on disk.

    Attributes:
        need: bytes that they need on each device (`memory.compile_all`).
        state: shapes of the pack's state, a `types.State`.
        programs: by the name of a program and the shapes of its arguments, each serialised.
    """

    need: int
    state: Any
    programs: Mapping[Any, Any]


def key_of(
    config: RunConfig, task: Task, how: str, callbacks: Mapping[str, Any], arguments: Any
) -> str:
    """Return a digest of all that shapes a pack's programs, or "" where they mustn't be kept.

    Code of the user's own can't be known by a digest: it may import what it likes. Neither can code
    that was changed after this process began, since it may have been imported before.

    Args:
        config: the static config of a pack.
        task: shapes and length.
        how: `map` or `vmap`.
        callbacks: those that are built from the config.
        arguments: arrays and shapes, with their devices, that the programs take.
    """
    tried = jax.default_backend() == "cpu" and jax.process_count() == 1
    if not tried or targets(resolve.to_dict(config)) or _folder() is None:
        return ""
    sources = _sources()
    if not sources:
        return ""
    settings = {k: str(v) for k, v in jax.config.values.items() if "cache" not in k}
    environment = {
        k: v
        for k, v in os.environ.items()
        if k.startswith(("XLA_", "JAX_", "TF_")) and k not in OF_A_JOB and "CACHE" not in k
    }
    leaves, tree = jax.tree.flatten(arguments)
    of = [
        *(computation_key(config), asdict(task), how, [*callbacks], sources, _machine()),
        *(settings, environment, str(tree)),
        [(leaf.shape, str(leaf.dtype), str(leaf.sharding)) for leaf in leaves],
    ]
    return DIGEST(json.dumps(of, sort_keys=True, default=repr).encode()).hexdigest()


def load(key: str, devices: Sequence[jax.Device]) -> Kept | None:
    """Return the programs that are kept under a key, ready to be called; None if there are none.

    They run on `devices`, the mesh for which they were compiled: with others XLA ends the process.
    A file that is damaged, or that this jaxlib can't load, is removed, with a line.
    """
    folder = _folder()
    if not key or folder is None:
        return None
    path = folder / key
    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        if DIGEST(content[SIZE:]).digest() != content[:SIZE]:
            raise ValueError("its content isn't what was written")
        kept: Kept = pickle.loads(content[SIZE:])
        if LAPACK in content:
            _link_lapack()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            load = functools.partial(
                serialize_executable.deserialize_and_load, execution_devices=devices
            )
            futures = {which: pool.submit(load, *s) for which, s in kept.programs.items()}
        programs = {which: future.result() for which, future in futures.items()}
    except Exception as error:
        log.warning("%s: is left out and compiled again: %s", path, first_line(error))
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the last that will be removed
    return Kept(kept.need, kept.state, programs)


@functools.cache
def _link_lapack() -> None:
    """Have jaxlib find the functions of LAPACK, as when a program that calls one is lowered.

    A loaded program that calls one before that, for an orthogonal kernel, ends the process.
    """
    jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), jnp.float32))


def compile_lowered(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, bool]:
    """Compile a program; return it, and whether it was new to JAX's cache."""
    _listen()
    before = getattr(_hits, "count", 0)
    compiled = lowered.compile()
    return compiled, getattr(_hits, "count", 0) == before


@functools.cache
def _listen() -> None:
    """Have JAX count what a thread takes from its cache."""

    def count(event: str, **_: Any) -> None:
        if event == CACHE_HIT:
            _hits.count = getattr(_hits, "count", 0) + 1

    jax.monitoring.register_event_listener(count)


def save(key: str, need: int, state: Any, compiled: Mapping[Any, jax.stages.Compiled]) -> None:
    """Keep compiled programs under a key; where that can't be done, do nothing.

    What hasn't been loaded for longest is removed until all together take at most `KEPT_BYTES`.

    Args:
        key: as `key_of` makes it.
        need, state: as `Kept` has them.
        compiled: by the name of a program and the shapes of its arguments, what this process has
            compiled itself: on CPUs what comes from JAX's cache can't be written again.
    """
    if not key or not compiled:
        return
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    try:
        programs = {w: serialize_executable.serialize(each) for w, each in compiled.items()}
        content = pickle.dumps(Kept(need, shapes, programs))
    except Exception as error:  # an executable of a kind that can't be written
        log.debug("compiled programs aren't kept: %s", first_line(error))
        return
    folder = _folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, KEPT_BYTES - len(content))
        write_atomic(folder / key, [DIGEST(content).digest(), content], durable=False)


def shapes_of(*arguments: Any) -> Any:
    """Return what tells arguments of a program from others: the shapes and types of all arrays."""
    return _shapes(arguments)


def _shapes(arguments: tuple) -> tuple:
    leaves = jax.tree.leaves(arguments)
    return tuple((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves)


def _make_room(folder: Path, most: int) -> None:
    files = []
    for path in filter(lambda path: KEY.fullmatch(path.name), folder.iterdir()):  # ours alone
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size


def _folder() -> Path | None:
    """Return the folder of programs, in that of JAX's cache; None if that is none on this disk."""
    folder = str(jax.config.values["jax_compilation_cache_dir"] or "")
    if not folder or "://" in folder or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    return Path(folder) / "actsweep-programs"


def _sources() -> str:
    """Return a digest of our code, or "" if some of it may be younger than this process."""
    begun = psutil.Process().create_time() - CLOCK
    root = Path(__file__).parents[1]
    digest = DIGEST()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
        if path.stat().st_mtime >= begun:
            return ""
    return digest.hexdigest()


@functools.cache
def _machine() -> list[str]:
    """Return what an executable depends on beside the program: versions, processor, devices."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    first = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    model = [v for k, v in sorted(first.items()) if k.split()[0] in ("model", "flags", "Features")]
    devices = jax.devices()
    return [
        *(f"{name} {version(name)}" for name in VERSIONS),
        *(platform.python_version(), platform.machine(), *model),
        *(devices[0].client.platform_version, str([(d.id, d.device_kind) for d in devices])),
    ]
