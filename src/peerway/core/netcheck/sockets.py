"""The sockets of a check, by what they are for; each is opened when it is first needed."""

from __future__ import annotations

from collections import deque

from peerway.core.machine import CloseSocket, OpenSocket, UdpAddress
from peerway.core.netcheck.knowledge import version_of

MAX_SOCKETS = 64
WILDCARDS = {4: "0.0.0.0", 6: "::"}


class NamedSockets:
    """Asks for sockets, and knows which of those that come is which: they come in the order of asking."""

    def __init__(self) -> None:
        self._open: dict[str, UdpAddress] = {}
        self._errors: dict[str, str] = {}
        self._awaited: dict[int, deque[str]] = {4: deque(), 6: deque()}

    def local(self, name: str) -> UdpAddress | None:
        """The address of a socket that is open."""
        return self._open.get(name)

    def error(self, name: str) -> str:
        """Why a socket cannot be had, "" as long as it can."""
        return self._errors.get(name, "")

    def want(self, name: str, version: int) -> OpenSocket | None:
        """What to ask the driver for, so that the socket comes; None when that is settled already."""
        awaited = [*self._awaited[4], *self._awaited[6]]
        if name in self._open or name in self._errors or name in awaited:
            return None
        if len(self._open) + len(awaited) >= MAX_SOCKETS:
            self._errors[name] = f"{MAX_SOCKETS} are open already"
            return None
        self._awaited[version].append(name)
        return OpenSocket("", WILDCARDS[version])

    def opened(self, local: UdpAddress) -> str | None:
        """The name of a socket that came, None when nobody asked for it."""
        names = self._awaited[version_of(local.ip)]
        if not names:
            return None
        self._open[names[0]] = local
        return names.popleft()

    def failed(self, ip: str, error: str) -> str | None:
        """The name of a socket that cannot be had."""
        names = self._awaited[version_of(ip)]
        if not names:
            return None
        self._errors[names[0]] = error
        return names.popleft()

    def give_back(self) -> list[CloseSocket]:
        """Close all; what is still to come is nobody's."""
        self._awaited = {4: deque(), 6: deque()}
        closing = [CloseSocket(local) for local in self._open.values()]
        self._open.clear()
        return closing
