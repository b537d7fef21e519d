"""A relay client on a real socket, driven by the least there can be of asyncio."""

import asyncio
import itertools
import random
import ssl
import time

import uvloop

from peerway.core.machine import CloseStream
from peerway.core.relay.client import PacketsReceived, RelayClient, RelayDisconnected
from peerway.core.relay.url import RelayUrl

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run(coroutine, loop="asyncio"):
    """Run a test's coroutine on a loop of its own; nothing may be left over."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(_with_timeout(coroutine))


async def _with_timeout(coroutine):
    problems = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with asyncio.timeout(20):
        result = await coroutine
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == []
    assert problems == []
    return result


async def until(condition, what):
    """Look again until it is so; the limit is that of the whole test."""
    for _ in itertools.count():
        if condition():
            return
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            raise AssertionError(f"waited in vain for {what}") from None


def trusting_client():
    """TLS for a client that believes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class RelayPeer(asyncio.Protocol):
    """Drives one `RelayClient`; `events` is what it said."""

    def __init__(self, url, seed):
        self.url = RelayUrl.parse(url)
        self.client = RelayClient(self.url, "s", random.Random(seed).randbytes(32), random.SystemRandom())
        self.key = self.client.public_key
        self.events = []
        self.transport = None
        self.certificate = None
        self.tls_version = None

    @classmethod
    async def connect(cls, url, seed, local=None, context=None):
        """Connect and wait until the relay knows us."""
        peer = await cls(url, seed).open(local, context)
        await until(lambda: peer.client.connected, "connected to the relay")
        return peer

    async def open(self, local=None, context=None):
        if self.url.tls and context is None:
            context = trusting_client()
        await asyncio.get_running_loop().create_connection(
            lambda: self, self.url.host, self.url.port, ssl=context, local_addr=local
        )
        return self

    def send(self, peer, *packets):
        self.client.send_packet(peer.key, packets, time.monotonic())
        self.drain()

    def packets(self):
        return [p for event in self.events if isinstance(event, PacketsReceived) for p in event.packets]

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def gone(self):
        return bool(self.of(RelayDisconnected))

    async def close(self):
        if self.transport is not None:
            self.transport.abort()
        await until(lambda: self.transport is None, "connection freed")

    def connection_made(self, transport):
        self.transport = transport
        tls = transport.get_extra_info("ssl_object")
        self.certificate = tls.getpeercert(binary_form=True) if tls else None
        self.tls_version = tls.version() if tls else None
        self.client.stream_opened(time.monotonic())
        self.drain()

    def data_received(self, data):
        self.client.stream_data(data, time.monotonic())
        self.drain()

    def connection_lost(self, exc):
        self.transport = None
        self.client.stream_closed(str(exc) if exc else "", time.monotonic())
        self.drain()

    def pause_writing(self):
        self.client.stream_paused(time.monotonic())

    def resume_writing(self):
        self.client.stream_resumed(time.monotonic())
        self.drain()

    def drain(self):
        while (output := self.client.poll_transmit()) is not None:
            self.transport.write(output.data)
        while (event := self.client.poll_event()) is not None:
            self.events.append(event)
            if isinstance(event, CloseStream) and self.transport is not None:
                self.transport.close()
