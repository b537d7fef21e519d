"""What the relay has taken in when it is told to end, it still delivers."""

import asyncio
import itertools

import pytest
from tests.server.relay_peer import RelayPeer, run, until

from peerway.core.relay.client import RelayRestarting
from peerway.server import Server

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
transports = pytest.mark.parametrize("tls", [None, "self-signed"])
STREAMERS = 6
PACKET = 1200


async def stream(peer, to):
    """Send numbered packets for as long as there is a connection and the socket takes them."""
    for number in itertools.count():
        if peer.gone:
            return
        await until(lambda: not peer.paused or peer.gone, "room")
        peer.send(to, *[number.to_bytes(8, "big") + bytes(PACKET - 8)] * 20)
        await asyncio.sleep(0)


async def read_on_once_it_ends(server, peers):
    await until(lambda: server._machine.is_draining, "the end")
    for peer in peers:
        peer.transport.resume_reading()


class Streamer(RelayPeer):
    paused = False

    def pause_writing(self):
        self.paused = True
        super().pause_writing()

    def resume_writing(self):
        self.paused = False
        super().resume_writing()


@loops
@transports
def test_clients_that_stream_get_everything_that_was_taken_in_before_the_end(loop, tls):
    async def scenario():
        server = Server(host="127.0.0.1", relay_port=0, stun_port=0, tls=tls)
        async with server:
            peers = [await Streamer.connect(server.url, number) for number in range(STREAMERS)]
            sending = [
                asyncio.create_task(stream(peer, peers[number - 1])) for number, peer in enumerate(peers)
            ]
            await until(lambda: all(len(peer.packets()) > 2000 for peer in peers), "a stream")
        await asyncio.gather(*sending)
        forwarded, lost = server._machine.packets_forwarded, server.drops["relay: queue full"]
        delivered = sum(len(peer.packets()) for peer in peers)
        for peer in peers:
            assert len(peer.of(RelayRestarting)) == 1
            await peer.close()
        assert delivered == forwarded - lost

    run(scenario(), loop)


@loops
@transports
def test_clients_that_lag_behind_get_everything_that_was_taken_in_before_the_end(loop, tls):
    async def scenario():
        server = Server(host="127.0.0.1", relay_port=0, stun_port=0, tls=tls)
        async with server:
            peers = [await Streamer.connect(server.url, number) for number in range(STREAMERS)]
            for peer in peers:
                peer.transport.pause_reading()
            sending = [
                asyncio.create_task(stream(peer, peers[number - 1])) for number, peer in enumerate(peers)
            ]
            sessions = server._machine._sessions.values()
            await until(lambda: all(len(session._outbox) > 100 for session in sessions), "a queue")
            reading = asyncio.create_task(read_on_once_it_ends(server, peers))
        await asyncio.gather(reading, *sending)
        forwarded, lost = server._machine.packets_forwarded, server.drops["relay: queue full"]
        await until(lambda: all(peer.gone for peer in peers), "gone")
        delivered = sum(len(peer.packets()) for peer in peers)
        assert [len(peer.of(RelayRestarting)) for peer in peers] == [1] * STREAMERS
        for peer in peers:
            await peer.close()
        # what was lost may have been a word of the server's own, such as a keep-alive
        assert forwarded - lost <= delivered <= forwarded

    run(scenario(), loop)
