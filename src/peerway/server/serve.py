"""A relay and a STUN server, side by side on one machine, for as long as a `with` block lasts.

async with Server(tls="self-signed", public_host="relay.example.org") as server:
    print(server.url)  # what others pass as --relay
    await asyncio.Event().wait()
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from peerway.core.machine import UdpAddress
from peerway.core.relay.limits import RelayLimits
from peerway.core.relay.server import RelayServer
from peerway.core.relay.url import PLAIN_PORT, STUN_PORT, TLS_PORT, RelayUrl, canonical_host
from peerway.io import clock
from peerway.server.admission import LOOK_EVERY_S, Ways
from peerway.server.certificate import (
    CertificateError,
    ServerCertificate,
    load,
    load_or_make,
    self_signed,
)
from peerway.server.listen import EVERYWHERE, TcpListener, bind_all, check_host, parse_place
from peerway.server.metrics import Figures, MetricsService
from peerway.server.relay import RelayService
from peerway.server.stun import StunService

logger = logging.getLogger("peerway.server")


class Server:
    """Relay and STUN at `host` (addresses; all of this machine's unless told otherwise).

    - `relay_port` is 443 with TLS and 3340 without unless given; 0 takes any that is free.
    - `certificate` and `key` are PEM files. With `tls="self-signed"` they are made when they do not
      exist, or kept in memory only when not named; the URL then carries the pin. With neither, the
      relay is plain HTTP: for laboratories, and behind a TLS proxy.
    - `stun_other_port` is a second port for STUN, 0 any that is free. With it clients find out whether
      their NAT looks at ports, with two addresses (of one family, named in `host`) also whether it looks
      at addresses (RFC 5780). Two such addresses have a second port, the next one, also unasked.
    - `public_host` is how others reach this machine: a name or an address, for `url`.
    - `allow` is asked about each client's 32-byte key; whatever it raises means no. In its place
      `allow_file` lists node ids; `token_file` holds tokens that clients may show. Each is a way in, and
      with neither all are admitted. They are read again when they change (see `admission`).
    - `metrics` is an address and port, "127.0.0.1:9464", for Prometheus to scrape; None for no such port.

    Making one raises ValueError for arguments that cannot be meant (`RelayUrlError` for a `public_host`
    that is no host). Entering the context raises `ListenError`, `CertificateError`, `AdmissionError` or
    `TokenFileError`; leaving it lets clients know, flushes what was accepted for them, and frees
    everything within a few seconds.
    """

    def __init__(
        self,
        *,
        host: str | Sequence[str] = EVERYWHERE,
        relay_port: int | None = None,
        stun_port: int = STUN_PORT,
        stun_hosts: Sequence[str] | None = None,
        stun_other_port: int | None = None,
        public_host: str | None = None,
        tls: Literal["self-signed"] | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        limits: RelayLimits | None = None,
        allow: Callable[[bytes], bool] | None = None,
        allow_file: str | Path | None = None,
        token_file: str | Path | None = None,
        metrics: str | None = None,
    ) -> None:
        if (certificate is None) != (key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        if tls not in (None, "self-signed"):
            raise ValueError(f"tls={tls!r} is not known: 'self-signed' or nothing")
        hosts = [host] if isinstance(host, str) else host
        self._hosts = [check_host(each) for each in hosts]
        self._stun_hosts = self._hosts if stun_hosts is None else [check_host(each) for each in stun_hosts]
        if not self._hosts or not self._stun_hosts:
            raise ValueError("no address to listen at")
        self._encrypted = tls is not None or certificate is not None
        self._self_signed = tls == "self-signed"
        self._files = (Path(certificate), Path(key)) if certificate is not None and key is not None else None
        self._wanted_relay_port = relay_port
        self._wanted_stun_port = stun_port
        self._wanted_other_port = stun_other_port
        if stun_other_port and stun_other_port == stun_port:
            raise ValueError(f"STUN's other port is to be another one than {stun_port}")
        self._public_host = canonical_host(public_host or _reachable_at(self._hosts))
        self._metrics_place = parse_place(metrics) if metrics is not None else None
        self._metrics: MetricsService | None = None
        self._entered_at = 0.0
        if allow is not None and allow_file is not None:
            raise ValueError("allow and allow_file exclude each other")
        self._ways = Ways(allow_file, token_file)
        self._machine = RelayServer(
            random.SystemRandom(),
            limits,
            self._ways.allow.has_key if self._ways.allow else allow,
            self._ways.tokens.has_token if self._ways.tokens else None,
        )
        self._watching: asyncio.Task[None] | None = None
        self._certificate: ServerCertificate | None = None
        self._relay: RelayService | None = None
        self._stun: StunService | None = None
        self._relay_port = 0
        self._reading = asyncio.Lock()  # one after the other, or what was read first might stay

    # --- what is served

    @property
    def relay_port(self) -> int:
        """The relay's TCP port."""
        self._check_entered()
        return self._relay_port

    @property
    def stun_port(self) -> int:
        """The STUN server's UDP port."""
        return self._entered_stun().port

    @property
    def stun_other_port(self) -> int | None:
        """The STUN server's second UDP port, None without one."""
        return self._entered_stun().other_port

    @property
    def stun_offers(self) -> tuple[str, ...]:
        """What the STUN server changes in its answers for who asks: "address", "port"; RFC 5780."""
        return self._entered_stun().offers

    @property
    def metrics_address(self) -> str | None:
        """Where metrics can be scraped, "ip:port"; None for nowhere."""
        self._check_entered()
        if self._metrics is None or self._metrics_place is None:
            return None
        return str(UdpAddress(self._metrics_place[0], self._metrics.port))

    @property
    def url(self) -> str:
        """What others need to know to use this server: host, ports, and the pin where it has one."""
        return str(
            RelayUrl(
                self._public_host,
                self.relay_port,
                tls=self._encrypted,
                stun_port=self.stun_port,
                pin=self._certificate.pin if self._certificate else None,
            )
        )

    @property
    def client_count(self) -> int:
        """How many clients the relay has now."""
        return self._machine.client_count

    @property
    def drops(self) -> Counter[str]:
        """What was not forwarded or not answered, by reason."""
        relay = {f"relay: {reason}": count for reason, count in self._machine.drops.items()}
        stun = self._stun.dropped if self._stun else Counter[str]()
        return Counter(relay | {f"stun: {reason}": count for reason, count in stun.items()})

    # --- as long as it lasts

    async def __aenter__(self) -> Self:
        if self._relay is not None or self._stun is not None:
            raise RuntimeError("this server was entered before; make a new one")
        context = await asyncio.to_thread(self._first_context)
        await asyncio.to_thread(self._ways.open)
        self._stun = StunService(self._stun_hosts, self._wanted_stun_port, self._other_port_to_bind())
        listeners: list[TcpListener] = []
        try:
            listeners += bind_all("the relay", self._hosts, self._port_to_bind(), TcpListener)
            for_metrics = self._metrics_listener()
        except BaseException:
            self._stun.close()
            for listener in listeners:
                listener.close()
            raise
        self._relay_port = listeners[0].port
        self._relay = RelayService(self._machine, listeners, context)
        self._entered_at = clock.now()
        if for_metrics is not None:
            self._metrics = MetricsService(for_metrics, self._figures)
        if self._ways:
            self._watching = asyncio.create_task(self._watch_ways(self._relay), name="relay admission")
        if not self._encrypted:
            logger.warning(
                "relay plain-http port=%d advice=%r",
                self._relay_port,
                "use TLS, or a TLS proxy in front: anyone on the way sees who talks to whom",
            )
        logger.info("server listening url=%s hosts=%s", self.url, ",".join(self._hosts))
        if self.stun_offers:
            logger.info("stun behaviour-discovery changes=%s", ",".join(self.stun_offers))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        relay, stun = self._relay, self._entered_stun()
        try:
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.wait([self._watching])
            if relay is not None:
                await relay.close()
        finally:
            stun.close()
            if self._metrics is not None:
                await self._metrics.close()
            for reason, count in sorted(self.drops.items()):
                logger.info("server dropped reason=%r count=%d", reason, count)

    async def reload(self) -> None:
        """Read all files again. What is wrong with one is told in the log.

        The certificate is for connections to come: one that cannot be used leaves the old one in place.
        A list that cannot be used admits nobody new.
        """
        if self._relay is None:
            return
        async with self._reading:
            if self._files is not None:
                await self._reload_certificate(self._files, self._relay)
            await asyncio.to_thread(self._ways.reread)
        self._review(self._relay)

    async def _watch_ways(self, relay: RelayService) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            async with self._reading:
                changed = await asyncio.to_thread(self._ways.reread_changed)
            if changed:
                self._review(relay)

    def _review(self, relay: RelayService) -> None:
        if self._ways and self._ways.are_open:
            relay.review()

    def _port_to_bind(self) -> int:
        if self._wanted_relay_port is not None:
            return self._wanted_relay_port
        return TLS_PORT if self._encrypted else PLAIN_PORT

    def _metrics_listener(self) -> TcpListener | None:
        if self._metrics_place is None:
            return None
        host, port = self._metrics_place
        if not ipaddress.ip_address(host).is_loopback:
            logger.warning(
                "server metrics-exposed host=%s advice=%r", host, "others can read them: see to it"
            )
        return bind_all("metrics", [host], port, TcpListener)[0]

    def _figures(self) -> Figures:
        relay, stun = self._relay, self._stun
        assert relay is not None
        assert stun is not None
        return Figures(
            uptime_s=clock.now() - self._entered_at,
            is_draining=self._machine.is_draining,
            clients=self._machine.client_count,
            handshakes=self._machine.stream_count - self._machine.client_count,
            connections=relay.accepted,
            packets_received=self._machine.packets_received,
            packets_forwarded=self._machine.packets_forwarded,
            bytes_received=relay.bytes_received,
            bytes_sent=relay.bytes_sent,
            stun_answers=stun.answers,
            drops=self.drops,
        )

    def _other_port_to_bind(self) -> int | None:
        if self._wanted_other_port is not None or not _has_two_addresses(self._stun_hosts):
            return self._wanted_other_port
        port = self._wanted_stun_port
        return port and (port + 1 if port < 65535 else port - 1)

    def _first_context(self) -> ssl.SSLContext | None:
        if not self._encrypted:
            return None
        if self._files is None:
            self._certificate = self_signed(self._public_host)
        elif self._self_signed:
            self._certificate = load_or_make(*self._files, self._public_host)
        else:
            self._certificate = load(*self._files)
        return self._certificate.context()

    async def _reload_certificate(self, files: tuple[Path, Path], relay: RelayService) -> None:
        pin = self._certificate.pin if self._certificate else None
        try:
            certificate, context = await asyncio.to_thread(_load_with_context, *files)
        except CertificateError as error:
            logger.error("relay certificate-kept advice=%r error=%r", "the old one stays", str(error))
            return
        self._certificate, relay.tls = certificate, context
        logger.info("relay certificate-loaded file=%s not_after=%s", files[0], certificate.not_after)
        if certificate.pin != pin:
            logger.warning("relay pin-changed url=%s advice=%r", self.url, "URLs with another pin fail now")

    def _check_entered(self) -> None:
        if self._relay is None:
            raise RuntimeError("the server does not listen yet: use it in 'async with'")

    def _entered_stun(self) -> StunService:
        self._check_entered()
        assert self._stun is not None
        return self._stun


def _load_with_context(certificate: Path, key: Path) -> tuple[ServerCertificate, ssl.SSLContext]:
    loaded = load(certificate, key)
    return loaded, loaded.context()


def _has_two_addresses(hosts: Sequence[str]) -> bool:
    """Whether two of the addresses are of one family, and neither stands for all of them."""
    named = [ipaddress.ip_address(host) for host in dict.fromkeys(hosts)]
    versions = [ip.version for ip in named if not ip.is_unspecified]
    return any(versions.count(version) > 1 for version in versions)


def _reachable_at(hosts: Sequence[str]) -> str:
    """The address to put into the URL when nobody says: one we listen at, else the one we go out by."""
    for host in hosts:
        if not ipaddress.ip_address(host).is_unspecified:
            return host
    for host in hosts:
        outgoing = _outgoing_address(host)
        if outgoing:
            return outgoing
    return "::1" if hosts and all(":" in host for host in hosts) else "127.0.0.1"


def _outgoing_address(unspecified: str) -> str | None:
    """Our address towards the Internet, None without a route. Connecting a UDP socket sends nothing."""
    six = ":" in unspecified
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            probe.connect(("2001:db8::1" if six else "192.0.2.1", 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
