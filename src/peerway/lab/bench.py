"""What a worker keeps between orders: open sockets, servers, nodes, and how to close them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from peerway.lab.delay import DelayLine
    from peerway.lab.seat import Seat

Endpoint = tuple[str, int]
RECEIVE_SIZE = 65536
INBOX_LIMIT = 10_000  # datagrams a socket keeps for `Count`; what comes after is only counted


class Performs(Protocol):
    """An order: data that a worker decodes, and what to do with it."""

    async def perform(self, bench: Bench) -> msgspec.Struct: ...


class Inbox(asyncio.DatagramProtocol):
    """A UDP socket whose datagrams wait in a queue, with a per-packet TTL on sending."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Endpoint]] = asyncio.Queue(INBOX_LIMIT)
        self.count = 0
        self._socket: socket.socket | None = None

    @classmethod
    async def open(cls, ip: str, port: int) -> Inbox:
        """Bind to an address, port 0 for any."""
        bound = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        if ":" in ip:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind((ip, port))
        _, inbox = await asyncio.get_running_loop().create_datagram_endpoint(cls, sock=bound)
        inbox._socket = bound
        return inbox

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._open().getsockname()[1])

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """Queue a datagram, or only count it when the queue is full."""
        self.count += 1
        with contextlib.suppress(asyncio.QueueFull):
            self.received.put_nowait((data, (str(addr[0]), int(addr[1]))))

    def send(self, data: bytes, to: Endpoint, ttl: int = 0) -> None:
        """Send now or lose it, as UDP may; `ttl` 0 is the system's."""
        bound = self._open()
        six = bound.family == socket.AF_INET6
        option = (
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if six else (socket.IPPROTO_IP, socket.IP_TTL)
        )
        usual = bound.getsockopt(*option)
        try:
            if ttl:
                bound.setsockopt(*option, ttl)
            with contextlib.suppress(OSError):
                bound.sendto(data, to)
        finally:
            if ttl:
                bound.setsockopt(*option, usual)

    def close(self) -> None:
        """Free the port."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

    def _open(self) -> socket.socket:
        if self._socket is None:
            raise RuntimeError("the socket is not open")
        return self._socket


class Bench(contextlib.AsyncExitStack):
    """What stays open between the orders of one worker; leaving it closes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.inboxes: dict[str, Inbox] = {}
        self.delays: list[DelayLine] = []
        self._seat: Seat | None = None

    def inbox(self, name: str) -> Inbox:
        """The socket opened under that name; KeyError where there is none."""
        return self.inboxes[name]

    @property
    def seat(self) -> Seat:
        """The open node; RuntimeError where there is none."""
        if self._seat is None:
            raise RuntimeError("no node is open here")
        return self._seat

    def take_seat(self, seat: Seat) -> None:
        """Keep this node."""
        self._seat = seat

    async def leave_seat(self) -> Seat | None:
        """Close the open node and give it back; None where there is none."""
        seat, self._seat = self._seat, None
        if seat is not None:
            await seat.close()
        return seat
