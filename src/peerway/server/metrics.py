"""What the server does, in numbers, for Prometheus; and whether it is well, for whoever restarts it.

A port of its own, which is off unless asked for: what it tells is for the operator alone, and nobody is
asked who he is. Each connection gets one answer and is closed. They are few at a time, and none lasts
long, so that a scraper that hangs costs the relay a socket and a few kilobytes.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version

import h11
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from peerway.server.listen import TcpListener

SCRAPES_AT_ONCE = 8  # further ones are closed at once
SCRAPE_LIMIT_S = 5.0  # for the question and the answer
MAX_REQUEST = 8 << 10  # bytes of a question
READ_BYTES = 4 << 10
BUILD = {"version": version("peerway"), "python": platform.python_version()}  # read once: it is in a file

logger = logging.getLogger("peerway.server")


@dataclass(frozen=True, slots=True)
class Figures:
    """The state of the server at one moment. Drops are counted by reason, "relay: …" or "stun: …"."""

    uptime_s: float
    is_draining: bool
    clients: int
    handshakes: int
    connections: int
    packets_received: int
    packets_forwarded: int
    bytes_received: int
    bytes_sent: int
    stun_answers: int
    drops: dict[str, int]


class MetricsService:
    """Answers `/metrics` and `/healthz` at `listener`, which it owns. Must be made on a running loop."""

    def __init__(self, listener: TcpListener, figures: Callable[[], Figures]) -> None:
        self.port = listener.port
        self._listener = listener
        self._figures = figures
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_ServerCollector(figures))
        self._scrapes: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(), name="metrics accept")

    async def close(self) -> None:
        """Free the port and every connection."""
        self._accepting.cancel()
        for scrape in self._scrapes:
            scrape.cancel()
        await asyncio.wait([self._accepting, *self._scrapes])
        self._listener.close()

    async def _accept(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listener.socket, limit=MAX_REQUEST)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._scrapes) >= SCRAPES_AT_ONCE:
            writer.transport.abort()
            return
        self._scrapes.add(task)
        try:
            with suppress(OSError, TimeoutError, h11.RemoteProtocolError):
                async with asyncio.timeout(SCRAPE_LIMIT_S):
                    await self._answer(reader, writer)
        finally:
            self._scrapes.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST)
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        if not isinstance(event, h11.Request):
            return
        status, kind, body = self._page(event)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Connection", "close")]
        writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
        if event.method != b"HEAD":
            writer.write(body)
        writer.write_eof()
        await writer.drain()
        while await reader.read(READ_BYTES):
            pass  # until the other side has closed, or what we wrote may be lost

    def _page(self, request: h11.Request) -> tuple[int, str, bytes]:
        path = request.target.partition(b"?")[0]
        if request.method not in (b"GET", b"HEAD"):
            return 405, "text/plain", b"GET only\n"
        if path == b"/healthz":
            draining = self._figures().is_draining
            return (503, "text/plain", b"shutting down\n") if draining else (200, "text/plain", b"ok\n")
        if path == b"/metrics":
            accepted = next((value for name, value in request.headers if name == b"accept"), b"")
            encode, kind = choose_encoder(accepted.decode("latin-1"))
            return 200, kind, encode(self._registry)
        return 404, "text/plain", b"nothing here but /metrics and /healthz\n"


class _ServerCollector(Collector):
    """Makes metrics of figures, at the moment somebody asks."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Every metric there is; docs/how-to/run-a-relay.md lists them."""
        now = self._figures()
        yield InfoMetricFamily("peerway_build", "What runs here", BUILD)
        yield GaugeMetricFamily("peerway_uptime_seconds", "Since the server began to listen", now.uptime_s)
        yield GaugeMetricFamily("peerway_relay_clients", "Clients that are in", now.clients)
        yield GaugeMetricFamily(
            "peerway_relay_handshakes", "Connections that are no clients yet", now.handshakes
        )
        for name, text, value in (
            ("relay_connections", "Connections accepted", now.connections),
            ("relay_packets_received", "Packets that clients sent", now.packets_received),
            ("relay_packets_forwarded", "Packets handed on to clients", now.packets_forwarded),
            ("relay_bytes_received", "Bytes read from clients, TLS not counted", now.bytes_received),
            ("relay_bytes_sent", "Bytes written to clients, TLS not counted", now.bytes_sent),
            ("stun_answers", "STUN requests answered", now.stun_answers),
        ):
            yield CounterMetricFamily(f"peerway_{name}", text, value)
        for server, text in (
            ("relay", "What the relay refused or lost"),
            ("stun", "What STUN did not answer"),
        ):
            drops = CounterMetricFamily(f"peerway_{server}_drops", text, labels=["reason"])
            for reason, count in sorted(now.drops.items()):
                if reason.startswith(f"{server}: "):
                    drops.add_metric([reason.partition(": ")[2]], count)
            yield drops
