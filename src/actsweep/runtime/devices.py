"""Setup of JAX's devices and of its compilation cache."""

import contextlib
import logging
import os
import warnings
from importlib.metadata import version
from pathlib import Path

import jax

from actsweep.utils.errors import UserError, first_line

log = logging.getLogger(__name__)

CACHE_BYTES = 2**30


def set_up_devices() -> None:
    """Give JAX one device per CPU core, and keep compiled programs in the user's cache folder.

    Call this before anything else uses jax: a backend that has started keeps its devices. The
    environment variables `XLA_FLAGS` and `JAX_COMPILATION_CACHE_DIR` take precedence. No backend is
    started: processes that train together must be joined before.
    """
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        with contextlib.suppress(RuntimeError):  # the backend has started already
            jax.config.update("jax_num_cpu_devices", cores or 1)
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        # Each version has its own: what JAX's cache has had before can't be kept by us.
        folder = Path(home) / "actsweep" / f"xla-{version('actsweep')}"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if getattr(jax.config, "jax_debug_nans", False):
        log.warning("JAX_DEBUG_NANS: is left out, since NaN marks what a run has not measured")
        jax.config.update("jax_debug_nans", False)


def check_platform() -> None:
    """Start JAX's backend.

    Raises:
        UserError: JAX has no device of the platform that is asked for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = getattr(jax.config, "jax_platforms", None)
        raise UserError(
            f"JAX_PLATFORMS={asked}: JAX finds no such device ({first_line(error)}); type "
            "JAX_PLATFORMS=cpu, or install jax for that device"
        ) from error
