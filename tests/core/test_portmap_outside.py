"""Whether a mapping is really forwarded: STUN servers try it, and a peer may have seen it."""

import pytest
from tests.core.portmap_gateway import EXTERNAL_IP, OUR_PORT, SHARED, Bench, TableGateway

from peerway.core.machine import Datagram, Transmit, UdpAddress
from peerway.core.portmap.report import Protocol
from peerway.core.stun.server import StunServer

MAIN = UdpAddress("203.1.114.10", 3478)
OTHERS = (
    UdpAddress("203.1.114.10", 3479),
    UdpAddress("203.1.114.11", 3478),
    UdpAddress("203.1.114.11", 3479),
)
OUTSIDE = UdpAddress(EXTERNAL_IP, OUR_PORT)


class Outside(Bench):
    """The gateway's NAT shows us at `seen`, lets in answers, and what it `forwards` of what it maps."""

    def __init__(self, gateway=None, *, sockets=(MAIN, *OTHERS), seen=OUR_PORT, forwards=True):
        super().__init__(gateway)
        self.server = StunServer(sockets=sockets)
        self.seen = UdpAddress(EXTERNAL_IP, seen)
        self.forwards = forwards
        self.requests = 0

    def start(self, *interfaces):
        super().start(*interfaces)
        self.mapper.observed({SHARED: {MAIN: self.seen}}, self.now)
        self.drain()
        return self

    def _send(self, output):
        if not isinstance(output, Transmit) or output.local != SHARED:
            super()._send(output)
            return
        self.requests += 1
        self.server.receive(Datagram(output.segments[0], self.seen, output.remote), self.now)
        while (answer := self.server.poll_transmit()) is not None:
            invited = (answer.local, answer.remote) == (output.remote, self.seen)
            row = self.gateway.rows.get(answer.remote.port) if self.forwards else None
            if invited or (row is not None and answer.remote.ip == EXTERNAL_IP):
                self.mapper.stun_received(Datagram(answer.segments[0], answer.local, SHARED), self.now)


@pytest.mark.parametrize("seen", [OUR_PORT, 23456], ids=["the same port", "another port"])
def test_an_answer_from_where_nothing_was_sent_verifies(seen):
    found = Outside(seen=seen).start().run(1)
    assert found.mapping.verified is True
    assert str(found.events[-1]) == (
        f"verified {OUTSIDE} to 192.168.1.2:41641 by PCP at 192.168.1.1: "
        "203.1.114.11:3479, to which nothing was sent, got in"
    )
    assert found.requests == 2


def test_a_mapping_that_does_not_forward_is_made_anew_and_then_otherwise():
    found = Outside(TableGateway(speaks=("pcp", "upnp")), forwards=False).start().run(3.5)
    assert "PortMappingLost" in found.told()
    elsewhere = found.mapping
    assert (elsewhere.protocol, elsewhere.external.port == OUR_PORT) == (Protocol.PCP, False)
    assert list(found.gateway.rows) == [elsewhere.external.port]
    found.run(3.5)
    assert found.mapping.protocol is Protocol.UPNP
    found.run(10)
    assert found.mapping.verified is False
    assert len(found.gateway.rows) == 1
    asked = found.requests
    found.run(580)
    assert found.requests == asked
    found.run(60)
    assert found.requests > asked  # it looks again, and changes nothing
    assert found.mapping.protocol is Protocol.UPNP


def test_a_mapping_that_starts_to_forward_is_believed_again():
    found = Outside(TableGateway(speaks=("pmp",)), forwards=False).start().run(20)
    assert found.mapping.verified is False
    found.forwards = True
    found.run(620)
    assert found.mapping.verified is True


def test_a_repair_that_helps_is_told():
    found = Outside(TableGateway(speaks=("pmp",)), forwards=False).start().run(2)
    found.forwards = True
    found.run(3)
    assert found.mapping.verified is True
    assert found.told()[-4:] == ["PortMappingLost", "PortMappingRemoved", "PortMapped", "PortMappingVerified"]


@pytest.mark.parametrize("sockets", [(), (MAIN,), (MAIN, OTHERS[0])])
def test_a_server_that_cannot_try_leaves_it_open(sockets):
    found = Outside(sockets=sockets, forwards=False).start().run(700)
    assert found.mapping.verified is None


def test_a_server_that_sees_us_elsewhere_is_not_asked():
    found = Outside(forwards=False)
    found.seen = UdpAddress("203.1.113.77", OUR_PORT)
    found.start().run(10)
    assert (found.mapping.verified, found.requests) == (None, 0)


def test_a_peer_that_gets_in_unasked_verifies_where_no_server_could():
    found = Bench().start().run(1)
    found.mapper.came_unasked(found.now)
    found.drain()
    assert found.mapping.verified is True
    found.mapper.came_unasked(found.now)
    found.drain()
    assert found.told().count("PortMappingVerified") == 1


def test_a_peer_does_not_outvote_a_server():
    found = Outside(TableGateway(speaks=("pmp",)), forwards=False).start().run(20)
    found.mapper.came_unasked(found.now)
    assert found.mapping.verified is False


def test_other_stun_messages_are_not_ours():
    found = Outside().start().run(5)
    answer = bytes.fromhex("0101000021 12a442".replace(" ", "")) + bytes(12)
    assert not found.mapper.stun_received(Datagram(answer, MAIN, SHARED), found.now)
