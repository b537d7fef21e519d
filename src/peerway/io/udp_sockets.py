"""The UDP sockets of one node, and which of them a `Transmit` leaves by."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable

from peerway.core.machine import Datagram, Transmit, UdpAddress
from peerway.io.address import family_of
from peerway.io.udp import UdpSocket

_FAMILY_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


class UdpSockets:
    """Open sockets by their bound address.

    A `Transmit` leaves by its `local`, else by the longest-open socket of the remote's
    address family; `on_failed` is told in words what could not be sent.
    """

    def __init__(
        self,
        on_datagrams: Callable[[list[Datagram]], None],
        on_failed: Callable[[Transmit, str], None],
        drops: Counter[str],
    ) -> None:
        self._on_datagrams = on_datagrams
        self._on_failed = on_failed
        self._drops = drops
        self._sockets: dict[UdpAddress, UdpSocket] = {}

    def open(self, bind: UdpAddress, interface: str = "", *, shared: bool = False) -> UdpAddress:
        """Open a socket (that sends by `interface`, at a `shared` port) and return its bound address.

        Raises `OSError`.
        """
        opened = UdpSocket(
            bind,
            self._on_datagrams,
            self._send_failed,
            drops=self._drops,
            interface=interface,
            shared=shared,
        )
        self._sockets[opened.local] = opened
        return opened.local

    def close(self, local: UdpAddress) -> None:
        """Close one socket; harmless when there is none."""
        opened = self._sockets.pop(local, None)
        if opened is not None:
            opened.close()

    def close_all(self) -> None:
        """Close every socket."""
        for local in list(self._sockets):
            self.close(local)

    def send(self, transmit: Transmit) -> None:
        """Send by the right socket."""
        chosen = self._choose(transmit)
        if isinstance(chosen, UdpSocket):
            chosen.send(transmit)
        else:
            self._on_failed(transmit, chosen)

    def _choose(self, transmit: Transmit) -> UdpSocket | str:
        if not isinstance(transmit.remote, UdpAddress):
            return f"{transmit.remote} is no address UDP can send to"
        if transmit.local is not None:
            return self._sockets.get(transmit.local) or f"no socket is bound to {transmit.local}"
        family = family_of(transmit.remote.ip)
        for local, opened in self._sockets.items():
            if family_of(local.ip) == family:
                return opened
        return f"there is no {_FAMILY_NAMES[family]} socket"

    def _send_failed(self, transmit: Transmit, error: OSError) -> None:
        self._on_failed(transmit, error.strerror or str(error))
