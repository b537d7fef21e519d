"""When rounds of probing follow each other, and how far they reach."""

from peerway.core.path.rounds import next_series, opener_ttls, pause_after


def test_a_series_begins_with_the_router_next_to_us():
    assert [next_series(number) for number in range(8)] == [6, 6, 6, 6, 6, 6, 12, 12]
    assert list(opener_ttls(next_series(1))) == [2]


def test_every_reach_has_had_two_turns_before_all_is_silent():
    pauses = [pause_after(number) for number in range(7)]
    assert pauses == [55.0, 55.0, 55.0, 55.0, 55.0, 330.0, 55.0]
    assert [list(opener_ttls(number)) for number in range(6)] == 2 * [[2], [2, 3], [2, 3, 4]]
