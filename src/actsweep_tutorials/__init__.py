"""The source tutorials: their experiments as commands, and what they claim, decided."""
