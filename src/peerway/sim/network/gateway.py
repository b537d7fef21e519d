"""A router that gives ports on request: NAT-PMP (RFC 6886) and PCP (RFC 6887), over a simulated NAT.

It answers as a real one does, in whichever of the two it is asked. The address and the state are the
NAT's own: when that reboots, the clock that answers carry starts anew, and clients see it.
"""

from __future__ import annotations

import ipaddress
import struct

from peerway.core.machine import Datagram, Leaf, Transmit, UdpAddress
from peerway.sim.network.host import Host
from peerway.sim.network.link import LinkQuality
from peerway.sim.network.nat import Nat
from peerway.sim.network.tree import Router
from peerway.sim.network.world import World

PORT = 5351
LONGEST_S = 3600
_UDP = 17
_UNSUPPORTED_VERSION, _UNSUPPORTED_OPCODE, _ADDRESS_MISMATCH, _NO_RESOURCES = 1, 4, 12, 8
_PMP_OUT_OF_RESOURCES, _PMP_UNSUPPORTED_OPCODE = 4, 5
_PCP_HEADER, _PCP_MAP = 24, 60


def offer_ports(world: World, router: Router, ip: str) -> Host:
    """Have `router`, which translates, give ports to hosts on its inside that ask at its address `ip`."""
    if router.nat4 is None:
        raise ValueError(f"{router.name} translates nothing")
    host = Host(world, f"{router.name}/ports")
    host.attach(router, f"{ip}/24", quality=LinkQuality(delay_s=0.0), metric=None)
    host.run(PortServer(router.nat4), (host.open_udp(PORT, ip),))
    return host


class PortServer(Leaf):
    """The server of the NAT `nat`."""

    def __init__(self, nat: Nat) -> None:
        super().__init__()
        self._nat = nat
        self._boots = nat.boots
        self._started = 0.0

    def receive(self, datagram: Datagram, now: float) -> None:
        """Requests from a host inside."""
        if self._nat.boots != self._boots:
            self._boots, self._started = self._nat.boots, now
        client = datagram.remote
        if not isinstance(client, UdpAddress):
            return
        for request in datagram.segments():
            answer = self._answer(request, client, now)
            if answer:
                self._transmits.append(Transmit((answer,), client, datagram.local))

    def _answer(self, request: bytes, client: UdpAddress, now: float) -> bytes:
        if len(request) < 2 or request[1] & 0x80:
            return b""
        if request[0] == 0:
            return self._nat_pmp(request, client, now)
        if request[0] != 2:
            return self._pcp_head(request, _UNSUPPORTED_VERSION, 0, now)
        return self._pcp(request, client, now)

    def _epoch(self, now: float) -> int:
        return int(now - self._started)

    def _map(self, client: UdpAddress, internal: int, external: int, lifetime: int, now: float) -> int:
        inside = UdpAddress(client.ip, internal)
        if not lifetime:
            self._nat.unforward(inside)
            return 0
        return self._nat.forward(inside, external or internal, now + lifetime, now)

    # --- NAT-PMP

    def _nat_pmp(self, request: bytes, client: UdpAddress, now: float) -> bytes:
        opcode = request[1]
        if opcode == 0:
            outside = ipaddress.IPv4Address(self._nat.forward_ip(client.ip)).packed
            return struct.pack(">BBHI", 0, 128, 0, self._epoch(now)) + outside
        if opcode != 1 or len(request) != 12:
            return struct.pack(">BBHI", 0, 128 + opcode, _PMP_UNSUPPORTED_OPCODE, self._epoch(now))
        internal, external, lifetime = struct.unpack_from(">HHI", request, 4)
        lifetime = min(lifetime, LONGEST_S)
        granted = self._map(client, internal, external, lifetime, now)
        result = _PMP_OUT_OF_RESOURCES if lifetime and not granted else 0
        return struct.pack(">BBHIHHI", 0, 129, result, self._epoch(now), internal, granted, lifetime)

    # --- PCP

    def _pcp_head(self, request: bytes, result: int, lifetime: int, now: float) -> bytes:
        return struct.pack(">BBBBII12x", 2, 128 | request[1], 0, result, lifetime, self._epoch(now))

    def _pcp(self, request: bytes, client: UdpAddress, now: float) -> bytes:
        if len(request) < _PCP_HEADER:
            return b""
        if request[8:24] != ipaddress.IPv6Address(f"::ffff:{client.ip}").packed:
            return self._pcp_head(request, _ADDRESS_MISMATCH, 0, now) + request[_PCP_HEADER:]
        if request[1] == 0:
            return self._pcp_head(request, 0, 0, now)
        if request[1] != 1 or len(request) < _PCP_MAP or request[36] != _UDP:
            return self._pcp_head(request, _UNSUPPORTED_OPCODE, 0, now) + request[_PCP_HEADER:]
        lifetime = min(int.from_bytes(request[4:8], "big"), LONGEST_S)
        internal, external = struct.unpack_from(">HH", request, 40)
        granted = self._map(client, internal, external, lifetime, now)
        if lifetime and not granted:
            return self._pcp_head(request, _NO_RESOURCES, 30, now) + request[_PCP_HEADER:]
        outside = ipaddress.IPv6Address(f"::ffff:{self._nat.forward_ip(client.ip)}").packed
        mapped = request[24:42] + granted.to_bytes(2, "big") + outside
        return self._pcp_head(request, 0, lifetime, now) + mapped
