"""What Python code calls: train, sweep, load, and ask a sweep what the commands answer."""
