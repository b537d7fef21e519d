"""Sends a `Transmit` in as few system calls as the system allows.

On Linux up to 64 equal segments leave in one `sendmsg` (UDP_SEGMENT, "GSO") and the kernel
or the network card cuts them apart. Elsewhere, and where the route cannot (EIO), one call
a segment. Here is no queue and no event loop: a full socket is told to the caller.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Sequence

from peerway.core.machine import RelayAddress, Transmit, UdpAddress
from peerway.io.address import SocketAddress, family_of, to_socket_address
from peerway.io.udp_options import SOL_UDP, UDP_SEGMENT, Offload, ttl_control, ttl_option

GSO_SEGMENTS = 64  # UDP_MAX_SEGMENTS of older kernels
GSO_BYTES = 65_000  # one IP packet's payload (65,507 over IPv4), with room to spare
KNOWN_REMOTES = 4096

_UINT16 = struct.Struct("=H")
_INT = struct.Struct("=i")

ControlMessage = tuple[int, int, bytes]


def check_segments(segments: Sequence[bytes]) -> None:
    """`ValueError` unless all segments are of one size, the last perhaps shorter.

    The kernel cuts by the first segment's size: others would arrive cut in the wrong place.
    """
    if len(segments) < 2:
        return
    size, last = len(segments[0]), len(segments[-1])
    if last > size or sum(map(len, segments)) != size * (len(segments) - 1) + last:
        raise ValueError("the segments of a Transmit are of one size, the last perhaps shorter")


class SegmentSender:
    """The sending half of one bound, non-blocking UDP socket.

    `gso` says whether several segments go in one call; it turns itself off for good when
    the system answers EIO. Losses that say nothing about the path are counted in `drops`.
    """

    def __init__(self, sock: socket.socket, offload: Offload, drops: Counter[str]) -> None:
        self.gso = offload.gso
        self._socket = sock
        self._drops = drops
        self._ttl_control = ttl_control(sock) if offload.ttl_control else None
        self._ttl_option = ttl_option(sock)
        self._remotes: dict[UdpAddress, SocketAddress] = {}

    def send(self, transmit: Transmit, start: int = 0) -> tuple[int, OSError | None]:
        """Send the segments from index `start` on.

        Returns the index of the first segment a full socket did not take (the number of
        segments when all are gone), and the first error, after which the rest was still tried.
        """
        segments = transmit.segments
        try:
            remote = self._remote(transmit.remote)
        except OSError as error:
            return len(segments), error
        limit = _segments_per_call(segments) if self.gso else 1
        first_error: OSError | None = None
        while start < len(segments):
            batch = segments[start : start + limit]
            try:
                self._send_batch(batch, remote, transmit.ttl)
            except BlockingIOError:
                return start, first_error
            except OSError as error:
                if len(batch) > 1 and self._blames_gso(error):
                    limit = 1
                    continue
                first_error = first_error or self._judged(error)
            start += len(batch)
        return start, first_error

    def _send_batch(self, batch: Sequence[bytes], remote: SocketAddress, ttl: int | None) -> None:
        control: list[ControlMessage] = []
        if len(batch) > 1:
            control.append((SOL_UDP, UDP_SEGMENT, _UINT16.pack(len(batch[0]))))
        if ttl is None:
            self._call(batch, control, remote)
        elif self._ttl_control is not None:
            control.append((*self._ttl_control, _INT.pack(ttl)))
            self._call(batch, control, remote)
        else:
            self._call_with_ttl_option(batch, control, remote, ttl)

    def _call(self, batch: Sequence[bytes], control: list[ControlMessage], remote: SocketAddress) -> None:
        if hasattr(self._socket, "sendmsg"):
            self._socket.sendmsg(batch, control, 0, remote)
        else:
            self._socket.sendto(batch[0], remote)

    def _call_with_ttl_option(
        self, batch: Sequence[bytes], control: list[ControlMessage], remote: SocketAddress, ttl: int
    ) -> None:
        usual = self._socket.getsockopt(*self._ttl_option)
        self._socket.setsockopt(*self._ttl_option, ttl)
        try:
            self._call(batch, control, remote)
        finally:
            self._socket.setsockopt(*self._ttl_option, usual)

    def _blames_gso(self, error: OSError) -> bool:
        """Whether sending one by one may do better: EIO for good, the others this once.

        EINVAL and EMSGSIZE are what kernels say when a segment exceeds the interface's MTU;
        then the error of the single segment is the one worth telling.
        """
        if error.errno == errno.EIO:
            self.gso = False
        return error.errno in (errno.EIO, errno.EINVAL, errno.EMSGSIZE)

    def _judged(self, error: OSError) -> OSError | None:
        # BSDs say ENOBUFS when an interface's queue is full: loss, which every sender must
        # bear anyway, and no news about the path.
        if error.errno == errno.ENOBUFS:
            self._drops["send: interface queue full"] += 1
            return None
        return error

    def _remote(self, remote: UdpAddress | RelayAddress) -> SocketAddress:
        if isinstance(remote, RelayAddress):
            raise OSError(errno.EAFNOSUPPORT, f"{remote} is not a UDP address")
        known = self._remotes.get(remote)
        if known is not None:
            return known
        if family_of(remote.ip) != self._socket.family:
            raise OSError(errno.EAFNOSUPPORT, f"{remote} is of another address family than the socket")
        if len(self._remotes) >= KNOWN_REMOTES:
            self._remotes.clear()
        return self._remotes.setdefault(remote, to_socket_address(remote))


def _segments_per_call(segments: Sequence[bytes]) -> int:
    size = len(segments[0]) if segments else 0
    return max(1, min(GSO_SEGMENTS, GSO_BYTES // size)) if size else 1
