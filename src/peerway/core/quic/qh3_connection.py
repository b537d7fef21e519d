"""qh3's connection, with what its public face lacks. The only place that looks inside qh3.

qh3 2.1 does work for every packet that only its qlog would need, a quarter of the time a sender
spends; and it tells of a peer's close only after the draining period (RFC 9000 10.2), which
may be seconds. With another version of qh3 the public face is used instead: slower, and later.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from qh3.quic.connection import NetworkAddress, QuicConnection
from qh3.quic.events import ConnectionTerminated

KNOWN_VERSION = "2.1."


class PlainConnection(QuicConnection):
    """The public face of qh3, of any version."""

    def close_seen(self) -> tuple[ConnectionTerminated, bool] | None:
        """How the connection is being closed, and whether by the peer, before qh3's event says it."""
        return None

    def datagrams(self, now: float) -> list[bytes]:
        """What there is to send now."""
        return [datagram for datagram, _ in self.datagrams_to_send(now)]


class BatchConnection(PlainConnection):
    """The same for the version of qh3 whose inside is known."""

    def close_seen(self) -> tuple[ConnectionTerminated, bool] | None:
        """How the connection is being closed, and whether by the peer, before qh3's event says it."""
        if self._close_event is None:
            return None
        return self._close_event, self._core is None or self._core.state == "draining"

    def datagrams(self, now: float) -> list[bytes]:
        """What there is to send now."""
        if self._core is None:
            return []
        # a loop of Python's own around it takes a tenth of what qh3 takes
        return [transmit[0] for transmit in iter(partial(self._core.poll_transmit, now), None)]

    def receive_gro_buffer(self, buffer: bytes, segment_size: int, addr: NetworkAddress, now: float) -> None:
        """As in qh3, without cutting the buffer into packets."""
        if self._core is None or not self._handshake_complete:
            super().receive_gro_buffer(buffer, segment_size, addr, now)
            return
        self._core.receive_gro_buffer(buffer, segment_size, addr, now)
        self._drain_core()


Connection = BatchConnection if version("qh3").startswith(KNOWN_VERSION) else PlainConnection
