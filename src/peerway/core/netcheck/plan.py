"""The plan of a check: from what is known to what is to be probed. One pure function.

First everybody is asked what they see of one socket, and every relay is asked for its page. As soon
as somebody answered, and said that it can answer from elsewhere too, it is asked at its other
addresses, and fresh sockets wait for answers from there; others are opened to see which ports they
get. Nothing is probed twice, and nothing that an answer we have makes superfluous.
"""

from __future__ import annotations

from collections.abc import Iterator

from peerway.core.machine import UdpAddress
from peerway.core.netcheck.findings import FilteringFinding, MappingFinding
from peerway.core.netcheck.knowledge import (
    SAMPLES,
    VERSIONS,
    Knowledge,
    filter_origins,
    filter_socket,
    mapping_socket,
    plain_url,
    sample_socket,
    version_of,
)
from peerway.core.netcheck.lifetime import trials
from peerway.core.netcheck.probes import Answer, Ask, Fetch, Meet, Page, Probe

HAIRPIN_SOCKETS = ("hairpin one", "hairpin other")


def wanted(known: Knowledge) -> tuple[Probe, ...]:
    """All that is to be probed as things stand, what was probed already included, in order."""
    probes: list[Probe] = []
    for version in VERSIONS:
        probes += [Ask(mapping_socket(version), server) for server in known.servers(version)]
    if known.question.quick:
        return tuple(probes)
    probes += _pages(known)
    for version in VERSIONS:
        probes += _discovery(known, version)
    helper = _first_to_answer(known, 4)
    if helper is not None and known.mapping(4) is not MappingFinding.NONE:
        probes += [Ask(sample_socket(number), helper) for number in range(SAMPLES)]
        if known.question.hairpin:
            probes += _hairpin(known, helper)
        if known.question.slow:
            probes += trials(known, helper)
    return tuple(dict.fromkeys(probes))


def is_complete(known: Knowledge) -> bool:
    """Whether all that is wanted was probed, and nothing more can come of it."""
    return not known.unresolved and all(probe in known.outcomes for probe in wanted(known))


def _pages(known: Knowledge) -> Iterator[Probe]:
    for relay in known.question.relays:
        yield Fetch(str(relay))
        outcome = known.page(str(relay))
        if relay.tls and outcome is not None and not isinstance(outcome, Page):
            yield Fetch(plain_url(relay))


def _discovery(known: Knowledge, version: int) -> Iterator[Probe]:
    """What the servers that can answer from elsewhere are to show, one after the other until one has."""
    for server, answer in known.discoverers(version):
        if answer.other is None:
            continue
        probes = list(_tests(server, answer.other))
        yield from probes
        told = known.filtering_by(server, answer.other) is not FilteringFinding.UNKNOWN
        if told or not all(probe in known.outcomes for probe in probes):
            return


def _tests(server: UdpAddress, other: UdpAddress) -> Iterator[Probe]:
    """Ask one server at all its addresses, and have it answer from them to sockets that never did."""
    places = (UdpAddress(server.ip, other.port), UdpAddress(other.ip, server.port), other)
    mapping = mapping_socket(version_of(server.ip))
    yield from (Ask(mapping, place) for place in places if place != server)
    for origin in filter_origins(server, other):
        socket = filter_socket(server, origin)
        yield from (Ask(socket, server, origin), Ask(socket, server))


def _first_to_answer(known: Knowledge, version: int) -> UdpAddress | None:
    return next(iter(known.plain_answers(mapping_socket(version))), None)


def _hairpin(known: Knowledge, helper: UdpAddress) -> Iterator[Probe]:
    asked = [Ask(socket, helper) for socket in HAIRPIN_SOCKETS]
    yield from asked
    if all(isinstance(known.outcomes.get(probe), Answer) for probe in asked):
        yield Meet(*HAIRPIN_SOCKETS, helper)
