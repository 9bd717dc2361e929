"""What signals ask for: noted while a pack trains, else obeyed; a second Ctrl-C always is."""

import math
import signal

import pytest

from actsweep.runtime.signals import Interrupted, StopRequest


def test_noted_while_training_and_obeyed_elsewhere() -> None:
    watch = StopRequest()
    watch.check()
    with watch.patience():
        watch._handle(signal.SIGTERM, None)
        watch._handle(signal.SIGTERM, None)  # sent again by impatient schedulers
    assert watch.asked == signal.SIGTERM
    assert 9.0 < watch.left(10.0) <= 10.0
    with pytest.raises(Interrupted, match="SIGTERM"):
        watch.check()
    with pytest.raises(Interrupted):
        StopRequest()._handle(signal.SIGUSR2, None)


def test_a_second_ctrl_c_waits_for_nobody() -> None:
    watch = StopRequest()
    with watch.patience():
        watch._handle(signal.SIGINT, None)
        assert watch.left(10.0) == math.inf  # nobody will kill us
        with pytest.raises(Interrupted):
            watch._handle(signal.SIGINT, None)
    assert watch.left(10.0) == 0.0  # so W&B isn't waited for either
