"""How JAX's devices and its compilation cache are set up."""

import contextlib
import os
import warnings
from pathlib import Path

import jax

CACHE_BYTES = 2**30


def set_up_devices() -> None:
    """One JAX device a CPU core, and compiled programs kept in the user's cache folder.

    Must come before anything else touches jax; where the backend has started already, its devices
    stay as they are. `XLA_FLAGS` and `JAX_COMPILATION_CACHE_DIR` of the environment win.
    """
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        with contextlib.suppress(RuntimeError):  # the backend has started
            jax.config.update("jax_num_cpu_devices", cores or 1)
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "actsweep" / "xla"))
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
