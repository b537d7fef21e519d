"""When rounds of probing follow each other, and how far they reach."""

from peerway.core.path.rounds import (
    OPENER_REACHES,
    ROUND_EVERY_S,
    due_after_a_loss,
    next_series,
    opener_ttls,
    pause_after,
    series_after_a_loss,
)


def test_a_loss_begins_a_series_in_which_each_reach_has_its_turn_whatever_is_lost_meanwhile():
    series, number, begun = -OPENER_REACHES, 0, []
    for _ in range(8):
        series = series_after_a_loss(number, series)
        number = max(number + 1, series)
        begun.append(number)
    assert begun == [6, 7, 8, 9, 12, 13, 14, 15]


def test_a_loss_is_waited_out_and_puts_a_round_off_but_once():
    assert due_after_a_loss(3.0, last_round_at=0.0) == 3.0 + ROUND_EVERY_S
    assert due_after_a_loss(80.0, last_round_at=0.0) == 2 * ROUND_EVERY_S
    assert due_after_a_loss(200.0, last_round_at=0.0) == 200.0 + ROUND_EVERY_S  # in a pause


def test_a_series_begins_with_the_router_next_to_us():
    assert [next_series(number) for number in range(8)] == [6, 6, 6, 6, 6, 6, 12, 12]
    assert list(opener_ttls(next_series(1))) == [2]


def test_every_reach_has_had_two_turns_before_all_is_silent():
    pauses = [pause_after(number) for number in range(7)]
    assert pauses == [55.0, 55.0, 55.0, 55.0, 55.0, 330.0, 55.0]
    assert [list(opener_ttls(number)) for number in range(6)] == 2 * [[2], [2, 3], [2, 3, 4]]
