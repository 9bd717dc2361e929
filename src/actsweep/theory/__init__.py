"""Quantities that can be computed without training: Gaussian integrals, signal propagation."""
