"""The asyncio API: a node, the connections it dials and those dialled to it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType

from peerway.connection import Connection
from peerway.core.identity import NodeId, SecretKey
from peerway.core.link import Link, LinkClosed, LinkEstablished
from peerway.core.links import DialMoved, LinkEvent, Result
from peerway.core.machine import Event, UdpAddress
from peerway.core.netcheck.knowledge import Question
from peerway.core.netcheck.report import Report
from peerway.core.node import NodeMachine
from peerway.core.path.candidate import Candidate
from peerway.core.places import parse_advertised, parse_stun_server
from peerway.core.portmap.events import (
    PortMappingEvent,
    PortMappingRenewed,
    PortMappingsGivenBack,
    RememberLeases,
)
from peerway.core.portmap.report import GatewayReport, PortMapping
from peerway.core.quic import qh3_transport
from peerway.core.quic.session import QuicSession
from peerway.core.relay.access import check_token
from peerway.core.relay.connections import HomeRelayChanged
from peerway.core.relay.keeper import RelayDown, RelayUp
from peerway.core.relay.url import RelayUrl
from peerway.core.signal.door import Admission
from peerway.core.ticket import SECRET_SIZE, Ticket
from peerway.dials import Dial, Dials
from peerway.errors import NodeClosedError, PeerwayError, RelayUnreachableError
from peerway.io import clock, netcheck
from peerway.io.connect_errors import NO_ANSWER
from peerway.io.driver import FAILURES_LOGGED, Driver
from peerway.io.interfaces import interface_addresses
from peerway.io.lease_keeper import LeaseKeeper
from peerway.io.leases import LeaseStore
from peerway.io.state import state_directory
from peerway.io.tls import trust_also
from peerway.stream import Wakeup

MAX_UNACCEPTED = 128  # connections nobody took yet; further ones are closed at once
GIVE_BACK_S = 1.5  # for routers to remove mappings; what they do not, the next run does
CODE_BUSY = 0x12

logger = logging.getLogger("peerway.node")


class Node:
    """One end of connections: its key is who it is.

    `relays` are URLs of relays to be met at; `stun` further STUN servers, "host:port". `port` 0 takes
    any UDP port. `advertise` are outside addresses, "ip:port", that are forwarded to ours. With `portmap`
    the router is asked for such a one, where it offers that. Whoever is in `allow`, shows a ticket of
    ours (unless `accept_ticket` is off), or gets True from `authorize` may dial us; nobody else. `ca` is
    a PEM file of authorities whose certificates relays may show, beside those the system trusts.
    `relay_token` is shown to `relays`, over TLS, for them to admit us. Enter with `async with`; leaving
    frees every socket, task, connection and port. Iterating gives the connections others dialled.
    """

    def __init__(
        self,
        key: SecretKey | None = None,
        *,
        relays: Sequence[str] = (),
        stun: Sequence[str] = (),
        port: int = 0,
        advertise: Sequence[str] = (),
        allow: Collection[NodeId] = (),
        authorize: Callable[[NodeId], bool] | None = None,
        accept_ticket: bool = True,
        portmap: bool = True,
        ca: str | Path | None = None,
        relay_token: str | None = None,
    ) -> None:
        rng = random.SystemRandom()
        self._key = key or SecretKey(rng.randbytes(32))
        self._port = port
        self._trust = trust_also(Path(ca)) if ca is not None else None
        self._stun = tuple(parse_stun_server(text) for text in stun)
        self._ticket_secret = rng.randbytes(SECRET_SIZE) if accept_ticket else b""
        self._machine = NodeMachine(
            self._key,
            rng,
            admission=Admission(frozenset(allow), self._ticket_secret, authorize and _Careful(authorize)),
            relays=tuple(relays),
            stun=self._stun,
            static=tuple(parse_advertised(text) for text in advertise),
            portmap=portmap,
            relay_token="" if relay_token is None else check_token(relay_token),
        )
        self._leases = LeaseKeeper(LeaseStore(state_directory())) if portmap else None
        self._given_back = asyncio.Event()
        self._driver: Driver | None = None
        self._connections: dict[int, Connection] = {}
        self._dials = Dials()
        self._unaccepted: deque[Connection] = deque()
        self._changed = Wakeup()
        self._unreachable: set[str] = set()
        self._checked: Report | None = None
        self._closed = False

    # --- lifetime

    async def __aenter__(self) -> Node:
        if self._driver is not None:
            raise NodeClosedError("a node can be entered once")
        self._driver = Driver(self._machine, self._on_event, trust=self._trust)
        try:
            leftovers = await self._leases.take_over() if self._leases is not None else ()
            sockets = await self._open_sockets(self._driver)
            self._machine.start(sockets, clock.now(), leftovers)
            self._driver.watch_interfaces()
            self._driver.wake()
            asyncio.get_running_loop().call_soon(qh3_transport.prepare)  # while the relay's answers travel
        except BaseException:
            await self._free()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, give mapped ports back, and free everything."""
        if self._driver is None or self._closed:
            return
        self._closed = True
        self._changed.wake()
        try:
            open_ones = [c for c in self._connections.values() if not c.is_closed]
            await asyncio.gather(self._give_back(), *(connection.close() for connection in open_ones))
        finally:
            await self._free()

    async def _give_back(self) -> None:
        self._machine.leave(clock.now())
        self._wake()
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await self._given_back.wait()
        except TimeoutError:
            logger.debug("portmap not given back in time")

    async def _free(self) -> None:
        try:
            if self._driver is not None:
                await self._driver.close()
        finally:
            if self._leases is not None:
                await self._leases.close()

    # --- who and where we are

    @property
    def node_id(self) -> NodeId:
        """Our public key: what others know us by."""
        return self._key.node_id

    @property
    def relays(self) -> tuple[str, ...]:
        """The URLs of our relays, in canonical form; the first is home: the nearest, as far as is known."""
        return self._machine.home_relays

    @property
    def sockets(self) -> tuple[UdpAddress, ...]:
        """The UDP sockets that everything goes through, one per address family."""
        return self._machine.surroundings.sockets

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The addresses we might be reached at, as far as they are known."""
        return self._machine.surroundings.candidates

    @property
    def port_mappings(self) -> tuple[PortMapping, ...]:
        """The ports that routers forward to us, as they stand."""
        return self._machine.port_mappings

    @property
    def gateways(self) -> tuple[GatewayReport, ...]:
        """What is known of the routers we go out by: what they speak, and what they map."""
        return self._machine.gateways

    @property
    def probes_sent(self) -> int:
        """Probes sent so far towards addresses that had not answered yet."""
        return self._machine.budget.spent

    @property
    def drops(self) -> Counter[str]:
        """What was dropped, refused or lost so far, by reason; docs/reference/limits.md names the limits."""
        dropped = self._machine.counted()
        return dropped + self._driver.drops if self._driver is not None else dropped

    def ticket(self) -> str:
        """What others paste to dial us. It admits whoever holds it, so treat it as a key.

        Without a relay it names our addresses, and works only for those who can reach one of them.
        """
        addresses: tuple[UdpAddress, ...] = ()
        if not self.relays:
            addresses = tuple(candidate.address for candidate in self.candidates) or tuple(
                UdpAddress(interface.ip, socket.port)
                for interface in interface_addresses()
                for socket in self.sockets
                if (":" in interface.ip) == (":" in socket.ip)
            )
        return str(Ticket(self.node_id, self.relays, addresses, self._ticket_secret))

    async def wait_relay(self, timeout: float | None = None) -> None:
        """Wait until the home relay knows us; `RelayUnreachableError` when it does not in `timeout` s."""
        if not self.relays:
            raise PeerwayError("this node has no relay: give it one with relays=[url]")
        try:
            async with asyncio.timeout(timeout):
                while not self._machine.relay_state(self.relays[0])[0]:
                    self._require_open()
                    await self._changed.wait()
        except TimeoutError:
            url = self.relays[0]
            reason = self._machine.relay_state(url)[1] or f"no answer within {timeout} s: {NO_ANSWER}"
            raise RelayUnreachableError(url, reason) from None

    async def netcheck(
        self,
        *,
        hairpin: bool = False,
        slow: bool = False,
        full: bool = False,
        on_progress: Callable[[str], None] | None = None,
    ) -> Report:
        """Find out what this machine sits behind, with the help of our relays and STUN servers.

        Within 3 seconds on a healthy network, 6 at worst. Called again, it looks with a few packets
        whether the last report still holds, unless `full`. `hairpin` sends to our own outside address,
        which some firewalls take for an attack; `slow` takes minutes to see how long mappings live.
        Raises `NoServersError` when there is nobody to ask.
        """
        self._require_open()
        relays = tuple(RelayUrl.parse(url) for url in self.relays)
        previous = None if full or hairpin or slow else self._checked
        question = Question(relays, self._stun, next(iter(self.relays), None), hairpin, slow)
        self._checked = await netcheck.check(
            question,
            previous,
            gateways=lambda: self.gateways,
            on_progress=on_progress,
            trust=self._trust,
        )
        return self._checked

    # --- connections

    def connect(self, target: str | Ticket) -> Dial:
        """Dial the node of a ticket: `async with node.connect(ticket) as connection`, or await it.

        There is one connection with a peer at a time: dialling one that is connected gives that one.
        Raises `TicketError`, `RelayUnreachableError` or `ConnectError`.
        """
        return Dial(self, target if isinstance(target, Ticket) else Ticket.parse(target))

    def __aiter__(self) -> AsyncIterator[Connection]:
        return self

    async def __anext__(self) -> Connection:
        while not self._unaccepted:
            if self._closed:
                raise StopAsyncIteration
            self._require_open()
            await self._changed.wait()
        return self._unaccepted.popleft()

    # --- for dials

    def _begin_dial(self, ticket: Ticket) -> Connection:
        number = self._machine.dial(ticket, clock.now())
        self._wake()
        return self._connection(number, ticket.node_id)

    def _connections_with(self, peer: NodeId) -> list[Connection]:
        return [connection for connection in self._connections.values() if connection.peer == peer]

    def _relay_state(self, url: str) -> tuple[bool, str]:
        return self._machine.relay_state(url)

    # --- for connections

    def _call(self, number: int, use: Callable[[Link], Result]) -> Result:
        result = self._machine.call(number, use, clock.now())
        self._wake()
        return result

    def _with_session(self, number: int, use: Callable[[QuicSession], Result]) -> Result:
        result = self._machine.with_session(number, use, clock.now())
        if self._driver is not None:
            self._driver.wake_soon()
        return result

    def _ask(self, number: int, question: Callable[[Link], Result]) -> Result:
        return self._machine.ask(number, question)

    def _forget(self, number: int) -> None:
        self._machine.release(number)
        self._connections.pop(number, None)
        self._changed.wake()

    # --- for the driver

    async def _open_sockets(self, driver: Driver) -> tuple[UdpAddress, ...]:
        v4 = await driver.open_udp(UdpAddress("0.0.0.0", self._port))
        for port in (v4.port, 0):
            try:
                return (v4, await driver.open_udp(UdpAddress("::", port)))
            except OSError as error:
                logger.debug("no IPv6 socket port=%d error=%s", port, error)
        return (v4,)

    def _wake(self) -> None:
        if self._driver is not None:
            self._driver.wake()

    def _require_open(self) -> None:
        if self._driver is None or self._closed:
            raise NodeClosedError("the node is not open: use it within `async with`")

    def _connection(self, number: int, peer: NodeId) -> Connection:
        connection = self._connections.get(number)
        if connection is None:
            connection = self._connections[number] = Connection(self, number, peer)
        return connection

    def _on_event(self, event: Event) -> None:
        if isinstance(event, LinkEvent):
            self._link_event(event)
        elif isinstance(event, DialMoved):
            self._dial_moved(event)
        elif isinstance(event, RelayUp):
            logger.info("relay connected url=%s", event.url)
            self._unreachable.discard(event.url)
            self._changed.wake()
        elif isinstance(event, RelayDown):
            self._relay_down(event)
        elif isinstance(event, HomeRelayChanged):
            logger.info("relay home url=%s reason=%r", event.url, event.reason)
            self._changed.wake()
        elif isinstance(event, PortMappingEvent):
            logger.info("portmap event=%s text=%r", type(event).__name__, str(event))
            if isinstance(event, PortMappingRenewed) and self._leases is not None:
                self._leases.renewed()
            self._changed.wake()
        elif isinstance(event, RememberLeases):
            if self._leases is not None:
                self._leases.keep(event.leases)
        elif isinstance(event, PortMappingsGivenBack):
            self._given_back.set()

    def _relay_down(self, event: RelayDown) -> None:
        # said once, and then only to those who want to know all
        level = logging.INFO if event.url in self._unreachable else logging.WARNING
        self._unreachable.add(event.url)
        logger.log(
            level, "relay down url=%s reason=%s retry_in=%.1f", event.url, event.reason, event.retry_in
        )
        self._changed.wake()

    def _dial_moved(self, event: DialMoved) -> None:
        given_up = self._connections.pop(event.link, None)
        if given_up is not None:
            self._dials.moved(given_up, self._connection(event.successor, given_up.peer))
        self._changed.wake()

    def _link_event(self, event: LinkEvent) -> None:
        connection = self._connection(event.link, event.peer)
        logger.debug("link peer=%s event=%s", event.peer.short, event.event)
        connection._event(event.event)
        if isinstance(event.event, LinkEstablished):
            self._arrived(connection)
        if isinstance(event.event, LinkEstablished | LinkClosed):
            self._changed.wake()

    def _arrived(self, connection: Connection) -> None:
        if self._dials.is_awaited(connection):
            return
        if len(self._unaccepted) >= MAX_UNACCEPTED or self._closed:
            self._machine.drops["connection: too many wait"] += not self._closed
            self._call(
                connection._link, lambda link: link.close(CODE_BUSY, "too many connections wait", clock.now())
            )
            return
        self._unaccepted.append(connection)


class _Careful:
    """Asks the application whom to admit; when that raises it is logged, a few times, and means no.

    It is strangers who have it asked.
    """

    def __init__(self, authorize: Callable[[NodeId], bool]) -> None:
        self._authorize = authorize
        self._failures = 0

    def __call__(self, peer: NodeId) -> bool:
        try:
            return self._authorize(peer)
        except Exception:
            self._failures += 1
            if self._failures <= FAILURES_LOGGED:
                logger.exception("authorize failed peer=%s", peer.short)
            return False
