"""What gateways say: NAT-PMP, PCP, SSDP, UPnP and the HTTP that it goes by."""

from tests.fuzz.choices import Choices, pieces

from peerway.core.machine import WireError
from peerway.core.portmap import igd, natpmp, pcp, ssdp
from peerway.core.portmap.exchange import HttpAnswered, HttpExchange, HttpFailed, HttpRequest
from peerway.core.portmap.location import Location, parse_location

HERE = Location("192.168.1.1", 5000, "/root/desc.xml")
ACTIONS = ("AddPortMapping", "GetExternalIPAddress", "GetSpecificPortMappingEntry", "AddAnyPortMapping")


def natpmp_answer(data: bytes) -> None:
    """An answer by NAT-PMP."""
    try:
        answer = natpmp.parse(data)
    except WireError:
        return
    assert answer.epoch >= 0
    if isinstance(answer, natpmp.Failure):
        assert natpmp.meaning(answer.result)


def pcp_answer(data: bytes) -> None:
    """An answer by PCP."""
    try:
        answer = pcp.parse(data)
    except WireError:
        return
    if isinstance(answer, pcp.Failure):
        assert pcp.meaning(answer.result)
    if isinstance(answer, pcp.Mapped):
        pcp.build_map(
            "192.0.2.1", answer.nonce, answer.internal_port, answer.external_port, answer.external_ip, 1
        )


def ssdp_answer(data: bytes) -> None:
    """An answer to a search."""
    try:
        answer = ssdp.parse(data)
    except WireError:
        return
    assert parse_location(str(answer.location)) == answer.location
    assert answer.server.isprintable()


def upnp_location(data: bytes) -> None:
    """A location, and a reference to one."""
    text = data.decode("latin-1")
    for read in (parse_location, HERE.join):
        try:
            location = read(text)
        except WireError:
            continue
        assert 0 < location.port < 65536
        assert parse_location(str(location)) == location


def upnp_description(data: bytes) -> None:
    """A device's description of itself."""
    try:
        description = igd.parse_description(data, HERE)
    except WireError:
        return
    assert 0 < len(description.services) <= igd.MAX_SERVICES
    assert all(service.control.host == HERE.host for service in description.services)
    for service in description.services:
        igd.build_call(service.type, "GetExternalIPAddress", ())
        assert service.gives_any_port in (True, False)


def upnp_answer(data: bytes) -> None:
    """An answer to a call, or a fault."""
    choices = Choices(data)
    action, document = choices.pick(ACTIONS), choices.rest()
    try:
        answer = igd.parse_answer(document, action)
    except WireError:
        return
    if isinstance(answer, igd.Fault):
        assert str(answer).isprintable()
        return
    assert igd.external_ip(answer) != "0.0.0.0"
    igd.is_connected(answer)
    for read in (igd.reserved_port, igd.entry):
        try:
            read(answer)
        except WireError:
            pass


def upnp_http(data: bytes) -> None:
    """The answer to an HTTP request, in whatever pieces it comes."""
    choices = Choices(data)
    cuts, closes, stream = choices.take(4), choices.flag(), choices.rest()
    exchange = HttpExchange("stream", HttpRequest(HERE, limit=4096), 0.0)
    exchange.stream_opened(0.1)
    for piece in pieces(stream, cuts):
        exchange.stream_data(piece, 0.2)
    if closes:
        exchange.stream_closed("reset", 0.3)
    exchange.handle_timeout(10.0)
    outcomes = []
    while (event := exchange.poll_event()) is not None:
        if isinstance(event, HttpAnswered | HttpFailed):
            outcomes.append(event)
    assert len(outcomes) == 1
    assert exchange.poll_deadline() is None
    if isinstance(outcomes[0], HttpAnswered):
        assert len(outcomes[0].body) <= 4096


TARGETS = (
    natpmp_answer,
    pcp_answer,
    ssdp_answer,
    upnp_location,
    upnp_description,
    upnp_answer,
    upnp_http,
)
