"""Activations typed as formulas: what may be typed, and what it is in float64. No jax."""
