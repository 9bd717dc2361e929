"""Training: launch -> pack -> cohort -> loop -> population -> step."""
