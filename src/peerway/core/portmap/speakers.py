"""The clients of every protocol at one gateway, each with a socket of its own.

Sockets of their own because a server answers in its own version of the protocol: an answer then belongs
to the question that was asked from there. And not the shared one: NAT-PMP's first byte is 0, as STUN's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peerway.core.machine import CloseSocket, Composite, Datagram, Event, Rng, UdpAddress, WireError
from peerway.core.portmap.client import ClientEvent, NotSpoken
from peerway.core.portmap.igd_client import IgdClient
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.natpmp_client import NatPmpClient
from peerway.core.portmap.pcp_client import PcpClient
from peerway.core.portmap.report import Protocol
from peerway.core.portmap.uplink import Uplink

Client = NatPmpClient | PcpClient | IgdClient


@dataclass(frozen=True, slots=True)
class Said(Event):
    """What the client of one protocol tells."""

    protocol: Protocol
    event: ClientEvent


class Speakers(Composite[Protocol]):
    """Probes in each protocol as soon as it has a socket."""

    def __init__(self, uplink: Uplink, rng: Rng) -> None:
        super().__init__()
        self._uplink = uplink
        self._rng = rng
        self._clients: dict[Protocol, Client] = {}
        self._sockets: dict[UdpAddress, Protocol] = {}

    # --- what is asked of them

    def probe(self, protocol: Protocol, now: float) -> None:
        """See whether the gateway speaks it, or remembers us."""
        self._use(protocol, lambda client: client.probe(now), now)

    def map(self, lease: Lease, now: float, *, renewal: bool = False) -> None:
        """Have a lease granted, or prolonged."""
        self._use(lease.protocol, lambda client: client.map(lease, now, renewal=renewal), now)

    def release(self, lease: Lease, now: float) -> None:
        """Have a lease removed."""
        self._use(lease.protocol, lambda client: client.release(lease, now), now)

    def stop_asking(self, protocol: Protocol, now: float) -> None:
        """Forget what is being asked in a protocol."""
        self._use(protocol, lambda client: client.stop_asking(now), now)

    def close(self) -> None:
        """Close the sockets; nothing more is asked."""
        self._events.extend(CloseSocket(local) for local in self._sockets)
        self._sockets.clear()

    # --- inputs

    def socket_opened(self, protocol: Protocol, local: UdpAddress, now: float) -> None:
        """The socket for one protocol: ask from there whether the gateway speaks it."""
        self._sockets[local] = protocol
        client = self._clients[protocol] = self._client(protocol, local)
        self._adopt(protocol, client)
        self.probe(protocol, now)

    def socket_failed(self, protocol: Protocol, error: str) -> None:
        """There is no socket for one protocol."""
        self._events.append(Said(protocol, NotSpoken(f"there is no socket to ask from: {error}")))

    def owns_socket(self, local: UdpAddress) -> bool:
        """Whether the socket is one of ours."""
        return local in self._sockets

    def receive(self, datagram: Datagram, now: float) -> None:
        """What came to one of our sockets."""
        protocol = self._sockets.get(datagram.local) if datagram.local is not None else None
        if protocol is not None:
            self._use(protocol, lambda client: client.receive(datagram, now), now)

    def announced(self, data: bytes, now: float) -> None:
        """What the gateway told everybody on the network; of no use, it is counted."""
        protocol = Protocol.NAT_PMP if data[:1] == b"\0" else Protocol.PCP
        client = self._clients.get(protocol)
        try:
            if isinstance(client, NatPmpClient | PcpClient):
                client.announced(data, now)
                self._touch(protocol)
        except WireError as error:
            self._drop(str(error))
        self._settle(now)

    def owns_stream(self, stream: str) -> bool:
        """Whether the stream is of a UPnP exchange here."""
        client = self._clients.get(Protocol.UPNP)
        return isinstance(client, IgdClient) and client.owns(stream)

    def stream_opened(self, stream: str, now: float) -> None:
        """The stream of a UPnP exchange stands."""
        self._use_igd(lambda client: client.stream_opened(stream, now), now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """Bytes of a UPnP exchange."""
        self._use_igd(lambda client: client.stream_data(stream, data, now), now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """The stream of a UPnP exchange is over."""
        self._use_igd(lambda client: client.stream_closed(stream, error, now), now)

    # --- inside

    def _client(self, protocol: Protocol, local: UdpAddress) -> Client:
        gateway = self._uplink.gateway
        if protocol is Protocol.PCP:
            return PcpClient(gateway, local, self._uplink.internal.ip, self._rng)
        if protocol is Protocol.NAT_PMP:
            return NatPmpClient(gateway, local)
        return IgdClient(gateway, local, self._rng)

    def _use(self, protocol: Protocol, use: Callable[[Client], None], now: float) -> None:
        client = self._clients.get(protocol)
        if client is not None:
            use(client)
            self._touch(protocol)
        self._settle(now)

    def _use_igd(self, use: Callable[[IgdClient], None], now: float) -> None:
        self._use(Protocol.UPNP, lambda client: use(client) if isinstance(client, IgdClient) else None, now)

    def _child_event(self, key: Protocol, event: Event, now: float) -> None:
        self._events.append(Said(key, event) if isinstance(event, ClientEvent) else event)
