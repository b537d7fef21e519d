"""SSDP, the part we need: asking who is an Internet gateway, and reading who answers.

A request goes to the group 239.255.255.250 and, since some networks do not carry multicast, to the
gateway itself. An answer is an HTTP response in a datagram whose LOCATION header names the device's
description (UPnP Device Architecture 1.1, 1.3.2 and 1.3.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from peerway.core.machine import WireError
from peerway.core.portmap.location import Location, parse_location

GROUP = "239.255.255.250"
PORT = 1900
SEARCH_TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
MAX_ANSWER_BYTES = 2048
MAX_HEADERS = 32
ANSWER_WITHIN_S = 1  # devices spread their answers over so many seconds
_STATUS = re.compile(r"HTTP/1\.[01] 200( .*)?")
_SERVER_LIMIT = 64  # characters


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """A device says that it is `target`, and describes itself at `location`. `server` is for people."""

    target: str
    location: Location
    server: str = ""


def build_search(target: str) -> bytes:
    """Ask every device that is `target` to answer."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {GROUP}:{PORT}",
        'MAN: "ssdp:discover"',  # the quotes belong to it
        f"MX: {ANSWER_WITHIN_S}",
        f"ST: {target}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def parse(data: bytes) -> SearchAnswer:
    """The answer of a device; `WireError` for anything else."""
    if len(data) > MAX_ANSWER_BYTES:
        raise WireError("ssdp: too large")
    lines = data.decode("latin-1").replace("\r\n", "\n").split("\n")
    if not _STATUS.fullmatch(lines[0]):
        raise WireError("ssdp: not the answer to a search")
    headers = _headers(lines[1:])
    if "location" not in headers:
        raise WireError("ssdp: an answer without a location")
    server = "".join(c for c in headers.get("server", "") if c.isprintable())[:_SERVER_LIMIT]
    return SearchAnswer(headers.get("st", ""), parse_location(headers["location"]), server)


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        if not line:
            break
        name, colon, value = line.partition(":")
        if not colon or len(headers) >= MAX_HEADERS:
            raise WireError("ssdp: malformed headers")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers
