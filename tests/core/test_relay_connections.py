"""Which key a node shows to which relay, and how long relays are kept."""

import random

from peerway.core.machine import CloseStream, OpenStream, RelayAddress
from peerway.core.relay.connections import RelayConnections
from peerway.core.relay.url import RelayUrl

HOME = "http://home.test:3340"
OTHER = "http://other.test:3340"
HOME_KEY = b"h" * 32


def made():
    connections = RelayConnections((HOME,), HOME_KEY, random.Random(1))
    for url in (HOME, OTHER):
        connections.keep(RelayUrl.parse(url), 0.0)
    return connections


def events(connections):
    found = []
    while (event := connections.poll_event()) is not None:
        found.append(event)
    return found


def test_only_the_home_relay_sees_the_key_made_from_our_identity():
    connections = made()
    assert connections._keepers[HOME]._fresh_key() == HOME_KEY
    shown = [connections._keepers[OTHER]._fresh_key() for _ in range(3)]
    assert len(set(shown)) == 3
    assert HOME_KEY not in shown


def test_each_relay_is_connected_to_once():
    connections = made()
    connections.keep(RelayUrl.parse(OTHER), 1.0)
    assert [event.url for event in events(connections) if isinstance(event, OpenStream)] == [HOME, OTHER]


def test_what_nobody_needs_is_let_go_and_home_is_not():
    connections = made()
    events(connections)
    connections.forget_all_but({OTHER}, 1.0)
    assert events(connections) == []
    connections.forget_all_but(set(), 2.0)
    assert [type(event) for event in events(connections)] == [CloseStream]
    assert HOME in connections
    assert OTHER not in connections
    assert connections.state(OTHER) == (False, "not in use")


def test_packets_for_a_relay_that_was_let_go_are_dropped_and_counted():
    connections = made()
    connections.send(RelayAddress("http://never.test:3340", b"k" * 32), (b"packet",), 0.0)
    assert connections.drops["relay: not connected to it any more"] == 1
