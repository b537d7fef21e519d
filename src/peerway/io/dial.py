"""A TCP connection to a host that may have many addresses (RFC 8305, "happy eyeballs").

Addresses of both families take turns; the next is tried when the last one failed, or after
`ATTEMPT_DELAY_S`, and the first that answers wins. Ours because not every event loop has
it, and because asyncio's loses the reason when several addresses fail.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import Sequence

from peerway.core.machine import UdpAddress
from peerway.io.address import family_of, to_socket_address
from peerway.io.resolve import resolve

ATTEMPT_DELAY_S = 0.25  # RFC 8305 section 5
DIALED_ADDRESSES = 8

# What an address says that this machine has no way to; EINVAL: a link-local one without a zone.
_SAYS_LITTLE = (
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EINVAL,
)


async def dial(host: str, port: int) -> socket.socket:
    """A connected, non-blocking TCP socket.

    `ResolveError` when the name has no address, else the most telling `OSError` of the
    attempts. There is no timeout here: the caller's covers TLS as well.
    """
    return await _first_connected(alternate_families(await resolve(host))[:DIALED_ADDRESSES], port)


def alternate_families(ips: Sequence[str]) -> list[str]:
    """The addresses with both families taking turns, beginning with the family of the first."""
    if not ips:
        return []
    first = [ip for ip in ips if family_of(ip) == family_of(ips[0])]
    other = [ip for ip in ips if family_of(ip) != family_of(ips[0])]
    pairs = itertools.zip_longest(first, other)
    return [ip for pair in pairs for ip in pair if ip is not None]


async def _first_connected(ips: list[str], port: int) -> socket.socket:
    running: list[asyncio.Task[socket.socket | OSError]] = []
    errors: list[OSError] = []
    try:
        while ips or running:
            if ips:
                running.append(asyncio.create_task(_attempt(ips.pop(0), port)))
            delay = ATTEMPT_DELAY_S if ips else None
            await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task.done()]:
                running.remove(task)
                result = task.result()
                if isinstance(result, socket.socket):
                    return result
                errors.append(result)
    finally:
        await _abandon(running)
    raise next((error for error in errors if error.errno not in _SAYS_LITTLE), errors[0])


async def _attempt(ip: str, port: int) -> socket.socket | OSError:
    """The error is returned: a task that lost the race must not end with an exception nobody collects."""
    try:
        sock = socket.socket(family_of(ip), socket.SOCK_STREAM)
    except OSError as error:
        return error
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, to_socket_address(UdpAddress(ip, port)))
    except OSError as error:
        sock.close()
        return error
    except BaseException:
        sock.close()
        raise
    return sock


async def _abandon(tasks: list[asyncio.Task[socket.socket | OSError]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and isinstance(result := task.result(), socket.socket):
            result.close()
