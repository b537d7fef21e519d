"""The rounds in which paths that are not proven are probed: how far apart, and how far openers reach.

Both sides count them together, so what depends on the number alone needs no word between them.
Rounds come in series; whatever gives new hope, a move, a pause or a path that failed, begins another.
"""

from __future__ import annotations

OPENER_TTL = 2  # past our own router, short of theirs
OPENER_REACHES = 3  # rounds, each of which opens one router more
ROUNDS_OF_A_SERIES = 2 * OPENER_REACHES
ROUND_EVERY_S = 55.0  # 13 s of pings, and longer than the 30 s in which Linux forgets a stranger's packet
ALL_FORGOTTEN_S = 330.0  # pings, and the 5 minutes for which RFC 4787 has routers remember what nobody uses


def opener_ttls(number: int) -> range:
    """How far the first pings of round `number` get.

    A second NAT of ours, further out, is opened by one that would already reach the router of a peer
    who lives next door. Neither is known to us, so rounds take turns, the likelier first.
    """
    return range(OPENER_TTL, OPENER_TTL + 1 + number % OPENER_REACHES)


def next_series(number: int) -> int:
    """The first round of the series after that of round `number`; it begins with the likelier reach."""
    return (number // ROUNDS_OF_A_SERIES + 1) * ROUNDS_OF_A_SERIES


def series_after_a_loss(number: int, last: int) -> int:
    """The first round of the series that a path which failed in round `number` calls for.

    That is the `last` one that such a path called for, until each reach has had a turn in it: else paths
    that come and go would have all rounds begin with the first reach.
    """
    return last if number - last < OPENER_REACHES else next_series(number)


def due_after_a_loss(now: float, last_round_at: float) -> float:
    """When that begins: once our pings have ended and routers forgot them, but put off only once."""
    latest = last_round_at + 2 * ROUND_EVERY_S
    return min(now + ROUND_EVERY_S, latest) if now < latest else now + ROUND_EVERY_S


def pause_after(number: int) -> float:
    """Seconds from round `number` to the next.

    A router may go on sending what arrives to the address that a side had before it moved, as long
    as anything arrives. So after a whole series in vain both are silent until all is forgotten.
    """
    return ALL_FORGOTTEN_S if next_series(number) == number + 1 else ROUND_EVERY_S
