"""Host names to IP addresses, by the system's resolver.

It blocks, for half a minute when no name server answers, and cannot be interrupted. So each name
that is looked up has a thread of its own that nobody has to wait for: not another name, as in a
pool, nor the end of the program. Who asks for the name meanwhile waits for the same answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import cast

from peerway.core.machine import PeerwayError
from peerway.io.address import SocketAddress, from_socket_address

RESOLVE_TIMEOUT_S = 7.0  # glibc asks the second name server after 5 s
ADDRESSES_PER_NAME = 16
LOOKUPS_AT_ONCE = 64  # those included that nobody waits for any more

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
    try:
        found = await asyncio.wait_for(_look_up(name), timeout)
    except TimeoutError:
        raise ResolveError(f"no answer about {name!r} from the name server within {timeout:g} s") from None
    except socket.gaierror as error:
        raise ResolveError(_explain(name, error)) from None
    except (OSError, ValueError) as error:
        raise ResolveError(f"{name!r} could not be looked up: {error}") from None
    return _addresses(name, found)


Outcome = list[SocketAddress] | Exception

_lookups: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Outcome]] = {}


async def _look_up(name: str) -> list[SocketAddress]:
    loop = asyncio.get_running_loop()
    lookup = _lookups.get((loop, name))
    if lookup is None:
        if len(_lookups) >= LOOKUPS_AT_ONCE:
            raise ResolveError(f"{name!r} is not looked up: {LOOKUPS_AT_ONCE} other names still are")
        lookup = loop.create_future()
        try:
            threading.Thread(target=_ask, args=(name, loop), name=f"resolve {name}", daemon=True).start()
        except RuntimeError as error:  # the system has no thread to give
            raise ResolveError(f"{name!r} could not be looked up: {error}") from None
        _lookups[loop, name] = lookup
    outcome = await asyncio.shield(lookup)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _ask(name: str, loop: asyncio.AbstractEventLoop) -> None:
    """In its thread: ask, and tell those who wait in `loop`, if it still runs."""
    outcome: Outcome
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        outcome = cast("list[SocketAddress]", [entry[4] for entry in found])
    except (OSError, ValueError) as error:
        outcome = error
    try:
        loop.call_soon_threadsafe(_answered, name, loop, outcome)
    except RuntimeError:  # the loop is closed
        _lookups.pop((loop, name), None)


def _answered(name: str, loop: asyncio.AbstractEventLoop, outcome: Outcome) -> None:
    _lookups.pop((loop, name)).set_result(outcome)


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
