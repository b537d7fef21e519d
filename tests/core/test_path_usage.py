"""Levels of use as time passes."""

from peerway.core.path.usage import Level, Usage


def levels(usage, until):
    """The level after each of its deadlines."""
    out, now = [], 0.0
    while (deadline := usage.deadline(now)) is not None and deadline <= until:
        now = deadline
        if usage.age(now):
            out.append((now, usage.level))
    return out


def test_a_connection_nobody_uses_becomes_quiet_and_then_idle():
    usage = Usage(0.0)
    assert usage.used(1.0) is Level.QUIET
    assert levels(usage, 1000.0) == [(3.0, Level.QUIET), (61.0, Level.IDLE)]
    assert usage.deadline(61.0) is None


def test_use_goes_on_without_a_change():
    usage = Usage(0.0)
    usage.used(1.0)
    assert usage.used(2.5) is None
    assert not usage.age(3.0)
    assert levels(usage, 50.0) == [(4.5, Level.QUIET)]


def test_use_says_what_it_woke():
    usage = Usage(0.0)
    levels(usage, 100.0)
    assert usage.is_idle
    assert usage.used(200.0) is Level.IDLE
    assert usage.level is Level.BUSY
    assert not usage.is_silent(229.0)
    assert usage.is_silent(230.0)


def test_a_sign_of_life_puts_silence_off():
    usage = Usage(0.0)
    assert usage.deadline(0.0) == 30.0
    usage.heard(10.0)
    assert not usage.is_silent(39.9)
    assert usage.is_silent(40.0)


def test_who_is_idle_is_not_silent():
    usage = Usage(0.0)
    levels(usage, 100.0)
    assert not usage.is_silent(100.0)


def test_that_the_peer_is_gone_counts_once_after_each_use():
    usage = Usage(0.0)
    assert usage.verified(1.0) is Level.QUIET
    usage.age(70.0)
    assert usage.verified(71.0) is None
    assert usage.is_idle
    usage.used(72.0)
    usage.age(140.0)
    assert usage.verified(141.0) is Level.IDLE
