"""One run's folder: its state, who trains it, its rows, its checkpoints; reading it back."""
