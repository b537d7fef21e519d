"""The STUN server on real UDP sockets, one for each address."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from peerway.core.machine import Datagram, Transmit, UdpAddress
from peerway.core.stun.server import StunServer
from peerway.io import clock
from peerway.io.udp import UdpSocket
from peerway.server.listen import bind_all


class StunService:
    """Answers STUN binding requests at each of `hosts`. Must be made on a running loop.

    Answers leave by the socket that was asked. At an unspecified address (0.0.0.0, ::) the system
    chooses where they come from: on a machine with several addresses in one network, name the
    addresses one by one, or clients will not know an answer for what it is. Raises `ListenError`.
    """

    def __init__(self, hosts: Sequence[str], port: int) -> None:
        self.drops: Counter[str] = Counter()
        self._machine = StunServer()
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[UdpAddress, UdpSocket] = {}
        bound = bind_all("STUN", hosts, port, self._bind)
        self.port = bound[0].port

    @property
    def dropped(self) -> Counter[str]:
        """What was not answered, or lost on its way out, by reason."""
        return self._machine.drops + self.drops

    def close(self) -> None:
        """Free the sockets."""
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    def _bind(self, host: str, port: int) -> _StunSocket:
        opened = UdpSocket(UdpAddress(host, port), self._receive, self._failed, self._loop, self.drops)
        self._sockets[opened.local] = opened
        return _StunSocket(opened, self._sockets)

    def _receive(self, batch: list[Datagram]) -> None:
        now = clock.now()
        for datagram in batch:
            self._machine.receive(datagram, now)
        while (output := self._machine.poll_transmit()) is not None:
            if isinstance(output, Transmit) and output.local in self._sockets:
                self._sockets[output.local].send(output)

    def _failed(self, transmit: Transmit, error: OSError) -> None:
        self.drops["send: failed"] += len(transmit.segments)


class _StunSocket:
    """A bound socket, forgotten when it is closed again."""

    def __init__(self, opened: UdpSocket, sockets: dict[UdpAddress, UdpSocket]) -> None:
        self._opened = opened
        self._sockets = sockets
        self.port = opened.local.port

    def close(self) -> None:
        del self._sockets[self._opened.local]
        self._opened.close()
