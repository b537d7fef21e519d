"""The nftables rules that make a Linux router one of the kinds, or lose and drop on purpose.

`faults` chains run before everything else in the forward hook, one for each fault, so that
breaking and mending never touch what makes the kind.
"""

from __future__ import annotations

from peerway.core.nat import Filtering
from peerway.lab.kinds import UDP_STREAM_TIMEOUT_S, WAN_PLACEHOLDER, Blocking, Hairpin, Kind

FAULT_CHAINS = ("fault-cut", "fault-size", "fault-loss")
LEARNED_LIMIT = 65536  # public ports a router remembers; nft refuses more

# nft 1.0.6 wants a newline or a semicolon before a closing brace.
_LEARNING = """\
 map fc {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout {timeout}s; \
size {limit}; }}
 map back {{ type ipv4_addr . inet_service : ipv4_addr . inet_service; flags dynamic,timeout; \
timeout {timeout}s; size {limit}; }}
 set seen {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout {timeout}s; size {limit}; }}
 chain learn {{
  type filter hook postrouting priority srcnat + 10
  oifname "wan" meta l4proto udp ct direction original \
update @fc {{ ct reply proto-dst : ct original ip saddr . ct original proto-src }} \
update @back {{ ct original ip saddr . ct original proto-src : ct reply ip daddr . ct reply proto-dst }} \
update @seen {{ ct reply proto-dst . ct original ip daddr }}
 }}
"""


def fault_rules() -> str:
    """The empty chains every router carries for faults to be put in."""
    chains = "".join(f" chain {name} {{\n }}\n" for name in FAULT_CHAINS)
    jumps = "".join(f"  jump {name}\n" for name in FAULT_CHAINS)
    forward = f" chain forward {{\n  type filter hook forward priority -150\n{jumps} }}\n"
    return f"table inet faults {{\n{chains}{forward}}}\n"


def kind_rules(
    kind: Kind,
    wan_ip: str,
    *,
    ports: tuple[int, int] | None = None,
    stream_timeout_s: int = UDP_STREAM_TIMEOUT_S,
) -> str:
    """The rules of a router of this kind at this public address ("": it has no IPv4).

    Loading them again replaces them. `ports` is a block of public ports to use in place of those the kind
    would choose; `stream_timeout_s` is how long a full or restricted cone remembers a public port.
    """
    rules = _table("inet guard", _guard(kind))
    if kind.translates and wan_ip:
        outward = f"masquerade to :{ports[0]}-{ports[1]}" if ports else kind.outward
        nat = _nat(kind, outward or "", stream_timeout_s).replace(WAN_PLACEHOLDER, wan_ip)
        rules += _table("ip nat", nat)
    return rules


def forgetting(kind: Kind) -> str:
    """Empty what a full or restricted cone has learned; nothing for the other kinds."""
    flushes = "flush map ip nat fc\nflush map ip nat back\nflush set ip nat seen\n"
    return flushes if _learns(kind) else ""


def _learns(kind: Kind) -> bool:
    return kind.translates and kind.filtering in (Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)


def _table(name: str, body: str) -> str:
    # Declaring before deleting makes the deletion safe when there was none.
    return f"table {name} {{\n}}\ndelete table {name}\ntable {name} {{\n{body}}}\n"


def _nat(kind: Kind, outward: str, timeout_s: int) -> str:
    learning = _LEARNING.format(timeout=timeout_s, limit=LEARNED_LIMIT) if _learns(kind) else ""
    inward = {
        Filtering.ENDPOINT_INDEPENDENT: '  iifname "wan" meta l4proto udp dnat to udp dport map @fc\n',
        Filtering.ADDRESS_DEPENDENT: '  iifname "wan" meta l4proto udp udp dport . ip saddr @seen '
        "dnat to udp dport map @fc\n",
    }.get(kind.filtering_of(4), "")
    if kind.hairpin is not Hairpin.NONE:
        inward += f'  iifname "lan" ip daddr {WAN_PLACEHOLDER} meta l4proto udp dnat to udp dport map @fc\n'
    translate = f'  oifname "wan" meta l4proto udp {outward}\n' if outward else ""
    if kind.hairpin is Hairpin.OUTSIDE_SOURCE:
        # Only who is inside has an entry in `back`.
        translate += '  oifname "lan" ct status dnat snat to ip saddr . udp sport map @back\n'
    return (
        learning
        + f" chain pre {{\n  type nat hook prerouting priority dstnat\n{inward} }}\n"
        + f" chain post {{\n  type nat hook postrouting priority srcnat\n{translate}"
        + '  oifname "wan" masquerade\n }\n'
    )


def _guard(kind: Kind) -> str:
    chains = ""
    if kind.guarded:
        # Without neighbours' questions and answers nothing at all would arrive by IPv6.
        neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
        chains += (
            f' chain in {{\n  type filter hook input priority 0\n  {neighbours}\n  iifname "wan" drop\n }}\n'
        )
    forward = {
        Blocking.NONE: "",
        Blocking.DROP: "  meta l4proto udp drop\n",
        Blocking.REJECT: "  meta l4proto udp reject with icmpx type admin-prohibited\n",
    }[kind.blocking]
    if kind.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT and not kind.translates:
        forward += _stateful("ipv4")
    if kind.filters_ipv6:
        forward += _stateful("ipv6")
    return chains + f" chain forward {{\n  type filter hook forward priority 0\n{forward} }}\n"


def _stateful(protocol: str) -> str:
    return (
        f"  meta nfproto {protocol} ct state established,related accept\n"
        f'  meta nfproto {protocol} iifname "wan" drop\n'
    )
