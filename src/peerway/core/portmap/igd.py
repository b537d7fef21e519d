"""UPnP Internet Gateway Devices: their description, and the calls that map a port.

Everything here comes from a stranger on the network until proven otherwise: documents are capped,
have no DTD and no entities (defusedxml), and everything they point to lies on their own host.
WANIPConnection 1 and 2, WANPPPConnection 1.
"""

from __future__ import annotations

import html
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, cast

from defusedxml import ElementTree

from peerway.core.machine import WireError
from peerway.core.portmap.location import Location

MAX_DOCUMENT_BYTES = 256 * 1024
MAX_ELEMENTS = 4096
MAX_SERVICES = 8
MAX_VALUE = 1024  # characters of an argument
_NAME_LIMIT = 64  # characters of what people see
_SERVICE = re.compile(r"urn:schemas-upnp-org:service:(WANIPConnection|WANPPPConnection):([0-9]{1,2})")
_ENVELOPE = (
    '<?xml version="1.0"?>\r\n'
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
    '<u:{action} xmlns:u="{service}">{arguments}</u:{action}>'
    "</s:Body></s:Envelope>\r\n"
)


class ErrorNumber(IntEnum):
    """The errors of WANIPConnection that something can be done about."""

    INVALID_ACTION = 401
    INVALID_ARGS = 402
    ACTION_FAILED = 501
    NOT_AUTHORIZED = 606
    NO_SUCH_ENTRY = 714
    CONFLICT_IN_MAPPING_ENTRY = 718
    SAME_PORT_VALUES_REQUIRED = 724
    ONLY_PERMANENT_LEASES_SUPPORTED = 725
    NO_PORT_MAPS_AVAILABLE = 728
    CONFLICT_WITH_OTHER_MECHANISMS = 729


@dataclass(frozen=True, slots=True)
class Service:
    """A connection of the gateway to the outside; `type` is the whole URN, `control` where it is called."""

    type: str
    control: Location

    @property
    def version(self) -> int:
        """The version in the URN."""
        return int(self.type.rpartition(":")[2])

    @property
    def gives_any_port(self) -> bool:
        """Whether it has AddAnyPortMapping."""
        return ":WANIPConnection:" in self.type and self.version >= 2


@dataclass(frozen=True, slots=True)
class Description:
    """What a device says of itself: its name for people, and its services, the best first."""

    name: str
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A call failed, with a number of `ErrorNumber` or any other, and the gateway's own words."""

    number: int
    words: str = ""

    def __str__(self) -> str:
        return f"error {self.number} ({self.words})" if self.words else f"error {self.number}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping as the gateway lists it; `lease` in seconds, 0 for ever."""

    client: str
    internal_port: int
    enabled: bool
    description: str
    lease: int


Arguments = Mapping[str, str]


class _Element(Protocol):
    """What we use of an XML element: core knows XML by defusedxml alone."""

    tag: str
    text: str | None

    def __iter__(self) -> Iterator[_Element]: ...
    def iter(self) -> Iterator[_Element]: ...


# --- the description -------------------------------------------------------------------


def parse_description(data: bytes, location: Location) -> Description:
    """The description found at `location`; `WireError` when it is none, or points to another host."""
    root = _document(data)
    elements = _bounded(root)
    base = next((_text(element) for element in elements if _name(element) == "URLBase"), "")
    origin = location.join(base) if base else location
    names = [_text(element) for element in elements if _name(element) in ("modelName", "friendlyName")]
    found = [_service(element, origin) for element in elements if _name(element) == "service"]
    services = [service for service in found if service is not None][:MAX_SERVICES]
    if not services:
        raise WireError("upnp: a device without a connection to the outside")
    services.sort(key=lambda service: ("WANIPConnection" not in service.type, -service.version))
    return Description(_printable(names[0] if names else ""), tuple(services))


def _service(element: _Element, origin: Location) -> Service | None:
    fields = {_name(child): _text(child) for child in element}
    kind = fields.get("serviceType", "")
    if not _SERVICE.fullmatch(kind) or not fields.get("controlURL"):
        return None
    return Service(kind, origin.join(fields["controlURL"]))


# --- calls -----------------------------------------------------------------------------


def build_call(service: str, action: str, arguments: Sequence[tuple[str, str]]) -> bytes:
    """The body of a call; goes with the header `SOAPAction: "service#action"`. Order matters to some."""
    inner = "".join(f"<{name}>{html.escape(value, quote=False)}</{name}>" for name, value in arguments)
    return _ENVELOPE.format(action=action, service=service, arguments=inner).encode()


def parse_answer(data: bytes, action: str) -> Arguments | Fault:
    """What a call came to; `WireError` when the document is neither an answer to `action` nor a fault."""
    for element in _bounded(_document(data)):
        name = _name(element)
        if name == f"{action}Response":
            return {_name(child): _text(child) for child in element}
        if name == "UPnPError":
            fields = {_name(child): _text(child) for child in element}
            return Fault(_number(fields.get("errorCode", "")), _printable(fields.get("errorDescription", "")))
    raise WireError("upnp: neither an answer nor an error")


def external_ip(answer: Arguments) -> str:
    """The address in an answer to GetExternalIPAddress, "" when the gateway has none."""
    text = answer.get("NewExternalIPAddress", "")
    try:
        ip = ipaddress.IPv4Address(text)
    except ValueError:
        return ""
    return "" if ip.is_unspecified else str(ip)


def is_connected(answer: Arguments) -> bool:
    """Whether an answer to GetStatusInfo says that the gateway is online."""
    return answer.get("NewConnectionStatus", "") in ("Connected", "Up")


def reserved_port(answer: Arguments) -> int:
    """The port in an answer to AddAnyPortMapping."""
    return _number(answer.get("NewReservedPort", ""))


def entry(answer: Arguments) -> Entry:
    """The mapping in an answer to GetSpecificPortMappingEntry."""
    return Entry(
        answer.get("NewInternalClient", ""),
        _number(answer.get("NewInternalPort", "")),
        answer.get("NewEnabled", "1") not in ("0", "false", "no"),
        _printable(answer.get("NewPortMappingDescription", "")),
        _number(answer.get("NewLeaseDuration", "0")),
    )


# --- XML -------------------------------------------------------------------------------


def _document(data: bytes) -> _Element:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise WireError("upnp: a document is too large")
    try:
        return cast(_Element, ElementTree.fromstring(data, forbid_dtd=True))
    except (SyntaxError, ValueError, LookupError):  # not XML, forbidden in it, an unknown encoding
        raise WireError("upnp: not the XML we take") from None


def _bounded(root: _Element) -> list[_Element]:
    """Every element, in document order."""
    elements: list[_Element] = []
    for element in root.iter():
        if len(elements) >= MAX_ELEMENTS:
            raise WireError("upnp: a document has too many elements")
        elements.append(element)
    return elements


def _name(element: _Element) -> str:
    """The name without its namespace: few gateways get those right."""
    return element.tag.rpartition("}")[2]


def _text(element: _Element) -> str:
    return (element.text or "").strip()[:MAX_VALUE]


def _printable(text: Iterable[str]) -> str:
    return "".join(character for character in text if character.isprintable())[:_NAME_LIMIT]


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 10:
        raise WireError("upnp: a number is expected")
    return int(text)
