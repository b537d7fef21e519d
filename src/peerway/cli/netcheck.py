"""`peerway netcheck`: what this machine sits behind, whom it can meet, and what would help."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from peerway.cli import runner, settings
from peerway.cli.app import with_output
from peerway.cli.errors import Exit, UsageError
from peerway.cli.logs import printable
from peerway.cli.output import Output, is_live
from peerway.core.machine import PeerwayError, UdpAddress
from peerway.core.netcheck.knowledge import Question
from peerway.core.netcheck.machine import NoServersError
from peerway.core.netcheck.record import record
from peerway.core.netcheck.report import Report
from peerway.core.netcheck.text import render
from peerway.core.netcheck.verdict import judge
from peerway.core.places import is_loopback, parse_stun_server
from peerway.core.relay.url import RelayUrl
from peerway.io.netcheck import check
from peerway.io.tls import trust_also
from peerway.node import Node

SLOW_NOTICE = "how long mappings live takes minutes to see: up to 15 of them"


@click.command("netcheck")
@click.option("--slow", is_flag=True, help="also see how long mappings live: takes minutes")
@click.option(
    "--hairpin",
    is_flag=True,
    help="also see whether our own outside address leads back in; some firewalls take it for an attack",
)
@click.option(
    "--every",
    type=click.FloatRange(1.0),
    metavar="SECONDS",
    help="look again and again, with a few packets, until Ctrl-C",
)
@settings.options("netcheck")
@with_output
def command(
    output: Output,
    slow: bool,
    hairpin: bool,
    every: float | None,
    relay: tuple[str, ...],
    stun: tuple[str, ...],
    portmap: bool | None,
    ca: Path | None,
) -> Exit:
    """Find out what this machine sits behind: NATs, firewalls, portals, and how far the relays are.

    Asks the relays and STUN servers it is given; takes three seconds, six at worst. The router is
    asked for a port, which it gets back at the end.

    \b
      peerway netcheck --relay URL
      peerway netcheck --stun stun.example.org:3478 --json
    """
    try:
        servers = tuple(parse_stun_server(text) for text in stun)
        trust = trust_also(ca) if ca else None
    except PeerwayError as error:
        raise UsageError(str(error)) from error
    question = Question(
        tuple(dict.fromkeys(RelayUrl.parse(url) for url in relay)), servers, hairpin=hairpin, slow=slow
    )
    if not question.servers:
        raise UsageError(str(NoServersError()))
    everything_here = all(is_loopback(host) for host, _ in question.servers)
    asks_routers = portmap is not False and not everything_here
    return runner.run(_netcheck(output, question, every, asks_routers, trust))


async def _netcheck(
    output: Output,
    question: Question,
    every: float | None,
    asks_routers: bool,
    trust: ssl.SSLContext | None,
) -> Exit:
    if question.slow:
        output.notice(SLOW_NOTICE)
    stun = [str(UdpAddress(host, port)) for host, port in question.servers]
    async with Node(stun=stun, portmap=asks_routers, accept_ticket=False) as node:
        ask = partial(check, question, gateways=lambda: node.gateways, trust=trust)
        with _progress(output) as tell:
            report = await ask(on_progress=tell)
        _show(output, report)
        while every is not None:
            await asyncio.sleep(every)
            previous, report = report, await ask(report)
            if _gist(report) == _gist(previous):
                _show_unchanged(output, report)
            else:
                _show(output, report)
    return Exit.OK if _anyone_answered(report) else Exit.FAILED


def _show(output: Output, report: Report) -> None:
    output.result(render(report))
    output.record("netcheck", **record(report))


def _show_unchanged(output: Output, report: Report) -> None:
    trips = [relay for relay in report.relays if relay.url == report.home_relay]
    home = f"; {trips[0].url}: {1000 * (trips[0].round_trip or 0):.1f} ms" if trips else ""
    output.result(f"as before: {judge(report).name}{home}")
    output.record("netcheck", **record(report))


def _gist(report: Report) -> tuple[object, ...]:
    """What is worth telling when it changes: latencies are not."""
    told = record(report)
    return tuple(told[name] for name in told if name not in ("relays", "allocation", "lifetime"))


def _anyone_answered(report: Report) -> bool:
    return bool(report.udp_v4 or report.udp_v6) or any(relay.via for relay in report.relays)


@contextlib.contextmanager
def _progress(output: Output) -> Iterator[Callable[[str], None]]:
    """Where findings are told as they come: on one line of a terminal, which goes away, else line by line."""
    if output.verbosity < 0 or not is_live(sys.stderr):
        yield output.notice
        return
    with Console(stderr=True).status("asking around") as status:
        yield lambda text: status.update(escape(printable(text)))
