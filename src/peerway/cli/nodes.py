"""What `listen`, `connect` and `ping` share: opening a node from settings, and telling its paths."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peerway.cli.errors import CommandError, UsageError
from peerway.cli.logs import event_text
from peerway.cli.output import Output
from peerway.connection import Connection
from peerway.core.identity import NodeId, SecretKey
from peerway.core.machine import Address, PeerwayError, RelayAddress
from peerway.core.path.events import PathEvent, PathKind, PathSelected
from peerway.io.keyfile import load_or_create
from peerway.io.state import reason
from peerway.io.tokenfile import load_tokens
from peerway.node import Node

DEFAULT_PORT = 41641
NO_RELAY = (
    "no relay: only direct addresses will do. `peerway serve` runs one; "
    "then --relay URL, or PEERWAY_RELAY, on both sides"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """The settings of a node, as given. `port` None is the usual one, or any when that is taken."""

    relays: Sequence[str] = ()
    stun: Sequence[str] = ()
    port: int | None = None
    key: Path | None = None
    allow: Sequence[str] = ()
    accept_ticket: bool = True
    advertise: Sequence[str] = ()
    portmap: bool = True
    ca: Path | None = None
    token_file: Path | None = None


@contextlib.asynccontextmanager
async def open_node(options: NodeOptions) -> AsyncIterator[Node]:
    """A running node, closed at the end."""
    key = load_or_create(options.key) if options.key else None
    allow = [NodeId.parse(text) for text in options.allow]
    async with contextlib.AsyncExitStack() as stack:
        if options.port is not None:
            node = _made(options, key, allow, options.port)
            try:
                await stack.enter_async_context(node)
            except OSError as error:
                raise CommandError(
                    f"cannot use UDP port {options.port}: {reason(error)}",
                    "choose another --port, or leave it out for any that is free",
                ) from error
        else:
            node = await _enter_at_usual_port(stack, options, key, allow)
        yield node


async def _enter_at_usual_port(
    stack: contextlib.AsyncExitStack, options: NodeOptions, key: SecretKey | None, allow: Sequence[NodeId]
) -> Node:
    try:
        return await stack.enter_async_context(_made(options, key, allow, DEFAULT_PORT))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    return await stack.enter_async_context(_made(options, key, allow, 0))


def _made(options: NodeOptions, key: SecretKey | None, allow: Sequence[NodeId], port: int) -> Node:
    try:
        return Node(
            key,
            relays=options.relays,
            stun=options.stun,
            port=port,
            advertise=options.advertise,
            allow=allow,
            accept_ticket=options.accept_ticket,
            portmap=options.portmap,
            ca=options.ca,
            relay_token=load_tokens(options.token_file)[0] if options.token_file else None,
        )
    except PeerwayError as error:
        raise UsageError(str(error)) from error


@contextlib.asynccontextmanager
async def paths_told(connection: Connection, output: Output) -> AsyncIterator[None]:
    """Tell every change of the path as it happens: to people, as JSON, and all its causes with `-v`."""
    task = asyncio.create_task(_tell_paths(connection, output))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _tell_paths(connection: Connection, output: Output) -> None:
    for _, event in connection.history:
        _tell(connection, output, event)
    async for event in connection.path_events():
        _tell(connection, output, event)


def _tell(connection: Connection, output: Output, event: PathEvent) -> None:
    logger.info("path %s peer=%s", event_text(event), connection.peer.short)
    if isinstance(event, PathSelected):
        output.notice(f"{connection.peer.short}: {_words(event)}")
        output.record(
            "path",
            peer=str(connection.peer),
            kind=None if event.kind is None else path_kind(event.kind),
            remote=place(event.remote),
            rtt_ms=milliseconds(event.round_trip),
            reason=event.reason,
        )


def path_kind(kind: PathKind) -> str:
    """The two kinds users know: `direct` and `relay`."""
    return "relay" if kind is PathKind.RELAY else "direct"


def place(remote: Address | None) -> str | None:
    """Where a path leads, without the word that its kind says already: an address, or a relay's URL."""
    return remote.url if isinstance(remote, RelayAddress) else None if remote is None else str(remote)


def milliseconds(seconds: float | None) -> float | None:
    """For JSON: milliseconds with three decimals."""
    return None if seconds is None else round(1000 * seconds, 3)


def _words(event: PathSelected) -> str:
    if event.remote is None or event.kind is None:
        return f"no path: {event.reason}"
    if event.kind is PathKind.RELAY:
        return f"through the relay {place(event.remote)}"
    return f"direct, {event.remote}"
