import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.stun.ratelimit import MAX_SOURCES, SourceLimiter


def test_a_new_source_has_a_full_bucket_and_no_more():
    limiter = SourceLimiter(rate_per_s=10, burst=5)
    assert limiter.take(b"a", 3, 100.0) == 3
    assert limiter.take(b"a", 3, 100.0) == 2
    assert limiter.take(b"a", 1, 100.0) == 0


def test_tokens_come_back_at_the_rate_and_up_to_the_burst():
    limiter = SourceLimiter(rate_per_s=10, burst=5)
    assert limiter.take(b"a", 5, 100.0) == 5
    assert limiter.take(b"a", 5, 100.05) == 0
    assert limiter.take(b"a", 5, 100.3) == 3
    assert limiter.take(b"a", 99, 1000.0) == 5


def test_being_refused_costs_nothing():
    limiter = SourceLimiter(rate_per_s=10, burst=5)
    limiter.take(b"a", 5, 100.0)
    for _ in range(1000):
        assert limiter.take(b"a", 1, 100.0) == 0
    assert limiter.take(b"a", 1, 100.1) == 1


def test_sources_do_not_share_a_bucket():
    limiter = SourceLimiter(rate_per_s=10, burst=5)
    assert limiter.take(b"a", 5, 100.0) == 5
    assert limiter.take(b"b", 5, 100.0) == 5


def test_a_clock_that_goes_back_gives_nothing_away():
    limiter = SourceLimiter(rate_per_s=10, burst=5)
    assert limiter.take(b"a", 5, 100.0) == 5
    assert limiter.take(b"a", 5, 99.0) <= 0
    assert limiter.take(b"a", 5, 100.1) == 1


def test_past_the_limit_the_source_longest_unheard_of_is_forgotten():
    limiter = SourceLimiter(rate_per_s=1, burst=5, max_sources=2)
    limiter.take(b"a", 5, 100.0)
    limiter.take(b"b", 5, 100.0)
    limiter.take(b"a", 1, 100.0)
    limiter.take(b"c", 1, 100.0)
    assert len(limiter) == 2
    assert limiter.forgotten == 1
    assert limiter.take(b"a", 1, 100.0) == 0
    assert limiter.take(b"b", 1, 100.0) == 1


def test_a_flood_of_forged_sources_is_held_in_the_table():
    limiter = SourceLimiter(rate_per_s=1, burst=5)
    for number in range(20_000):
        assert limiter.take(number.to_bytes(4, "big"), 1, 100.0) == 1
    assert len(limiter) == MAX_SOURCES == 16_384
    assert limiter.forgotten == 20_000 - 16_384


@pytest.mark.parametrize("uptime", [0.0, 1e4, 1e7])
@given(takes=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 20)), max_size=50))
def test_no_more_than_burst_and_rate_is_ever_granted(uptime, takes):
    limiter = SourceLimiter(rate_per_s=7, burst=10)
    now, granted = uptime, 0
    for pause, wanted in takes:
        now += pause
        given_out = limiter.take(b"a", wanted, now)
        assert 0 <= given_out <= wanted
        granted += given_out
    assert granted <= 10 + 7 * (now - uptime) + 1e-3


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=8), max_size=8), st.floats(0, 2))
def test_taking_one_for_each_is_taking_one_after_the_other(batches, pause):
    at_once, in_turn = (SourceLimiter(rate_per_s=2, burst=3, max_sources=2) for _ in range(2))
    for number, batch in enumerate(batches):
        now = 100 + number * pause
        refused = {index for index, source in enumerate(batch) if not in_turn.take(source, 1, now)}
        assert at_once.take_each(batch, now) == refused
    assert (at_once.forgotten, len(at_once)) == (in_turn.forgotten, len(in_turn))
