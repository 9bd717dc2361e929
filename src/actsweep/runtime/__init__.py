"""Devices, signals and processes."""
