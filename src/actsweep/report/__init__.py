"""Comparing runs: verdicts, the report, its figures. No jax."""
