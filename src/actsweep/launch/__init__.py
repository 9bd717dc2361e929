"""How a command becomes jobs: through Hydra, on SLURM, and again after an interruption."""
