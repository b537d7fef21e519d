"""By which ways signals reach a peer: those we were given, and those that its own came by.

A signal proves who made it, not who sent it on. Whoever sees one, at a relay or on the way, can
send copies of it from wherever he likes, and be quicker than the original. So a copy, too, may
show a way to the peer; no way is believed to be the only one; and what is learned never takes
the place of what was given, nor what comes from one place that of another: the relays, each,
and all of UDP.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerway.core.machine import Address, RelayAddress

MAX_GIVEN = 6
LEARNED_PER_PLACE = 2  # the newest; at a foreign relay the peer has another key with each connection
MAX_LEARNED = 6
MAX_ROUTES = MAX_GIVEN + MAX_LEARNED


class Routes:
    """The routes to one peer, those we were given first."""

    def __init__(self) -> None:
        self._given: list[Address] = []
        self._learned: list[Address] = []  # the newest first
        self._of_latest: list[Address] = []  # by which the peer's latest signal came

    def __iter__(self) -> Iterator[Address]:
        yield from self._given
        yield from self._learned

    def give(self, route: Address) -> bool:
        """Take up a route that we were told of; False when it is known or there are too many."""
        if route in self._given or len(self._given) >= MAX_GIVEN:
            return False
        self._given.append(route)
        if route in self._learned:
            self._learned.remove(route)
            return False
        return True

    def learn(self, route: Address) -> bool:
        """The peer seems to be reached by this route; False when that was known."""
        if route in self._given:
            return False
        known = route in self._learned
        if known:
            self._learned.remove(route)
        self._learned.insert(0, route)
        of_place = [other for other in self._learned if _place(other) == _place(route)]
        for other in of_place[LEARNED_PER_PLACE:]:
            self._learned.remove(other)
        del self._learned[MAX_LEARNED:]
        return not known

    def signal_came(self, route: Address) -> None:
        """A signal newer than all before came by this route."""
        self._of_latest = [route]
        self.learn(route)

    def copy_came(self, route: Address) -> bool:
        """The latest signal came once more; whether by a way that this shows to us."""
        of_place = [other for other in self._of_latest if _place(other) == _place(route)]
        if route in of_place or len(of_place) >= LEARNED_PER_PLACE:
            return False
        self._of_latest.append(route)
        self.learn(route)
        return True


def _place(route: Address) -> str:
    return route.url if isinstance(route, RelayAddress) else ""
