"""Promise: a signal and a STOP file mean the same, and nothing is left behind when the watch ends."""

import os
import signal

import pytest

from training.stop import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_a_request_and_no_death(tmp_path, number):
    before = signal.getsignal(number)
    with StopRequest(tmp_path, watches_file=True) as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()
    assert signal.getsignal(number) is before


def test_file_is_a_request_to_the_rank_that_watches_it(tmp_path):
    with StopRequest(tmp_path, watches_file=True) as watching, StopRequest(tmp_path, watches_file=False) as other:
        (tmp_path / "STOP").touch()
        assert watching.requested()
        assert not other.requested()


def test_file_that_stopped_the_run_before_does_not_stop_this_one(tmp_path):
    (tmp_path / "STOP").touch()
    with StopRequest(tmp_path, watches_file=True) as stop:
        assert not stop.requested()
    assert not (tmp_path / "STOP").exists()


def test_second_interrupt_from_the_keyboard_leaves_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt), StopRequest(tmp_path, watches_file=True):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
