"""The witness knows from probes alone what they prove, and which answers are one too many."""

import pytest
from tests.sim.attack_story import RIGHT_OUTSIDE, Story

from peerway.core.machine import UdpAddress
from peerway.core.probe.message import FULL_SIZE, Ping, Pong
from peerway.sim.network.tap import Moment
from peerway.sim.watch.witness import Witness, read

LINK = 1
SOCKET, OTHER_SOCKET = UdpAddress("192.168.1.2", 41641), UdpAddress("192.168.1.2", 41642)


@pytest.fixture(scope="module")
def left():
    """The left node once it is connected, and what it sent to and got from the right one's address."""
    story = Story()
    sightings = []
    story.world.taps.append(sightings.append)
    story.world.run_until(2.0)
    story.dial()
    story.world.run_for(1.0)
    seen = [sighting for sighting in sightings if sighting.node == "left"]
    came = [s.data for s in seen if s.moment is Moment.ARRIVED and s.source == RIGHT_OUTSIDE]
    went = [s.data for s in seen if s.moment is Moment.SENT and s.destination == RIGHT_OUTSIDE]
    return story.left, came, went


def shown(left, which):
    """A witness who was shown, of what the node got, only the probes for which `which` is true."""
    node, came, went = left
    witness = Witness(node)
    agent = node.machine._links._table[LINK]._agent
    for data in came:
        probe = read(agent._opener._aead, data)
        if probe is not None and which(probe):
            witness.came(RIGHT_OUTSIDE, data)
    for data in went:
        assert witness.went(SOCKET, RIGHT_OUTSIDE, data) == ""
    return witness


def answering(left):
    """A witness, and an answer that the node gave."""
    node, _, went = left
    agent = node.machine._links._table[LINK]._agent
    return Witness(node), next(data for data in went if isinstance(read(agent._sealer._aead, data), Pong))


def test_a_path_is_proven_by_an_answer_and_a_ping(left):
    assert shown(left, lambda probe: True).lacking(LINK, RIGHT_OUTSIDE) == ""


def test_an_answer_alone_proves_nothing(left):
    answered = shown(left, lambda probe: isinstance(probe, Pong))
    assert answered.lacking(LINK, RIGHT_OUTSIDE) == "no ping of the peer came from there"


def test_a_ping_alone_proves_nothing(left):
    pinged = shown(left, lambda probe: isinstance(probe, Ping))
    assert pinged.lacking(LINK, RIGHT_OUTSIDE) == "no ping of full size was answered there"


def test_answers_to_small_pings_prove_nothing(left):
    node, _, went = left
    agent = node.machine._links._table[LINK]._agent
    pings = [ping for data in went if isinstance(ping := read(agent._sealer._aead, data), Ping)]
    small = {ping.token for ping in pings if ping.size < FULL_SIZE}
    assert 0 < len(small) < len(pings)
    tired = shown(left, lambda probe: isinstance(probe, Ping) or probe.token in small)
    assert tired.lacking(LINK, RIGHT_OUTSIDE) == "no ping of full size was answered there"


def test_what_came_from_elsewhere_proves_nothing(left):
    witness = shown(left, lambda probe: True)
    assert witness.lacking(LINK, UdpAddress(RIGHT_OUTSIDE.ip, 7)) == "no ping of full size was answered there"


def test_an_answer_is_given_once(left):
    witness, answer = answering(left)
    assert witness.went(SOCKET, RIGHT_OUTSIDE, answer) == ""
    assert witness.went(SOCKET, RIGHT_OUTSIDE, answer) == f"answered a ping from {RIGHT_OUTSIDE} again"


def test_an_answer_may_be_given_once_by_each_socket(left):
    witness, answer = answering(left)
    assert witness.went(SOCKET, RIGHT_OUTSIDE, answer) == ""
    assert witness.went(OTHER_SOCKET, RIGHT_OUTSIDE, answer) == ""
    assert witness.went(OTHER_SOCKET, RIGHT_OUTSIDE, answer) == f"answered a ping from {RIGHT_OUTSIDE} again"


def test_what_it_cannot_read_is_nothing_to_it(left):
    witness = Witness(left[0])
    for noise in (b"", b"\x05", b"\x05" + bytes(64), b"\x40" + bytes(64)):
        witness.came(RIGHT_OUTSIDE, noise)
        assert witness.went(SOCKET, RIGHT_OUTSIDE, noise) == ""
    assert witness.lacking(LINK, RIGHT_OUTSIDE) == "no ping of full size was answered there"
    assert witness.lacking(99, RIGHT_OUTSIDE) == ""
