"""miniupnpd, the port mapping daemon of most home routers, as a service of a lab's router.

It speaks NAT-PMP, PCP and UPnP IGD 2 (or 1). Any of them can be left out: UPnP by its own setting,
NAT-PMP and PCP, which share a port, by the version byte of what may come in.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection
from dataclasses import replace

from peerway.core.portmap.report import Protocol
from peerway.lab.laboratory import Laboratory
from peerway.lab.service import Service

ALL_PROTOCOLS = tuple(Protocol)
HTTP_PORT = 5000
START_PATIENCE_S = 5.0
_PROGRAM = "miniupnpd"
_PACKAGE = "miniupnpd-nftables"
_PORT = 5351
_LISTENS = "Listening for NAT-PMP"  # in its log, once it can be signalled
_VERSIONS = {Protocol.NAT_PMP: 0, Protocol.PCP: 2}
_FILLED = ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd")

# The chains that it fills. nft 1.0.6 wants a newline or a semicolon before a closing brace.
_CHAINS = """\
table inet filter {
 chain forward {
  type filter hook forward priority 0
  jump miniupnpd
 }
 chain prerouting {
  type nat hook prerouting priority dstnat
  jump prerouting_miniupnpd
 }
 chain postrouting {
  type nat hook postrouting priority srcnat
  jump postrouting_miniupnpd
 }
 chain miniupnpd {
 }
 chain prerouting_miniupnpd {
 }
 chain postrouting_miniupnpd {
 }
}
"""


def gateway_daemon(
    protocols: Collection[Protocol] = ALL_PROTOCOLS, *, igd_version: int = 2, external_ip: str = ""
) -> Service:
    """The daemon, speaking these protocols; it calls itself `external_ip` where that is given."""
    low = any(protocol in protocols for protocol in _VERSIONS)
    settings = {
        "ext_ifname": "wan",
        "listening_ip": "lan",
        "http_port": str(HTTP_PORT),
        "enable_natpmp": _yes(low),
        "enable_upnp": _yes(Protocol.UPNP in protocols),
        "force_igd_desc_v1": _yes(igd_version == 1),
        "secure_mode": "yes",  # a host maps to itself only
        "min_lifetime": "10",
        "max_lifetime": "86400",
        "uuid": "00000000-0000-4000-8000-000000000001",
        **({"ext_ip": external_ip} if external_ip else {}),
    }
    lines = [f"{name}={value}\n" for name, value in settings.items()]
    lines += ["allow 1024-65535 0.0.0.0/0 1024-65535\n", "deny 0-65535 0.0.0.0/0 0-65535\n"]
    return Service(
        _PROGRAM,
        (_PROGRAM, "-d", "-f", "miniupnpd.conf", "-P", "miniupnpd.pid"),
        _PACKAGE,
        (("miniupnpd.conf", "".join(lines)),),
        _CHAINS + _deaf_to(protocols),
    )


def _deaf_to(protocols: Collection[Protocol]) -> str:
    """Rules that keep from the daemon what it cannot be told not to speak."""
    rules = "".join(
        f'  iifname "lan" udp dport {_PORT} @th,64,8 {version} drop\n'
        for protocol, version in _VERSIONS.items()
        if protocol not in protocols
    )
    return f"table ip gatekeeper {{\n chain in {{\n  type filter hook input priority -10\n{rules} }}\n}}\n"


def _yes(wanted: bool) -> str:
    return "yes" if wanted else "no"


async def restart(lab: Laboratory, router: str, daemon: Service) -> None:
    """Have a router's daemon end and begin anew, with nothing mapped, as after a power cut.

    It tells the network, as NAT-PMP and PCP want it.
    """
    name = f"{router}-{daemon.name}"
    starts = (await lab.log(name)).count(_LISTENS)
    await lab.stop(name)
    chains = "".join(f"flush chain inet filter {chain}\n" for chain in _FILLED)
    await lab.run(router, "nft", "-f", "-", input=chains)
    await lab.provide(router, replace(daemon, rules=""))
    async with asyncio.timeout(START_PATIENCE_S):
        while (await lab.log(name)).count(_LISTENS) == starts:
            pass
    await lab.signal(name, signal.SIGUSR1)  # "the outside address may have changed"
