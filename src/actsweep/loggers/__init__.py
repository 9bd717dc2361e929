"""Where measurements go beside the metrics file: W&B, the console. IO, no arithmetic."""
