"""What train.py and actsweep return to the shell."""

OK, SOME_FAILED, BAD_INPUT, PREEMPTED, INTERRUPTED = 0, 1, 2, 75, 130
