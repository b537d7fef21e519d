"""Where a relay is: `http://host:port` or `https://host`, with its STUN port and certificate pin.

    http://relay.example.org:3340
    https://relay.example.org?stun=3479&pin=<64 hex digits>

The text form is canonical: two URLs that mean the same relay are the same text, so the text can
stand for the relay in an address (`RelayAddress.url`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit

from peerway.core.machine import PeerwayError

PLAIN_PORT = 3340
TLS_PORT = 443
STUN_PORT = 3478  # RFC 8489 18.6
DEFAULT_PATH = "/derp"
MAX_TEXT = 512  # characters
PIN_DIGITS = 64  # SHA-256 in hexadecimal

_PARSED_KEPT = 256
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_PIN = re.compile(r"[0-9a-f]{64}")
_EXAMPLES = "a good one looks like http://relay.example.org:3340 or https://relay.example.org?pin=SHA256HEX"


class RelayUrlError(PeerwayError, ValueError):
    """Text that is not a relay URL. `text` is what was given, `problem` what is wrong with it."""

    def __init__(self, text: str, problem: str) -> None:
        shown = text if len(text) <= 80 else text[:77] + "..."
        super().__init__(f"not a relay URL: {shown!r}: {problem}; {_EXAMPLES}")
        self.text = text
        self.problem = problem


class _Problem(Exception):
    """What is wrong, on its way to `RelayUrlError`."""


@dataclass(frozen=True, slots=True, order=True)
class RelayUrl:
    """A relay: how to reach it, where its STUN server is, and which certificate it must show.

    `host` is a lower-case name or an IP address in canonical form (no brackets). `pin` is the
    SHA-256 of the server's DER certificate as 64 lower-case hexadecimal digits, None to trust the
    usual authorities. `stun_port` is a UDP port on the same host.
    """

    host: str
    port: int = PLAIN_PORT
    tls: bool = False
    path: str = DEFAULT_PATH
    stun_port: int = STUN_PORT
    pin: str | None = None

    @classmethod
    def parse(cls, text: str) -> RelayUrl:
        """Read a URL as people write it. Raises `RelayUrlError`."""
        try:
            return _parse(text)
        except _Problem as problem:
            raise RelayUrlError(text, str(problem)) from None

    @property
    def authority(self) -> str:
        """Host and, where it is not the scheme's own, port: what HTTP's Host header carries."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme_port = TLS_PORT if self.tls else 80
        return host if self.port == scheme_port else f"{host}:{self.port}"

    def __str__(self) -> str:
        path = "" if self.path == DEFAULT_PATH else self.path
        parameters = []
        if self.stun_port != STUN_PORT:
            parameters.append(f"stun={self.stun_port}")
        if self.pin is not None:
            parameters.append(f"pin={self.pin}")
        query = "?" + "&".join(parameters) if parameters else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.tls and self.port == TLS_PORT else f":{self.port}"
        return f"{'https' if self.tls else 'http'}://{host}{port}{path}{query}"


@lru_cache(maxsize=_PARSED_KEPT)
def _parse(text: str) -> RelayUrl:
    if len(text) > MAX_TEXT:
        raise _Problem(f"it is longer than {MAX_TEXT} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _Problem("it holds spaces or characters that are not printable ASCII")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _Problem(str(error)) from None
    tls = _tls(parts.scheme)
    if "@" in parts.netloc:
        raise _Problem("a relay takes no user name or password")
    if parts.fragment:
        raise _Problem("it has a fragment (#...)")
    if port == 0:
        raise _Problem("port 0 cannot be dialled")
    stun_port, pin = _parameters(parts.query)
    if pin is not None and not tls:
        raise _Problem("a pin needs https: a plain relay shows no certificate")
    if port is None:
        port = TLS_PORT if tls else PLAIN_PORT
    return RelayUrl(_host(parts.hostname or ""), port, tls, _path(parts.path), stun_port, pin)


def _tls(scheme: str) -> bool:
    if scheme not in ("http", "https"):
        raise _Problem("it must start with http:// or https://")
    return scheme == "https"


def canonical_host(text: str) -> str:
    """The canonical form of a host name or IP address. Raises `RelayUrlError` for anything else."""
    try:
        return _host(text.lower())
    except _Problem as problem:
        raise RelayUrlError(text, str(problem)) from None


def _host(host: str) -> str:
    host = host.rstrip(".")
    if not host:
        raise _Problem("the host is missing")
    if "%" in host:
        raise _Problem("an address with a zone means something on one machine only")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if len(host) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise _Problem(f"{host!r} is neither a host name nor an IP address")
    return host


def _path(path: str) -> str:
    if path in ("", "/"):
        return DEFAULT_PATH
    if not _PATH.fullmatch(path):
        raise _Problem(f"the path {path!r} holds characters that must be percent-encoded")
    return path


def _parameters(query: str) -> tuple[int, str | None]:
    stun_port, pin = STUN_PORT, None
    seen: list[str] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in seen:
            raise _Problem(f"{name!r} is given twice")
        seen.append(name)
        if name == "stun":
            stun_port = _stun_port(value)
        elif name == "pin":
            pin = _pin(value)
        else:
            raise _Problem(f"unknown parameter {name!r} (known: stun, pin)")
    return stun_port, pin


def _stun_port(value: str) -> int:
    if not value.isascii() or not value.isdecimal() or len(value) > 5 or not 1 <= int(value) <= 65535:
        raise _Problem(f"stun={value} is not a port (1 to 65535)")
    return int(value)


def _pin(value: str) -> str:
    digits = value.replace(":", "").lower()
    if not _PIN.fullmatch(digits):
        raise _Problem(f"the pin is not {PIN_DIGITS} hexadecimal digits (the SHA-256 of the certificate)")
    return digits
