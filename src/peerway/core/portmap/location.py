"""Where a UPnP gateway keeps a document: `http://192.168.1.1:5000/rootDesc.xml`, and nothing fancier.

Whoever is on the network can name a location, so it is taken only in this one shape: plain HTTP, a
literal IPv4 address, no user, no fragment. Whether the address is the gateway's is for the caller.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from peerway.core.machine import WireError

HTTP_PORT = 80
MAX_TEXT = 512  # characters
_ABSOLUTE = re.compile(r"http://([0-9.]{7,15})(?::([0-9]{1,5}))?(/[!-~]*)?", re.IGNORECASE)
_LEADS_AWAY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_PATH = re.compile(r"/[!-\"$-~]*")  # printable ASCII, no space, no fragment


@dataclass(frozen=True, slots=True)
class Location:
    """A document at a literal IPv4 address."""

    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """Where to connect to."""
        return f"http://{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.origin + self.path

    def join(self, reference: str) -> Location:
        """What `reference`, found in the document here, points to. `WireError` when it is on another host."""
        if len(reference) > MAX_TEXT:
            raise WireError("upnp: a location is too long")
        if _LEADS_AWAY.match(reference):
            joined = parse_location(reference)
        elif reference.startswith("/"):
            joined = Location(self.host, self.port, _checked_path(reference))
        else:
            directory = self.path[: self.path.rindex("/") + 1]
            joined = Location(self.host, self.port, _checked_path(directory + reference))
        if joined.host != self.host:
            raise WireError(f"upnp: {self.host} points to another host, {joined.host}")
        return _bounded(joined)


def parse_location(text: str) -> Location:
    """The location a text names; `WireError` when it is of any other shape."""
    found = _ABSOLUTE.fullmatch(text) if len(text) <= MAX_TEXT else None
    if found is None:
        raise WireError("upnp: a location is not of the form http://IPv4:port/path")
    host, port, path = found.groups()
    try:
        ip = str(ipaddress.IPv4Address(host))
    except ValueError:
        raise WireError("upnp: a location without an IPv4 address") from None
    number = int(port) if port else HTTP_PORT
    if not 0 < number < 65536:
        raise WireError("upnp: a location with a wrong port")
    return _bounded(Location(ip, number, _checked_path(path or "/")))


def _bounded(location: Location) -> Location:
    """The same: with its port written out, or joined from two parts, it may be longer than either was."""
    if len(str(location)) > MAX_TEXT:
        raise WireError("upnp: a location is too long")
    return location


def _checked_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise WireError("upnp: a location with a wrong path")
    return path
