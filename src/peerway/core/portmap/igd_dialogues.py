"""What takes more than one call to a UPnP gateway, each as a dialogue.

A dialogue is a generator: it yields a request and is sent what came of it, until it returns its result.
It holds no state but its own course, so whoever runs it decides about streams, time and patience.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeVar

from peerway.core.machine import Rng, WireError
from peerway.core.portmap import igd
from peerway.core.portmap.client import Trying
from peerway.core.portmap.exchange import HttpAnswered, HttpRequest
from peerway.core.portmap.igd import Arguments, Entry, ErrorNumber, Fault, Service
from peerway.core.portmap.lease import LONGEST_S, Lease
from peerway.core.portmap.location import Location

MAX_ANSWER_BYTES = 64 * 1024  # to a call
ADD_TRIES = 8
OTHER_PORTS = (20_000, 60_000)  # where another port is looked for
RETRY_SOON_S, RETRY_LATE_S = 60.0, 1800.0
DESCRIPTION = "peerway"  # what the gateway lists a mapping as
_WITHOUT_LEASE = (
    ErrorNumber.INVALID_ARGS,
    ErrorNumber.ACTION_FAILED,
    ErrorNumber.ONLY_PERMANENT_LEASES_SUPPORTED,
)
_PORT_TAKEN = (ErrorNumber.CONFLICT_IN_MAPPING_ENTRY, ErrorNumber.CONFLICT_WITH_OTHER_MECHANISMS)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request came to nothing: no answer, or none that can be read."""

    reason: str

    def __str__(self) -> str:
        return self.reason


Reply = HttpAnswered | Trouble
Step = HttpRequest | Trying
Dialogue = Generator[Step, Reply | None, Result]


@dataclass(frozen=True, slots=True)
class Device:
    """A gateway that can be asked: by its `service`, with this outside address ("" for none)."""

    name: str
    service: Service
    external_ip: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The gateway does not map. `unreachable`: it did not even answer."""

    reason: str
    retry_after_s: float
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """How a mapping fares: `lost` says why it is not ours any more, "" when all is well."""

    external_ip: str = ""
    lost: str = ""


def read_device(location: Location) -> Dialogue[Device | Trouble]:
    """Read the description at `location`; the first of its connections that is online, else the first."""
    reply = yield HttpRequest(location, igd.MAX_DOCUMENT_BYTES)
    try:
        description = _described(reply, location)
    except WireError as error:
        return Trouble(str(error))
    found: Device | None = None
    trouble = Trouble("it has no connection to the outside")
    for service in description.services:
        status = yield from call(service, "GetStatusInfo")
        address = yield from call(service, "GetExternalIPAddress")
        if isinstance(address, Fault | Trouble):
            trouble = Trouble(_words(address))
            continue
        device = Device(description.name, service, igd.external_ip(address))
        if device.external_ip and not isinstance(status, Fault | Trouble) and igd.is_connected(status):
            return device
        found = found or device
    return found or trouble


def add_mapping(service: Service, lease: Lease, rng: Rng, *, renewal: bool) -> Dialogue[Lease | Refusal]:
    """Map, at another port or without a lifetime where the gateway wants that; the lease as granted."""
    any_port = service.gives_any_port and not renewal
    may_remove = renewal
    wanted = lease
    for _ in range(ADD_TRIES):
        outcome = yield from _ask_for(service, wanted, any_port)
        if isinstance(outcome, Trouble):
            return Refusal(outcome.reason, RETRY_SOON_S, unreachable=True)
        if isinstance(outcome, Fault):
            if any_port and outcome.number == ErrorNumber.INVALID_ACTION:
                any_port = False  # it claims a version that it is not
                continue
            if may_remove and outcome.number in _PORT_TAKEN:
                may_remove = False  # by us: some cannot prolong what is there
                yield from remove_mapping(service, wanted)
                continue
            other = _otherwise(wanted, outcome.number, rng)
            if other is None:
                return Refusal(_words(outcome), RETRY_LATE_S)
            wanted = other
        else:
            granted = yield from _confirm(service, replace(wanted, external_port=outcome))
            if granted is not None:
                return (yield from _with_address(service, granted))
            wanted = _at_another_port(wanted, rng)
        yield Trying(wanted)
    return Refusal(f"no port after {ADD_TRIES} tries", RETRY_LATE_S)


def remove_mapping(service: Service, lease: Lease) -> Dialogue[str]:
    """Remove, unless the port is somebody else's by now; why that failed, "" when it is gone."""
    listed = yield from _listed(service, lease)
    if _is_missing(listed) or (isinstance(listed, Entry) and not _is_ours(listed, lease)):
        return ""
    answer = yield from call(service, "DeletePortMapping", *_name_of(lease))
    if isinstance(answer, Fault | Trouble) and not _is_missing(answer):
        return _words(answer)
    return ""


def look_after(service: Service, lease: Lease) -> Dialogue[Finding | Trouble]:
    """See whether the mapping is listed, and what the outside address is now."""
    listed = yield from _listed(service, lease)
    if isinstance(listed, Trouble):
        return listed
    if _is_missing(listed):
        return Finding(lost="the gateway does not list it any more")
    if isinstance(listed, Entry) and not _is_ours(listed, lease):
        return Finding(lost="the gateway lists it for somebody else, or as switched off")
    answer = yield from call(service, "GetExternalIPAddress")
    if isinstance(answer, Fault | Trouble):
        return Finding(external_ip=lease.external_ip)
    return Finding(external_ip=igd.external_ip(answer))


def call(service: Service, action: str, *arguments: tuple[str, str]) -> Dialogue[Arguments | Fault | Trouble]:
    """One call."""
    headers = (
        ("Content-Type", 'text/xml; charset="utf-8"'),
        ("SOAPAction", f'"{service.type}#{action}"'),
    )
    body = igd.build_call(service.type, action, arguments)
    reply = yield HttpRequest(service.control, MAX_ANSWER_BYTES, "POST", headers, body)
    if not isinstance(reply, HttpAnswered):
        return reply or Trouble("no answer")
    if reply.status not in (200, 500):  # 500 carries a fault
        return Trouble(f"the gateway answers {action} with HTTP status {reply.status}")
    try:
        return igd.parse_answer(reply.body, action)
    except WireError as error:
        return Trouble(str(error))


def _described(reply: Reply | None, location: Location) -> igd.Description:
    if not isinstance(reply, HttpAnswered):
        raise WireError(str(reply))
    if reply.status != 200:
        raise WireError(f"upnp: {location} is answered with HTTP status {reply.status}")
    return igd.parse_description(reply.body, location)


def _ask_for(service: Service, lease: Lease, any_port: bool) -> Dialogue[int | Fault | Trouble]:
    """Ask once; the port that was given."""
    action = "AddAnyPortMapping" if any_port else "AddPortMapping"
    answer = yield from call(service, action, *_mapping(lease))
    if isinstance(answer, Fault | Trouble):
        return answer
    if not any_port:
        return lease.external_port
    try:
        return igd.reserved_port(answer)
    except WireError as error:
        return Trouble(str(error))


def _otherwise(lease: Lease, error: int, rng: Rng) -> Lease | None:
    """What to ask for instead after an error; None when nothing else is worth trying."""
    if error in _WITHOUT_LEASE and lease.lifetime_s:
        return replace(lease, lifetime_s=0)
    if error in _PORT_TAKEN:
        return _at_another_port(lease, rng)
    if error == ErrorNumber.SAME_PORT_VALUES_REQUIRED and lease.external_port != lease.internal.port:
        return replace(lease, external_port=lease.internal.port)
    return None


def _at_another_port(lease: Lease, rng: Rng) -> Lease:
    first, end = OTHER_PORTS
    return replace(lease, external_port=first + rng.randrange(end - first))


def _confirm(service: Service, lease: Lease) -> Dialogue[Lease | None]:
    """The lease as the gateway lists it; None when it lists the port for somebody else."""
    listed = yield from _listed(service, lease)
    if not isinstance(listed, Entry):
        return lease  # some cannot list: take their word
    return replace(lease, lifetime_s=min(listed.lease, LONGEST_S)) if _is_ours(listed, lease) else None


def _with_address(service: Service, lease: Lease) -> Dialogue[Lease | Refusal]:
    answer = yield from call(service, "GetExternalIPAddress")
    ip = "" if isinstance(answer, Fault | Trouble) else igd.external_ip(answer)
    return replace(lease, external_ip=ip) if ip else Refusal("it has no outside address", RETRY_SOON_S)


def _listed(service: Service, lease: Lease) -> Dialogue[Entry | Fault | Trouble | None]:
    """The gateway's entry for the lease's port; None when there is one that cannot be read."""
    answer = yield from call(service, "GetSpecificPortMappingEntry", *_name_of(lease))
    if isinstance(answer, Fault | Trouble):
        return answer
    try:
        return igd.entry(answer)
    except WireError:
        return None


def _name_of(lease: Lease) -> tuple[tuple[str, str], ...]:
    return (
        ("NewRemoteHost", ""),
        ("NewExternalPort", str(lease.external_port)),
        ("NewProtocol", "UDP"),
    )


def _mapping(lease: Lease) -> tuple[tuple[str, str], ...]:
    return (
        *_name_of(lease),
        ("NewInternalPort", str(lease.internal.port)),
        ("NewInternalClient", lease.internal.ip),
        ("NewEnabled", "1"),
        ("NewPortMappingDescription", DESCRIPTION),
        ("NewLeaseDuration", str(lease.lifetime_s)),
    )


def _is_missing(outcome: object) -> bool:
    return isinstance(outcome, Fault) and outcome.number == ErrorNumber.NO_SUCH_ENTRY


def _is_ours(entry: Entry, lease: Lease) -> bool:
    return entry.enabled and (entry.client, entry.internal_port) == (lease.internal.ip, lease.internal.port)


def _words(outcome: Fault | Trouble) -> str:
    return f"the gateway answers with {outcome}" if isinstance(outcome, Fault) else outcome.reason
