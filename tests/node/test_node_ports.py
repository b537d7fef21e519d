"""A node on real sockets and a gateway of our own on loopback: what no real gateway does on request."""

import asyncio
import contextlib
import random

import pytest
from tests.core.portmap_gateway import TableGateway
from tests.node.running import run

from peerway import Node
from peerway.core.machine import InterfaceAddress
from peerway.core.portmap import exchange, igd_client
from peerway.core.portmap.report import Protocol, Standing
from peerway.io import interfaces

OUTSIDE = "203.1.113.7"
MAPPING_PORT, SEARCH_PORT = 5351, 1900
PATIENCE_S = 10.0


class LoopbackGateway:
    """The table's answers on real sockets, at an address of loopback that nobody else has."""

    def __init__(self, **table):
        net = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        self.ip, self.node_ip = f"{net}.1", f"{net}.2"
        self.table = TableGateway(external_ip=OUTSIDE, **table)
        self.sent = 0  # bytes of a flood that somebody took
        self.flood = None
        self._stack = contextlib.AsyncExitStack()
        self._serving = set()

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        for port, answer in ((MAPPING_PORT, self._mapping), (SEARCH_PORT, self._search)):
            transport, _ = await loop.create_datagram_endpoint(
                lambda answer=answer: Answering(answer), local_addr=(self.ip, port)
            )
            self._stack.callback(transport.close)
        server = await asyncio.start_server(self._serve, self.ip, 0)
        self._stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        self.table.location = f"http://{self.ip}:{port}/root.xml"
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _mapping(self, data, client):
        return self.table.answer(data, client, asyncio.get_running_loop().time())

    def _search(self, data, client):
        return self.table.search_answer() if "upnp" in self.table.speaks else None

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()
            self._serving.discard(task)

    async def _answer(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            if b"Content-Length: " in request:
                request += await reader.readexactly(int(request.split(b"Content-Length: ")[1].split()[0]))
            if self.flood is not None and request.startswith(b"GET"):
                await self._pour(writer)
            else:
                writer.write(self.table.http(request, asyncio.get_running_loop().time()))
                await writer.drain()

    async def _pour(self, writer):
        for piece in self.flood:
            writer.write(piece)
            await writer.drain()
            self.sent += len(piece)
            await asyncio.sleep(0)


class Answering(asyncio.DatagramProtocol):
    def __init__(self, answer):
        self.answer = answer

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        answer = self.answer(data, addr[0])
        if answer is not None:
            self.transport.sendto(answer, addr)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PEERWAY_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def behind(monkeypatch):
    """Make the gateway the way out of every node."""

    def begin(gateway):
        address = InterfaceAddress("lo", gateway.node_ip, 24, 0, gateway.ip)
        monkeypatch.setattr(interfaces, "interface_addresses", lambda: (address,))

    return begin


async def until(condition):
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def files(home):
    return list(home.iterdir()) if home.exists() else []


@pytest.mark.parametrize("speaks", [("pcp",), ("pmp",), ("upnp",)])
def test_a_node_has_a_port_while_it_is_open_and_a_file_that_says_so(speaks, home, behind):
    async def main():
        async with LoopbackGateway(speaks=speaks) as gateway:
            behind(gateway)
            async with Node() as node:
                await until(lambda: node.port_mappings)
                (mapping,) = node.port_mappings
                assert mapping.external.ip == OUTSIDE
                assert mapping.external in [candidate.address for candidate in node.candidates]
                assert list(gateway.table.rows) == [mapping.external.port]
                assert len(files(home)) == 1
            assert gateway.table.rows == {}
            assert files(home) == []

    run(main())


def test_a_node_that_is_not_to_ask_asks_nobody(home, behind):
    async def main():
        async with LoopbackGateway() as gateway:
            behind(gateway)
            async with Node(portmap=False) as node:
                await asyncio.sleep(0.05)
                assert (node.gateways, node.port_mappings) == ((), ())
            async with Node(relays=["http://127.0.0.1:9"]) as node:
                await asyncio.sleep(0.05)
                assert node.gateways == ()
            assert (gateway.table.asked, gateway.table.calls) == ([], [])

    run(main())


def test_a_gateway_that_no_longer_answers_holds_closing_up_for_little_and_is_remembered(home, behind):
    async def main():
        async with LoopbackGateway(speaks=("pmp",)) as gateway:
            behind(gateway)
            async with Node() as node:
                await until(lambda: node.port_mappings)
                gateway.table.mute = True
                begun = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - begun < 2.5
            assert len(files(home)) == 1
            gateway.table.mute = False
            async with Node() as node:
                await until(lambda: node.port_mappings)
                assert list(gateway.table.rows) == [node.port_mappings[0].external.port]
            assert files(home) == []

    run(main())


def test_cancelled_while_it_closes_a_node_frees_everything(home, behind):
    async def main():
        async with LoopbackGateway(speaks=("pmp",)) as gateway:
            behind(gateway)
            node = Node()
            await node.__aenter__()
            await until(lambda: node.port_mappings)
            gateway.table.mute = True
            closing = asyncio.ensure_future(node.close())
            await asyncio.sleep(0.05)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert len(files(home)) == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_state_directory_that_cannot_be_used_costs_no_mapping(home, behind):
    home.write_text("not a directory")

    async def main():
        async with LoopbackGateway(speaks=("pcp",)) as gateway:
            behind(gateway)
            async with Node() as node:
                await until(lambda: node.port_mappings)
            assert gateway.table.rows == {}

    run(main())


@pytest.fixture
def short_search(monkeypatch):
    """Who has searched for a gateway gives up sooner than in earnest."""
    monkeypatch.setattr(igd_client, "SEARCHES_S", (0.0,))
    monkeypatch.setattr(igd_client, "SEARCH_S", 0.3)


def megabytes(number):
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<root>"
    for _ in range(number * 16):
        yield b"<a>" + b"x" * 65_529 + b"</a>"


def drops():
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X: y\r\n"


@pytest.mark.parametrize("flood", [megabytes(100), drops()], ids=["100 MB", "a head without end"])
@pytest.mark.usefixtures("short_search", "home")
def test_a_description_that_is_a_flood_is_cut_off(flood, behind):
    async def main():
        async with LoopbackGateway(speaks=("upnp",)) as gateway:
            behind(gateway)
            gateway.flood = flood
            async with Node() as node:
                await until(
                    lambda: node.gateways and node.gateways[0].protocols[2].standing is Standing.SILENT
                )
                assert (
                    "bytes" in node.gateways[0].protocols[2].detail
                    or "HTTP" in node.gateways[0].protocols[2].detail
                )
            assert gateway.sent < 16 * 1024 * 1024  # what fits into the sockets' buffers, and no more

    run(main())


@pytest.mark.usefixtures("short_search", "home")
def test_a_description_that_does_not_come_is_not_waited_for(behind, monkeypatch):
    monkeypatch.setattr(exchange, "PATIENCE_S", 0.2)

    async def main():
        async with LoopbackGateway(speaks=("upnp",)) as gateway:
            behind(gateway)
            gateway.flood = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", *[b""] * 10_000_000])
            async with Node() as node:
                await until(
                    lambda: node.gateways and node.gateways[0].protocols[2].standing is Standing.SILENT
                )
                report = node.gateways[0].protocols[2]
                assert (report.protocol, "did not answer within 0.2 s" in report.detail) == (
                    Protocol.UPNP,
                    True,
                )

    run(main())
