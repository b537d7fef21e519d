"""Asking STUN servers what our address looks like from there: many questions at once.

A transaction asks one server from one of our sockets. It is sent again and again on a fixed
schedule until an answer comes, or until the schedule ends:

    query() -> waiting -- answer with an address ------------> MappingLearned
                       -- error, or answer of no use --------> QueryFailed
                       -- end of the schedule ---------------> QueryFailed
                       -- the system cannot send it ---------> QueryFailed
                       -- cancel(local) ---------------------> nothing

An answer counts when its transaction id, the address it came from and the socket it came to are
those of a transaction; whatever else arrives is dropped and counted, and changes nothing.
RFC 8489 6.2.1 and 6.3.

A question may ask for a detour (RFC 5780): that the answer leave from another address or port of
the server, or come to another socket of ours. Only an answer that took it counts as one; a server
that answers in the ordinary way, or refuses, has told that it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from peerway.core.ip import parse_ip
from peerway.core.machine import Address, Datagram, Event, Leaf, Rng, Transmit, UdpAddress, WireError
from peerway.core.stun.attributes import (
    Attribute,
    ChangeRequest,
    ErrorCode,
    MappedAddress,
    OtherAddress,
    ResponsePort,
    XorMappedAddress,
)
from peerway.core.stun.framing import TRANSACTION_ID_SIZE
from peerway.core.stun.message import BINDING, Message, MessageClass, build, is_stun, parse

MAX_TRANSACTIONS = 512  # past it a query fails at once


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a request is sent and when it is given up: seconds after the question, rising from 0."""

    sends: tuple[float, ...]
    fails_at: float

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in pairwise((*self.sends, self.fails_at)))
        if self.sends[:1] != (0.0,) or not rises:
            raise ValueError("a schedule starts at 0 and rises")


# RFC 8489 6.2.1: RTO 500 ms doubling, Rc = 7 sends, the last waits Rm = 16 RTO.
STANDARD_SCHEDULE = Schedule((0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5), 39.5)
# While a user waits for a path: the same shape, from 100 ms on.
GATHERING_SCHEDULE = Schedule((0.0, 0.1, 0.3, 0.7, 1.5, 3.1), 6.3)


@dataclass(frozen=True, slots=True)
class Detour:
    """What an answer is to do differently: leave from `origin`, or come to our socket `arrives_at`,
    which the server reaches at `port` of the address it sees us at.

    With `any_port` it counts from any port of `origin`: our own NAT changes the port of what comes in
    while it still holds an older flow from there (Linux does).
    """

    origin: UdpAddress | None = None
    arrives_at: UdpAddress | None = None
    port: int = 0
    any_port: bool = False

    def left_from_origin(self, remote: Address, server: UdpAddress) -> bool:
        """Whether what came from `remote` left from where it was to."""
        if self.origin is None or remote == self.origin:
            return True
        near = isinstance(remote, UdpAddress) and remote.ip == self.origin.ip
        return self.any_port and near and remote != server

    def attributes(self, server: UdpAddress) -> tuple[Attribute, ...]:
        """How the detour is asked for, of `server`."""
        wanted: list[Attribute] = []
        if self.origin is not None:
            change_ip, change_port = self.origin.ip != server.ip, self.origin.port != server.port
            wanted.append(ChangeRequest(change_ip, change_port))
        if self.arrives_at is not None:
            wanted.append(ResponsePort(self.port))
        return tuple(wanted)


@dataclass(frozen=True, slots=True)
class MappingLearned(Event):
    """`server` saw what we sent from `local` come from `mapped`.

    `round_trip` is in seconds, None when the request was sent more than once: nobody can
    tell which of them was answered (Karn's algorithm, RFC 8489 6.2.1). The answer took the
    `detour` that was asked for. `other` is from where else the server can answer, if it says so.
    """

    local: UdpAddress
    server: UdpAddress
    mapped: UdpAddress
    round_trip: float | None
    detour: Detour | None = None
    other: UdpAddress | None = None


@dataclass(frozen=True, slots=True)
class QueryFailed(Event):
    """`server` told us nothing about `local`; `reason` is for people.

    `answered`: it did answer, but with an error or in a way that is of no use.
    """

    local: UdpAddress
    server: UdpAddress
    reason: str
    detour: Detour | None = None
    answered: bool = False


@dataclass(slots=True)
class _Transaction:
    id: bytes
    local: UdpAddress
    server: UdpAddress
    detour: Detour | None
    request: bytes
    asked_at: float
    sends: int = 0

    def may_come(self, datagram: Datagram) -> str:
        """Empty when this can be the answer, else why it cannot."""
        detour = self.detour or Detour()
        arrives_at = detour.arrives_at
        from_origin = detour.origin is not None and detour.left_from_origin(datagram.remote, self.server)
        if datagram.remote != self.server and not from_origin:
            return "from another address"
        if datagram.local not in (self.local, arrives_at or self.local):
            return "to another socket"
        return ""


class StunClient(Leaf):
    """Binding transactions with any number of servers from any number of sockets."""

    def __init__(self, rng: Rng, schedule: Schedule = STANDARD_SCHEDULE) -> None:
        super().__init__()
        self._rng = rng
        self._schedule = schedule
        self._by_id: dict[bytes, _Transaction] = {}
        self._by_question: dict[tuple[UdpAddress, UdpAddress, Detour | None], _Transaction] = {}

    def __len__(self) -> int:
        """How many questions are open."""
        return len(self._by_id)

    def query(self, server: UdpAddress, local: UdpAddress, now: float, detour: Detour | None = None) -> None:
        """Ask `server` from the socket bound to `local`; nothing when that is being asked already."""
        question = (local, server, detour)
        if question in self._by_question:
            return
        if len(self._by_id) >= MAX_TRANSACTIONS:
            reason = f"{MAX_TRANSACTIONS} queries are open already"
            self._events.append(QueryFailed(local, server, reason, detour))
            return
        transaction_id = self._rng.randbytes(TRANSACTION_ID_SIZE)
        attributes = detour.attributes(server) if detour else ()
        request = build(Message(MessageClass.REQUEST, BINDING, transaction_id, attributes))
        transaction = _Transaction(transaction_id, local, server, detour, request, now)
        self._by_id[transaction_id] = transaction
        self._by_question[question] = transaction
        self._send(transaction, now)

    def cancel(self, local: UdpAddress) -> None:
        """Forget what is being asked from the socket `local`, without an event."""
        for transaction in [t for t in self._by_id.values() if t.local == local]:
            self._forget(transaction)

    def receive(self, datagram: Datagram, now: float) -> bool:
        """Take what came to a socket; whether any of it answered a question of ours."""
        answered = [self._receive_one(data, datagram, now) for data in datagram.segments()]
        return any(answered)

    def transmit_failed(self, transmit: Transmit, error: str) -> None:
        """The system could not send this: there is no way to that server, so its answer is not awaited."""
        transaction = self._by_id.get(transmit.segments[0][8:20])
        if transaction is not None and transaction.server == transmit.remote:
            self._forget(transaction)
            reason = f"it cannot be reached from here: {error}"
            self._events.append(
                QueryFailed(transaction.local, transaction.server, reason, transaction.detour)
            )

    def _receive_one(self, data: bytes, datagram: Datagram, now: float) -> bool:
        transaction = self._match(data, datagram)
        if transaction is None:
            return False
        try:
            message = parse(data)
        except WireError:
            self._drop("malformed")
            return False
        if message.message_class not in (MessageClass.SUCCESS, MessageClass.ERROR):
            self._drop("not a response")
            return False
        if message.method != BINDING:
            self._drop("response to another method")
            return False
        self._forget(transaction)
        self._events.append(_outcome(transaction, message, datagram, now))
        return True

    def _match(self, data: bytes, datagram: Datagram) -> _Transaction | None:
        if not is_stun(data):
            self._drop("not STUN")
            return None
        transaction = self._by_id.get(data[8:20])
        problem = transaction.may_come(datagram) if transaction else "unknown transaction"
        if problem:
            self._drop(problem)
            return None
        return transaction

    def _timer_expired(self, name: str, now: float) -> None:
        transaction = self._by_id[bytes.fromhex(name)]
        if now < transaction.asked_at + self._schedule.fails_at:
            self._send(transaction, now)
            return
        self._forget(transaction)
        reason = f"no answer to {transaction.sends} requests in {self._schedule.fails_at:g} s"
        self._events.append(QueryFailed(transaction.local, transaction.server, reason, transaction.detour))

    def _send(self, transaction: _Transaction, now: float) -> None:
        self._transmits.append(Transmit((transaction.request,), transaction.server, transaction.local))
        transaction.sends += 1
        # A caller who was late (a suspended laptop) sends once, not the whole backlog at once.
        for number, offset in enumerate(self._schedule.sends, 1):
            if transaction.asked_at + offset > now:
                reason = f"stun: send {number} of {len(self._schedule.sends)} to {transaction.server}"
                self._timers.set(transaction.id.hex(), transaction.asked_at + offset, reason)
                return
        reason = f"stun: give up on {transaction.server}"
        self._timers.set(transaction.id.hex(), transaction.asked_at + self._schedule.fails_at, reason)

    def _forget(self, transaction: _Transaction) -> None:
        self._timers.cancel(transaction.id.hex())
        del self._by_id[transaction.id]
        del self._by_question[transaction.local, transaction.server, transaction.detour]


def _outcome(transaction: _Transaction, message: Message, datagram: Datagram, now: float) -> Event:
    local, server, detour = transaction.local, transaction.server, transaction.detour
    mapped = _mapped_address(message)
    if isinstance(mapped, UdpAddress) and not _took(detour, datagram, server):
        mapped = "the server answers in the ordinary way only"
    if isinstance(mapped, str):
        return QueryFailed(local, server, mapped, detour, answered=True)
    round_trip = now - transaction.asked_at if transaction.sends == 1 else None
    other = message.first(OtherAddress)
    return MappingLearned(local, server, mapped, round_trip, detour, other.address if other else None)


def _took(detour: Detour | None, datagram: Datagram, server: UdpAddress) -> bool:
    return detour is None or (
        detour.left_from_origin(datagram.remote, server) and detour.arrives_at in (None, datagram.local)
    )


def _mapped_address(response: Message) -> UdpAddress | str:
    """The address in a response, or why there is none to use (RFC 8489 6.3.3, 6.3.4)."""
    if unknown := response.unknown_required():
        return "the answer has unknown attributes: " + ", ".join(f"{kind:#06x}" for kind in unknown)
    if response.message_class is MessageClass.ERROR:
        error = response.first(ErrorCode)
        return (
            f"the server answered with error {error.code}" if error else "the server answered with an error"
        )
    found = response.first(XorMappedAddress) or response.first(MappedAddress)
    if found is None:
        return "the answer has no address"
    if not _is_usable(found.address):
        return f"the answer's address is of no use: {found.address}"
    return found.address


def _is_usable(address: UdpAddress) -> bool:
    ip = parse_ip(address.ip)
    return address.port != 0 and not ip.is_unspecified and not ip.is_multicast
