"""A DERP relay: forwards packets between clients by key, and knows nothing of what is inside.

Each stream is a child machine (`session.ServerSession`); here is what concerns more than one of
them: who may connect and how many, which stream has which key, where a packet goes, and who is
told when a client is gone. The newest of two connections with one key wins, since the older one
is nearly always the leftover of a client that moved.

Nothing slows a sender down for a slow receiver: what the receiver's stream does not take waits in
its bounded queue, then the oldest is dropped.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from peerway.core.ip import parse_ip
from peerway.core.machine import CloseStream, Composite, Event, Rng, StreamWrite
from peerway.core.relay.access import KEY_REFUSED, Access, Question
from peerway.core.relay.frames import build_health
from peerway.core.relay.limits import RelayLimits
from peerway.core.relay.session import Ended, Identified, PacketsSent, ServerSession, Stage

RESTART_SPREAD_S = 2.0  # clients come back at random within it, not all at once
RESTART_TRY_FOR_S = 5.0
IPV6_SITE_PREFIX = 64  # one customer holds at least this much, so it counts as one address


@dataclass(frozen=True, slots=True)
class ClientConnected(Event):
    """A client is in: packets for `key` (32 bytes) now go to `stream`."""

    stream: str
    remote_ip: str
    key: bytes


@dataclass(frozen=True, slots=True)
class ClientDisconnected(Event):
    """A client's stream is over, and why."""

    stream: str
    remote_ip: str
    key: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionRefused(Event):
    """A stream that never became a client was turned away, and why."""

    stream: str
    remote_ip: str
    reason: str


class RelayServer(Composite[str]):
    """The relay. `allow` is asked about each client's key, `token` about what it shows: see `Access`.

    Packets are counted as clients send them and as they are handed on; those that a full queue drops
    later are in `drops`.
    """

    def __init__(
        self,
        rng: Rng,
        limits: RelayLimits | None = None,
        allow: Question | None = None,
        token: Question | None = None,
    ) -> None:
        super().__init__()
        self._rng = rng
        self._limits = limits or RelayLimits()
        self._access = Access(allow, token)
        self._sessions: dict[str, ServerSession] = {}
        self._by_key: dict[bytes, ServerSession] = {}
        self._remote_ips: dict[str, str] = {}
        self._per_ip: dict[str, int] = {}
        self._handshakes_per_ip: dict[str, int] = {}
        self._paused: dict[str, float] = {}  # since when, the longest first
        self._draining = False
        self.packets_received = 0
        self.packets_forwarded = 0

    @property
    def client_count(self) -> int:
        """How many clients are in."""
        return len(self._by_key)

    @property
    def stream_count(self) -> int:
        """How many streams are open, clients and others."""
        return len(self._sessions)

    @property
    def is_draining(self) -> bool:
        """Whether it is shutting down."""
        return self._draining

    # --- inputs

    def stream_accepted(self, stream: str, remote_ip: str, now: float) -> None:
        """A connection was accepted; `stream` is any name not in use. TLS may still have to follow."""
        if stream in self._sessions:
            raise ValueError(f"there is a stream {stream!r} already")
        problem = self._over_limit(remote_ip)
        if problem:
            self._drop(problem)
            self._events.append(CloseStream(stream))
            self._events.append(ConnectionRefused(stream, remote_ip, problem))
            return
        session = ServerSession(stream, self._rng, self.drops, self._limits, self._access, now)
        self._sessions[stream] = session
        self._remote_ips[stream] = remote_ip
        source = _counted_as(remote_ip)
        _count_in(self._per_ip, source)
        _count_in(self._handshakes_per_ip, source)
        self._adopt(stream, session)
        self._settle(now)

    def stream_data(self, stream: str, data: bytes | memoryview, now: float) -> None:
        """Bytes from a client; they may be overwritten afterwards."""
        session = self._session(stream)
        if session is not None:
            session.stream_data(data, now)
            self._settle(now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """A stream is gone; `error` is empty when it ended in peace."""
        session = self._session(stream)
        if session is not None:
            session.stream_closed(error)
            self._settle(now)

    def stream_paused(self, stream: str, now: float) -> None:
        """A stream takes no more bytes for now."""
        session = self._session(stream)
        if session is not None:
            session.stream_paused(now)
            self._paused[stream] = now
            self._thin_paused(now)
            self._settle(now)

    def stream_resumed(self, stream: str, now: float) -> None:
        """A stream takes bytes again."""
        session = self._session(stream)
        if session is not None:
            self._paused.pop(stream, None)
            session.stream_resumed()
            self._settle(now)

    def _thin_paused(self, now: float) -> None:
        """What waits for a client that does not read is bounded, so the number of such clients is, too."""
        while len(self._paused) > self._limits.unread_clients:
            stream, since = next(iter(self._paused.items()))
            if now - since < self._limits.unread_crowded_s:
                return
            del self._paused[stream]
            self._drop("client does not read")
            self._sessions[stream].close("took no bytes, as too many do not")
            self._touch(stream)

    def review(self, now: float) -> None:
        """Put out the clients that would not be admitted any more."""
        for session in list(self._by_key.values()):
            if not self._access.admits(session.key, session.token):
                self._turn_away(session, "not admitted any more", KEY_REFUSED)
        self._settle(now)

    def drain(self, now: float) -> None:
        """Shut down: accept nothing more, and let each client go once it has all that is for it.

        They are told when to come back. How long to wait for one that does not say that it has
        everything is for the caller to decide.
        """
        self._draining = True
        for session in list(self._sessions.values()):
            session.restart(self._rng.uniform(0.0, RESTART_SPREAD_S), RESTART_TRY_FOR_S)
            self._touch(session.stream)
        self._settle(now)

    # --- what sessions say

    def _child_event(self, key: str, event: Event, now: float) -> None:
        session = self._sessions[key]
        if isinstance(event, PacketsSent):
            self._forward(session, event, now)
        elif isinstance(event, Identified):
            self._identified(session, now)
        elif isinstance(event, Ended):
            self._ended(session, event)
        else:
            self._events.append(event)

    def _forward(self, sender: ServerSession, sent: PacketsSent, now: float) -> None:
        if sender.stage is not Stage.RELAYING:
            return
        self.packets_received += sent.count
        receiver = self._by_key.get(sent.destination)
        if receiver is None:
            self.drops["destination not here"] += sent.count
            sender.not_here(sent.destination, now)
            self._touch(sender.stream)
            return
        if sent.destination not in sender.correspondents:
            sender.meet(sent.destination)
            receiver.meet(sender.key)
        self.packets_forwarded += sent.count
        receiver.deliver(sent.frames)
        self._touch(receiver.stream)

    def _identified(self, session: ServerSession, now: float) -> None:
        if session.stage is not Stage.IDENTIFIED:
            return
        older = self._by_key.get(session.key)
        if not self._access.admits(session.key, session.token):
            self._turn_away(session, "key not admitted", KEY_REFUSED)
            return
        if older is None and len(self._by_key) >= self._limits.clients:
            self._turn_away(session, "too many clients", "this relay is full")
            return
        if older is not None:
            session.correspondents, older.correspondents = older.correspondents, {}
            del self._by_key[session.key]
            reason = "replaced by a newer connection"
            self._turn_away(older, reason, f"{reason} with the same key")
        self._by_key[session.key] = session
        _count_out(self._handshakes_per_ip, _counted_as(self._remote_ips[session.stream]))
        session.admit(now)
        self._touch(session.stream)
        self._events.append(ClientConnected(session.stream, self._remote_ips[session.stream], session.key))

    def _turn_away(self, session: ServerSession, reason: str, told: str) -> None:
        """Close a stream for `reason` and let the client know what it is `told`."""
        self._drop(reason)
        self._transmits.append(StreamWrite(session.stream, build_health(told)))
        session.close(reason)
        self._touch(session.stream)

    def _ended(self, session: ServerSession, ended: Ended) -> None:
        stream, remote_ip = session.stream, self._remote_ips.pop(session.stream)
        del self._sessions[stream]
        self._paused.pop(stream, None)
        self._release(stream)
        source = _counted_as(remote_ip)
        _count_out(self._per_ip, source)
        if session.was_admitted:
            self._events.append(ClientDisconnected(stream, remote_ip, session.key, ended.reason))
        else:
            _count_out(self._handshakes_per_ip, source)
            if ended.refused:
                self._events.append(ConnectionRefused(stream, remote_ip, ended.reason))
        if self._by_key.get(session.key) is session:
            del self._by_key[session.key]
            if not self._draining:
                self._tell_correspondents(session)

    def _tell_correspondents(self, gone: ServerSession) -> None:
        for key in gone.correspondents:
            peer = self._by_key.get(key)
            if peer is not None:
                peer.peer_left(gone.key)
                self._touch(peer.stream)

    # --- who may

    def _over_limit(self, remote_ip: str) -> str:
        if self._draining:
            return "shutting down"
        if len(self._sessions) - len(self._by_key) >= self._limits.handshakes:
            return "too many handshakes"
        if _is_loopback(remote_ip):
            return ""
        source = _counted_as(remote_ip)
        if self._per_ip.get(source, 0) >= self._limits.per_ip:
            return "too many connections from one address"
        if self._handshakes_per_ip.get(source, 0) >= self._limits.handshakes_per_ip:
            return "too many handshakes from one address"
        return ""

    def _session(self, stream: str) -> ServerSession | None:
        """The session of a stream; the stream is to be drained. None for one that is over already."""
        session = self._sessions.get(stream)
        if session is not None:
            self._touch(stream)
        return session


def _counted_as(remote_ip: str) -> str:
    address = parse_ip(remote_ip.partition("%")[0])
    if address.version == 4:
        return remote_ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address.packed, IPV6_SITE_PREFIX), strict=False))


def _count_in(counts: dict[str, int], source: str) -> None:
    counts[source] = counts.get(source, 0) + 1


def _count_out(counts: dict[str, int], source: str) -> None:
    counts[source] -= 1
    if not counts[source]:
        del counts[source]


def _is_loopback(remote_ip: str) -> bool:
    return parse_ip(remote_ip.partition("%")[0]).is_loopback
