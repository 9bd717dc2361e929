"""Comparing groups of numbers; knows nothing of runs."""
