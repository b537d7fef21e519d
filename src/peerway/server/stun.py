"""The STUN server on real UDP sockets, one for each address and port.

Sockets that have nothing to tell but an address answer plain requests by the batch; whatever else
comes, and all that comes to sockets that help with behaviour discovery, goes to the machine one by one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from peerway.core.machine import Datagram, Transmit, UdpAddress
from peerway.core.stun.alternates import arrange
from peerway.core.stun.plain import Answers, Questions
from peerway.core.stun.server import StunServer
from peerway.io import clock
from peerway.io.udp_many import QuestionSocket
from peerway.server.listen import bind_all


class StunService:
    """Answers STUN binding requests at each of `hosts`. Must be made on a running loop.

    With `other_port` it has a second port at each (0: any that is free), and with that or with two
    addresses of a family it helps clients to find out how their NAT behaves (RFC 5780).

    Answers leave by the socket that was asked, unless the client wants it otherwise. At an unspecified
    address (0.0.0.0, ::) the system chooses where they come from: on a machine with several addresses
    in one network, name the addresses one by one, or clients will not know an answer for what it is.
    Raises `ListenError`.
    """

    def __init__(self, hosts: Sequence[str], port: int, other_port: int | None = None) -> None:
        self.answers = 0
        self.drops: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[UdpAddress, QuestionSocket] = {}
        self.port = bind_all("STUN", hosts, port, self._bind)[0].port
        self.other_port: int | None = None
        if other_port is not None:
            try:
                self.other_port = bind_all("STUN's other port", hosts, other_port, self._bind)[0].port
            except BaseException:
                self.close()
                raise
        self._machine = StunServer(sockets=list(self._sockets))
        for local, opened in self._sockets.items():
            if self._machine.is_plain_at(local):
                opened.answer_by(self._answer)

    @property
    def offers(self) -> tuple[str, ...]:
        """What an answer can change on request: "address", "port"."""
        alternates = arrange(list(self._sockets)).values()
        found = {
            "address": any(each.other_ip for each in alternates),
            "port": any(each.other_port for each in alternates),
        }
        return tuple(name for name, there in found.items() if there)

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
        opened = QuestionSocket(UdpAddress(host, port), self._receive, self._failed, self._loop, self.drops)
        self._sockets[opened.local] = opened
        return _StunSocket(opened, self._sockets)

    def _answer(self, questions: Questions) -> Answers:
        answers = self._machine.answer_plain(questions, clock.now())
        self.answers += len(answers.answered)
        return answers

    def _receive(self, batch: list[Datagram]) -> None:
        now = clock.now()
        for datagram in batch:
            self._machine.receive(datagram, now)
        while (output := self._machine.poll_transmit()) is not None:
            if isinstance(output, Transmit) and output.local in self._sockets:
                self.answers += len(output.segments)
                self._sockets[output.local].send(output)

    def _failed(self, transmit: Transmit, error: OSError) -> None:
        self.drops["send: failed"] += len(transmit.segments)


class _StunSocket:
    """A bound socket, forgotten when it is closed again."""

    def __init__(self, opened: QuestionSocket, sockets: dict[UdpAddress, QuestionSocket]) -> None:
        self._opened = opened
        self._sockets = sockets
        self.port = opened.local.port

    def close(self) -> None:
        del self._sockets[self._opened.local]
        self._opened.close()
