"""What a signal asks of the solver."""

import signal

import pytest

from blobnet.cli.signals import Signals
from blobnet.solvers import Action


def asked(signals):
    return signals.action(None)


@pytest.mark.parametrize(
    ("number", "action"),
    [
        (signal.SIGINT, Action.STOP),
        (signal.SIGHUP, Action.SNAPSHOT),
        (signal.SIGTERM, Action.SNAPSHOT | Action.STOP),
    ],
)
def test_default_effects_are_asked_for_once(number, action):
    with Signals("stop", "snapshot") as signals:
        assert asked(signals) == Action.NONE
        signal.raise_signal(number)
        assert asked(signals) == action
        assert asked(signals) == Action.NONE


@pytest.mark.parametrize(
    ("effect", "action"), [("stop", Action.STOP), ("snapshot", Action.SNAPSHOT), ("none", Action.NONE)]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_chosen_effects(number, effect, action):
    with Signals(effect, effect) as signals:
        signal.raise_signal(number)
        assert asked(signals) == action


def test_signals_add_up_until_they_are_asked_for():
    with Signals("stop", "snapshot") as signals:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
        assert asked(signals) == Action.SNAPSHOT | Action.STOP


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_interrupts_at_once_when_a_stop_is_under_way(first):
    with Signals("stop", "snapshot") as signals:
        signal.raise_signal(first)
        asked(signals)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_may_snapshot_again_and_again():
    with Signals("snapshot", "none") as signals:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            assert asked(signals) == Action.SNAPSHOT


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Signals("stop", "snapshot"):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
