"""The command `actsweep`: everything that isn't training."""
