"""Strict JAX for the whole suite: several CPU devices, no silent promotion, warnings are errors."""

import dataclasses
import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Many tests compile the same program: keep it, also for the processes that tests start.
COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["WANDB_ERROR_REPORTING"] = "false"
os.environ["WANDB_SILENT"] = "true"
os.environ["ACTSWEEP_REPORT"] = "false"  # hundreds of sweeps; tests of the report ask for it

# A shell starts what runs in the background with Ctrl-C ignored, and nohup SIGHUP; tests send both.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

import jax  # noqa: E402
import pytest  # noqa: E402
from selenium import webdriver  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
gc.set_threshold(50_000, 20, 50)  # as in a command: see launch/entry.py
jax.devices()  # before any test could ask for other devices

COMPILED_FAST = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
MACHINERY = {"browser", "cluster", "slurm"}
"""Fixtures that need more than Python's packages, and fail where it is missing."""
SLOW = Path(__file__).with_name("slow_tests.txt")
"""Names of the tests that take long, one a line."""


@pytest.fixture(scope="session", autouse=True)
def _no_programs_on_disk() -> Iterator[None]:
    """Keep no programs of this process, whose code tests patch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actsweep.train.programs.key_of", lambda *_: "")
        yield


@pytest.fixture(autouse=True)
def _programs_of_its_own() -> None:
    """Begin a test without the programs of those before it."""
    if pack := sys.modules.get("actsweep.train.pack"):
        pack._programs_kept.clear()


@pytest.fixture
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within a test, packs of equal programs and sizes share what was set up for the first.

    For tests of what is trained, stopped and gone on with, many times; those that compare programs
    have several of them all the same: alone and in a pack, resident and streamed.
    """
    from actsweep.config import identity
    from actsweep.runs.members import Pack
    from actsweep.train import pack

    prepared: dict[Any, Any] = {}

    def set_up(own: Pack, most: int | None = None, group: Any = None, **_: Any) -> Any:
        anywhere = dataclasses.replace(own.static, paths=None)  # type: ignore[arg-type]
        key = (identity.program_key(anywhere), len(own.members), most)
        if key not in prepared:
            prepared[key] = first_set_up(own, most, group)
        return dataclasses.replace(prepared[key], pack=own)

    first_set_up, clear = pack.set_up, jax.clear_caches
    monkeypatch.setattr(pack, "set_up", set_up)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    yield
    clear()


@pytest.fixture
def compiled_fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile without optimisations, in this process and in those that a test starts.

    For tests of what is typed, written or shown, whose programs take longer to compile than to run;
    those that compare bits, packs or streams have the programs that users have.
    """
    monkeypatch.setenv(*COMPILED_FAST)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs machinery, so that nobody can forget to, and what takes long."""
    slow = {*SLOW.read_text().splitlines()}
    for item in items:
        if MACHINERY & set(getattr(item, "fixturenames", ())) or item.nodeid in slow:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if path is None]:
        raise RuntimeError(f"no {', '.join(missing)}: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(str(programs["chromedriver"]))
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver
