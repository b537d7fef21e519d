"""What is read on this machine: settings, leases, route tables, addresses; and a relay's web pages."""

import io
from pathlib import Path
from typing import cast

from tests.fuzz.choices import Choices, pieces

from peerway.cli import settings
from peerway.cli.errors import UsageError
from peerway.core.identity import SecretKey
from peerway.core.machine import PeerwayError, UdpAddress
from peerway.core.netcheck.page import PageProbe, PageSeen
from peerway.core.places import parse_advertised, parse_stun_server
from peerway.core.portmap.lease import Lease
from peerway.core.quic.certificate import build_certificate, pem
from peerway.core.relay.access import check_token
from peerway.core.relay.url import RelayUrl
from peerway.io import leases, routes
from peerway.io.tokenfile import TokenFileError, _checked, meant_lines
from peerway.server.admission import AdmissionError, load_node_ids
from peerway.server.certificate import CertificateError, load
from peerway.server.listen import parse_place

KEY = SecretKey(b"\1" * 32)
RELAY = RelayUrl.parse("http://192.0.2.1:3340")


class _File:
    """A file that holds these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_bytes(self) -> bytes:
        return self._data

    def read_text(self, encoding: str) -> str:
        return self._data.decode(encoding)

    def __str__(self) -> str:
        return "a file"


def config_file(data: bytes) -> None:
    """The settings in `config.toml`."""
    try:
        values = settings.load(cast(Path, _File(data)))
    except UsageError:
        return
    known = {command for setting in settings.SETTINGS for command in setting.commands}
    assert values.keys() <= known


def lease_file(data: bytes) -> None:
    """The leases of an earlier run."""
    assert all(isinstance(lease, Lease) for lease in leases._read(io.BytesIO(data)))


def admission_list(data: bytes) -> None:
    """The node ids that a relay admits, and the tokens."""
    try:
        assert all(len(key) == 32 for key in load_node_ids(cast(Path, _File(data))))
    except AdmissionError:
        pass
    try:
        lines = list(meant_lines(data.decode("utf-8", "replace")))
        assert all(check_token(token) for token in _checked(Path("tokens"), lines))
    except TokenFileError:
        pass


def certificate_file(data: bytes) -> None:
    """A server's certificate: anything, and one with some bytes changed."""
    choices = Choices(data)
    der = bytearray(build_certificate(KEY))
    for _ in range(choices.number() % 5):
        der[choices.number(2) % len(der)] = choices.number()
    for text in (data, pem("CERTIFICATE", bytes(der)), pem("CERTIFICATE", data)):
        try:
            certificate = load(cast(Path, _File(text)), cast(Path, _File(b"")))
        except CertificateError:
            continue
        assert certificate.pin in (None, certificate.digest)
        assert certificate.not_after


def route_table(data: bytes) -> None:
    """What netstat and route print."""
    text = data.decode("ascii", "replace")
    for route in (*routes.parse_netstat(text), *routes.parse_route_print(text)):
        assert route.version == 4
        assert route.gateway


def address_text(data: bytes) -> None:
    """Addresses as they are given on the command line."""
    text = data.decode("utf-8", "replace")
    try:
        address = parse_advertised(text)
        assert parse_advertised(str(address)) == address
    except PeerwayError:
        pass
    try:
        host, port = parse_place(text)
        assert parse_place(str(UdpAddress(host, port))) == (host, port)
    except ValueError:
        pass
    try:
        host, port = parse_stun_server(text)
        assert parse_stun_server(str(UdpAddress(host, port))) == (host, port)
    except PeerwayError:
        pass


def netcheck_page(data: bytes) -> None:
    """What a web server, or a captive portal, says to whom looks for a relay."""
    choices = Choices(data)
    cuts, closes, stream = choices.take(4), choices.flag(), choices.rest()
    page = PageProbe(RELAY, "stream", "challenge", 0.0)
    page.stream_opened(0.1)
    for piece in pieces(stream, cuts):
        page.stream_data(piece, 0.2)
    if closes:
        page.stream_closed("", 0.3)
    page.handle_timeout(10.0)
    seen = []
    while (event := page.poll_event()) is not None:
        seen += [event] if isinstance(event, PageSeen) else []
    assert len(seen) == 1
    assert page.poll_deadline() is None


TARGETS = (
    config_file,
    lease_file,
    admission_list,
    certificate_file,
    route_table,
    address_text,
    netcheck_page,
)
