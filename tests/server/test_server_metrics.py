"""What the server tells Prometheus, read by Prometheus' own parsers, and what scrapers cannot do to it."""

import asyncio
import http.client
import platform
import socket
from importlib.metadata import version

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from tests.server.relay_peer import RelayPeer, run, until
from tests.server.test_server_lifetime import ask_stun

from peerway.core.relay.client import PeerGone
from peerway.server import Server, metrics
from peerway.server.listen import ListenError

loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def local_server(**settings):
    defaults = {"host": "127.0.0.1", "relay_port": 0, "stun_port": 0, "metrics": "127.0.0.1:0"}
    return Server(**defaults | settings)


async def ask(server, path, method="GET", accept=""):
    """Status, content type and body of an answer of the metrics' port."""

    def blocking():
        connection = http.client.HTTPConnection(server.metrics_address, timeout=10)
        try:
            connection.request(method, path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type"), response.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(blocking)


async def scrape(server):
    """The samples that are there, by name and labels."""
    status, _, body = await ask(server, "/metrics")
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(body)
        for sample in family.samples
    }


@loops
def test_what_passed_is_what_is_told(loop):
    async def scenario():
        async with local_server() as server:
            before = await scrape(server)
            assert before["peerway_relay_connections_total",] == 0
            alice, bob = [await RelayPeer.connect(server.url, name) for name in ("alice", "bob")]
            alice.send(bob, b"x" * 100, b"y" * 200)
            bob.send(alice, b"z" * 300)
            await until(lambda: alice.packets() and len(bob.packets()) == 2, "packets")
            nobody = RelayPeer(server.url, "nobody")
            alice.send(nobody, b"is anybody there?")
            await until(lambda: alice.of(PeerGone), "an answer")
            _, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
            await ask_stun("127.0.0.1", server.stun_port)
            await ask_stun("127.0.0.1", server.stun_port)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"not STUN", ("127.0.0.1", server.stun_port))
            await until(lambda: server.drops["stun: not STUN"], "a drop")
            await until(lambda: server._machine.stream_count == 3, "accepted")
            found = await scrape(server)
            writer.transport.abort()
            for peer in (alice, bob):
                await peer.close()
            return before, found

    before, found = run(scenario(), loop)
    assert found["peerway_build_info", platform.python_version(), version("peerway")] == 1
    assert 0 <= before["peerway_uptime_seconds",] < found["peerway_uptime_seconds",]
    assert found["peerway_relay_clients",] == 2
    assert found["peerway_relay_handshakes",] == 1
    assert found["peerway_relay_connections_total",] == 3
    assert found["peerway_relay_packets_received_total",] == 4
    assert found["peerway_relay_packets_forwarded_total",] == 3
    assert 617 < found["peerway_relay_bytes_received_total",] < 2000
    assert 600 < found["peerway_relay_bytes_sent_total",] < 2000
    assert found["peerway_relay_drops_total", "destination not here"] == 1
    assert found["peerway_stun_answers_total",] == 2
    assert found["peerway_stun_drops_total", "not STUN"] == 1


def test_every_reason_for_a_drop_is_a_label():
    async def scenario():
        async with local_server() as server:
            server._machine.drops.update({"queue full": 3, 'with "quotes"': 1})
            server._stun.drops["send: failed"] += 2
            return server.drops, await scrape(server)

    drops, found = run(scenario())
    assert drops == {"relay: queue full": 3, 'relay: with "quotes"': 1, "stun: send: failed": 2}
    assert {key: value for key, value in found.items() if "drops" in key[0]} == {
        ("peerway_relay_drops_total", "queue full"): 3,
        ("peerway_relay_drops_total", 'with "quotes"'): 1,
        ("peerway_stun_drops_total", "send: failed"): 2,
    }


def test_who_asks_for_openmetrics_gets_it():
    async def scenario():
        async with local_server() as server:
            return await ask(server, "/metrics", accept="application/openmetrics-text; version=1.0.0")

    status, kind, body = run(scenario())
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    names = {family.name for family in openmetrics_parser.text_string_to_metric_families(body)}
    assert {"peerway_build", "peerway_relay_clients", "peerway_relay_drops"} <= names


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/healthz", (200, "ok\n")),
        ("HEAD", "/healthz", (200, "")),
        ("GET", "/healthz?verbose", (200, "ok\n")),
        ("POST", "/healthz", (405, "GET only\n")),
        ("GET", "/", (404, "nothing here but /metrics and /healthz\n")),
        ("GET", "/derp", (404, "nothing here but /metrics and /healthz\n")),
    ],
)
def test_every_route_has_its_answer(method, path, answer):
    async def scenario():
        async with local_server() as server:
            status, _, body = await ask(server, path, method)
            return status, body

    assert run(scenario()) == answer


def test_the_relays_own_port_tells_no_metrics():
    async def scenario():
        async with local_server() as server:
            for path in ("/metrics", "/healthz"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.relay_port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n".encode())
                assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
                writer.close()
                await writer.wait_closed()

    run(scenario())


def test_there_is_no_port_for_metrics_unless_asked_for_and_no_surprise(caplog):
    async def scenario():
        async with local_server(metrics=None) as server:
            assert server.metrics_address is None
        assert "metrics" not in caplog.text.replace("test_server_metrics", "")
        async with local_server(metrics="0.0.0.0:0"):
            assert "server metrics-exposed host=0.0.0.0" in caplog.text

    run(scenario())


@pytest.mark.parametrize(
    "place", ["9464", "localhost:9464", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":1"]
)
def test_a_place_to_listen_at_is_an_address_and_a_port(place):
    with pytest.raises(ValueError, match="to listen at"):
        local_server(metrics=place)


def test_a_port_in_use_is_an_error_that_frees_the_rest():
    async def scenario():
        async with local_server() as first:
            with pytest.raises(ListenError, match="cannot listen for metrics at"):
                async with local_server(metrics=first.metrics_address):
                    pass
        async with local_server(metrics="[::1]:0") as server:
            assert server.metrics_address.startswith("[::1]:")

    run(scenario())


async def hung(server):
    """A scraper that asks and never reads."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(server.metrics_address.rpartition(":")[2])
    )
    reader._transport.pause_reading()
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n")
    return writer


@loops
def test_scrapers_that_hang_are_few_and_cost_the_relay_nothing(loop, monkeypatch):
    monkeypatch.setattr(metrics, "SCRAPE_LIMIT_S", 1.0)

    async def scenario():
        async with local_server() as server:
            alice, bob = [await RelayPeer.connect(server.url, name) for name in ("alice", "bob")]
            scrapers = [await hung(server) for _ in range(metrics.SCRAPES_AT_ONCE)]
            await until(lambda: len(server._metrics._scrapes) == 8, "all hang")
            reader, writer = await asyncio.open_connection(*server.metrics_address.split(":"))
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
            alice.send(bob, *[bytes([number]) * 1200 for number in range(200)])
            await until(lambda: len(bob.packets()) == 200, "bob has them")
            await until(lambda: not server._metrics._scrapes, "they are cut off")
            assert (await scrape(server))["peerway_relay_packets_forwarded_total",] == 200
            for each in (*scrapers, writer):
                each.transport.abort()
            for peer in (alice, bob):
                await peer.close()

    run(scenario(), loop)


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000, b""])
def test_what_is_no_question_gets_no_answer(said):
    async def scenario():
        async with local_server() as server:
            reader, writer = await asyncio.open_connection(*server.metrics_address.split(":"))
            writer.write(said)
            writer.write_eof()
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
            writer.transport.abort()

    run(scenario())


def test_while_it_shuts_down_it_is_not_well_and_still_tells():
    async def scenario():
        async with local_server() as server:
            alice = await RelayPeer.connect(server.url, "alice")
            server._machine.drain(0.0)
            status, _, body = await ask(server, "/healthz")
            assert (status, body) == (503, "shutting down\n")
            assert (await scrape(server))["peerway_relay_connections_total",] == 1
            await alice.close()

    run(scenario())
