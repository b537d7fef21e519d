"""Host names to IP addresses, by the system's resolver."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import cast

from peerway.core.machine import PeerwayError
from peerway.io.address import SocketAddress, from_socket_address

RESOLVE_TIMEOUT_S = 5.0
ADDRESSES_PER_NAME = 16

_NO_SUCH_NAME = tuple(getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name))


class ResolveError(PeerwayError):
    """A host name without addresses; the message says why in a person's words."""


async def resolve(name: str, timeout: float = RESOLVE_TIMEOUT_S) -> tuple[str, ...]:
    """The addresses of the host `name` in the system's order of preference, at least one.

    An IP address answers itself. `ResolveError` when there is none, or none within
    `timeout` seconds.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return (name,)
    if not name:
        raise ResolveError("the host name is empty")
    loop = asyncio.get_running_loop()
    try:
        lookup = loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        found = await asyncio.wait_for(lookup, timeout)
    except TimeoutError:
        raise ResolveError(f"no answer about {name!r} from the name server within {timeout:g} s") from None
    except socket.gaierror as error:
        raise ResolveError(_explain(name, error)) from None
    except (OSError, ValueError) as error:
        raise ResolveError(f"{name!r} could not be looked up: {error}") from None
    return _addresses(name, cast("list[SocketAddress]", [entry[4] for entry in found]))


def _addresses(name: str, found: list[SocketAddress]) -> tuple[str, ...]:
    ips = tuple(dict.fromkeys(from_socket_address(address).ip for address in found))
    if not ips:
        raise ResolveError(f"host {name!r} has no address")
    return ips[:ADDRESSES_PER_NAME]


def _explain(name: str, error: socket.gaierror) -> str:
    if error.errno in _NO_SUCH_NAME:
        return f"host {name!r} was not found; is it spelled right?"
    if error.errno == socket.EAI_AGAIN:
        return f"no name server answered about {name!r}; is there a network?"
    return f"{name!r} could not be looked up: {error.strerror}"
