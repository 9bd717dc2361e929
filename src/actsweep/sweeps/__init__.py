"""One sweep's folder: its plan, what came of each run, its table. No jax."""
