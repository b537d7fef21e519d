"""Opening a byte stream: look up the name, find the way, shake hands, or say why not."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from peerway.core.relay.url import RelayUrl
from peerway.sim.network.driver import RESOLVE_S, Driver
from peerway.sim.network.interfaces import Exit, Interfaces
from peerway.sim.network.route import StreamRoute, find_route
from peerway.sim.network.stream import BROKEN_AFTER_S, stream_pair
from peerway.sim.network.world import World

SYN_SENT_S = (0.0, 1.0, 3.0, 7.0)  # RFC 6298: a second, then twice as long, until `BROKEN_AFTER_S`
ATTEMPT_DELAY_S = 0.25  # RFC 8305 section 5: the next address is tried though this one is silent


@runtime_checkable
class Listening(Protocol):
    """A host that streams can come to."""

    name: str
    is_asleep: bool

    def listener(self, port: int) -> Driver | None: ...


class Attempt:
    """A stream that is still to be connected: `name`, for the machine of `driver`."""

    def __init__(self, driver: Driver, name: str) -> None:
        self.driver = driver
        self.name = name

    @property
    def is_wanted(self) -> bool:
        """Whether the machine has not closed it meanwhile."""
        return self.driver.streams.get(self.name) is self

    def write(self, data: bytes) -> None:
        """Lost: nobody writes before it is open."""

    def close(self) -> None:
        """Nothing to close."""

    def fail(self, error: str) -> None:
        """Tell the machine that there will be no stream."""
        if self.is_wanted:
            del self.driver.streams[self.name]
            self.driver.tell("stream_closed", self.name, error)


def open_stream(world: World, interfaces: Interfaces, stream: str, url: str, driver: Driver) -> None:
    """Connect to the host of `url`, and tell the machine `stream_opened` or `stream_closed`."""
    target = RelayUrl.parse(url)
    ips = world.resolve(target.host)
    wait = 0.0 if ips == (target.host,) else RESOLVE_S
    attempt = Attempt(driver, stream)
    driver.streams[stream] = attempt
    for wait_more in SYN_SENT_S:
        world.after(wait + wait_more, _connect, world, interfaces, attempt, ips, target.port)
    world.after(wait + BROKEN_AFTER_S, attempt.fail, "timed out")


def _connect(world: World, interfaces: Interfaces, attempt: Attempt, ips: tuple[str, ...], port: int) -> None:
    if not attempt.is_wanted:
        return
    if not ips:
        attempt.fail("name not found")
        return
    exits = [(ip, way) for ip in ips if (way := interfaces.exit(ip)) is not None]
    if not exits:
        attempt.fail("network is unreachable")
        return
    wait = 0.0
    for ip, way in exits:
        route = _find_open(way, ip)
        if route is not None:
            world.after(wait, _shake_hands, world, attempt, route, port)
            return
        wait += ATTEMPT_DELAY_S


def _find_open(way: Exit, ip: str) -> StreamRoute | None:
    """The way to a host that answers."""
    if way.link is None or not way.leads_to(ip):
        return None
    route = find_route(way.link, way.source_ip, ip)
    if route is None or route.is_cut:
        return None
    return None if isinstance(route.end, Listening) and route.end.is_asleep else route


def _shake_hands(world: World, attempt: Attempt, route: StreamRoute, port: int) -> None:
    if not attempt.is_wanted:
        return
    there, back = route.delay(outwards=True), route.delay(outwards=False)
    if there is None or back is None:
        return
    far = route.end
    assert isinstance(far, Listening)
    listener = far.listener(port)
    if listener is None:
        world.after(there + back, attempt.fail, "connection refused")
        return
    driver, name = attempt.driver, attempt.name
    driver.streams[name], server = stream_pair(world, route, driver, name, listener, far.name)
    world.after(there, server.accepted, route.source_ip)
    world.after(there + back, server.peer.opened)
