"""What QUIC sent last is sent again where it may have been lost, and nowhere else."""

from peerway.core.flight import Flight
from peerway.core.machine import RelayAddress, Transmit, UdpAddress

DIRECT = (UdpAddress("0.0.0.0", 1), UdpAddress("203.0.113.7", 1))
OTHER = (UdpAddress("0.0.0.0", 1), UdpAddress("203.0.113.8", 1))
RELAY = (None, RelayAddress("http://relay.test", b"k" * 32))


def batch(number, size=1200):
    return Transmit((bytes([number]) * size,), UdpAddress("192.0.2.1", 1))


def sent(flight):
    """First byte and remote address of each datagram."""
    out = []
    while (transmit := flight.poll_transmit()) is not None:
        out.append((transmit.segments[0][0], transmit.remote))
    return out


def flying(*batches, established=True):
    flight = Flight()
    if established:
        flight.established()
    for number in batches:
        flight.send(batch(number), (DIRECT,), 1.0)
    sent(flight)
    return flight


def test_a_batch_goes_by_every_way_it_is_given():
    flight = Flight()
    flight.send(batch(7), (DIRECT, RELAY), 1.0)
    assert sent(flight) == [(7, DIRECT[1]), (7, RELAY[1])]


def test_what_a_failed_path_may_have_swallowed_goes_by_the_next():
    flight = flying(1, 2, 3)
    flight.path_failed()
    flight.switched(OTHER, 1.3)
    assert sent(flight) == [(2, OTHER[1]), (3, OTHER[1])]
    flight.switched(DIRECT, 1.4)
    assert sent(flight) == []


def test_a_path_that_failed_and_works_again_is_sent_the_same_once():
    flight = flying(1, 2)
    assert not flight.has_failed
    flight.path_failed()
    assert flight.has_failed
    flight.switched(DIRECT, 1.3)
    assert not flight.has_failed
    assert sent(flight) == [(1, DIRECT[1]), (2, DIRECT[1])]


def test_what_is_old_is_left_to_quic():
    flight = flying(1)
    flight.path_failed()
    flight.switched(OTHER, 6.1)
    assert sent(flight) == []


def test_a_switch_to_a_better_path_sends_nothing_again():
    flight = flying(1)
    flight.switched(OTHER, 1.1)
    assert sent(flight) == []


def test_a_handshake_that_got_no_answer_is_repeated_at_the_first_path():
    flight = flying(1, established=False)
    flight.switched(RELAY, 1.4)
    assert sent(flight) == []
    flight.switched(RELAY, 1.5)
    assert sent(flight) == [(1, RELAY[1])]


def test_acknowledgements_do_not_push_a_handshake_out():
    flight = flying(1, established=False)
    for number in range(2, 9):
        flight.send(batch(number, size=90), (RELAY,), 1.1)
    sent(flight)
    flight.switched(RELAY, 3.0)
    assert sent(flight) == [(1, RELAY[1])]


def test_goodbye_goes_by_all_other_ways_at_once_and_by_all_again_and_again():
    flight = flying(1, 2)
    flight.part(DIRECT, (RELAY, DIRECT), 10.0)
    assert sent(flight) == [(2, RELAY[1])]
    times = []
    while (deadline := flight.poll_deadline()) is not None:
        assert flight.is_parting
        times.append(round(deadline.at, 6))
        flight.handle_timeout(deadline.at)
        assert sent(flight) == [(2, DIRECT[1]), (2, RELAY[1])]
    assert times == [10.1, 10.3, 10.9, 12.7]
    assert not flight.is_parting


def test_goodbye_is_not_said_by_a_socket_that_is_gone():
    flight = flying(1)
    flight.part(DIRECT, (RELAY,), 1.0)
    assert sent(flight) == [(1, RELAY[1])]
    flight.sockets_changed(())
    flight.handle_timeout(1.1)
    assert sent(flight) == [(1, RELAY[1])]
