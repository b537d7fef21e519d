"""Machines just big enough to try the simulated internet with."""

from __future__ import annotations

from dataclasses import dataclass

from peerway.core.machine import (
    CloseStream,
    Datagram,
    Event,
    Leaf,
    OpenStream,
    Resolve,
    StreamWrite,
    Transmit,
    UdpAddress,
)
from peerway.sim.internet import Internet

PING_INTERVAL_S = 0.1
PINGS = 40


@dataclass(frozen=True, slots=True)
class Received(Event):
    data: bytes
    remote: UdpAddress


@dataclass(frozen=True, slots=True)
class Met(Event):
    """`remote` answered our ping, and pinged us."""

    remote: UdpAddress


@dataclass(frozen=True, slots=True)
class OutsideAddressLearned(Event):
    address: UdpAddress


def as_address(text: bytes) -> UdpAddress:
    ip, _, port = text.decode().rpartition(":")
    return UdpAddress(ip.strip("[]"), int(port))


class Scribe(Leaf):
    """Sends what it is told to, and writes down what it is given."""

    def __init__(self):
        super().__init__()
        self.datagrams: list[Datagram] = []
        self.inputs: list[tuple] = []

    def send(self, remote, data=b"hello", now=0.0, *, local=None, ttl=None):
        segments = data if isinstance(data, tuple) else (data,)
        self._transmits.append(Transmit(segments, remote, local, ttl))

    def receive(self, datagram, now):
        self.datagrams.append(datagram)
        for segment in datagram.segments():
            self._events.append(Received(segment, datagram.remote))

    def arm(self, at):
        self._timers.set("alarm", at, "toy")

    def _timer_expired(self, name, now):
        self.inputs.append(("timeout", now))

    def interfaces_changed(self, addresses, now):
        self.inputs.append(("interfaces", tuple(address.ip for address in addresses)))

    def transmit_failed(self, transmit, error, now):
        self.inputs.append(("failed", str(transmit.remote), error))

    def resolve(self, name):
        self._events.append(Resolve(name))

    def ask(self, *events):
        self._events.extend(events)

    def socket_opened(self, interface, local, now):
        self.inputs.append(("opened", interface, local))

    def socket_failed(self, interface, ip, error, now):
        self.inputs.append(("failed", interface, ip, error))

    def resolved(self, name, ips, now):
        self.inputs.append(("resolved", name, ips))


class Observer(Leaf):
    """Says to everyone what address it sees; "N" asks for the answer from its Nth socket (RFC 5780)."""

    def __init__(self, sockets):
        super().__init__()
        self._sockets = sockets

    def receive(self, datagram, now):
        local = self._sockets[int(datagram.data)] if datagram.data.isdigit() else datagram.local
        self._transmits.append(Transmit((str(datagram.remote).encode(),), datagram.remote, local))


class Puncher(Leaf):
    """Learns its outside address from an `Observer`, pings what it is told and what it hears.

    A ping says where it goes, and counts as answered when the answer comes from there. With
    `opener_ttl` the first ping to each address has that TTL.
    """

    def __init__(self, server, opener_ttl=None, size=0):
        super().__init__()
        self._server = server
        self._size = size
        self._opener_ttl = opener_ttl
        self._sent: dict[UdpAddress, int] = {}
        self._answered: dict[UdpAddress, None] = {}
        self._heard: dict[UdpAddress, None] = {}

    def begin(self, now):
        self._transmits.append(Transmit((b"who am I",), self._server))

    def target(self, address, now):
        if address not in self._sent:
            self._sent[address] = 0
            self._timers.set("ping", now, "toy: ping")

    def receive(self, datagram, now):
        for data in datagram.segments():
            self._receive(data, datagram.remote, now)

    def _receive(self, data, remote, now):
        if data.startswith(b"ping "):
            self._transmits.append(Transmit((data.replace(b"ping", b"pong"),), remote))
            self._heard[remote] = None
            self.target(remote, now)
        elif data.startswith(b"pong "):
            if as_address(data[5:].rstrip()) == remote:
                self._answered[remote] = None
        elif remote == self._server:
            self._events.append(OutsideAddressLearned(as_address(data)))
        if remote in self._heard and remote in self._answered:
            self._events.append(Met(remote))

    def _timer_expired(self, name, now):
        for address, sent in self._sent.items():
            if sent < PINGS:
                ttl = self._opener_ttl if sent == 0 else None
                ping = f"ping {address}".encode().ljust(self._size)
                self._transmits.append(Transmit((ping,), address, ttl=ttl))
                self._sent[address] = sent + 1
        if any(sent < PINGS for sent in self._sent.values()):
            self._timers.set("ping", now + PING_INTERVAL_S, "toy: ping")


class Caller(Leaf):
    """Opens a stream and writes down what happens to it."""

    def __init__(self):
        super().__init__()
        self.inputs: list[tuple] = []
        self.received = b""

    def open(self, url, stream="s"):
        self._events.append(OpenStream(stream, url))

    def write(self, data, stream="s"):
        self._transmits.append(StreamWrite(stream, data))

    def close(self, stream="s"):
        self._events.append(CloseStream(stream))

    def stream_opened(self, stream, now):
        self.inputs.append(("opened", stream, round(now, 6)))

    def stream_accepted(self, stream, remote_ip, now):
        self.inputs.append(("accepted", stream, remote_ip, round(now, 6)))

    def stream_data(self, stream, data, now):
        self.received += data

    def stream_closed(self, stream, error, now):
        self.inputs.append(("closed", stream, error, round(now, 6)))

    def stream_paused(self, stream, now):
        self.inputs.append(("paused", stream))

    def stream_resumed(self, stream, now):
        self.inputs.append(("resumed", stream))


class Answerer(Caller):
    """A server that gives back every byte."""

    def stream_data(self, stream, data, now):
        super().stream_data(stream, data, now)
        self.write(data, stream)


def punch(topology, opener_ttl=2, right_later_s=0.0, seconds=6.0):
    """Run two `Puncher`s; the addresses each met the other at, in order. Each tells the other at once."""
    world = topology.world
    server_socket = topology.server.open_udp(3478, "203.0.113.10")
    topology.server.run(Observer([server_socket]))
    machines, drivers, met = {}, {}, {"left": [], "right": []}

    def start(side, other, delay):
        def on_event(event, now):
            if isinstance(event, OutsideAddressLearned):
                tell_at = max(now + 0.05, 1.0) + delay
                world.at(tell_at, lambda: drivers[other].tell("target", event.address))
            elif isinstance(event, Met) and event.remote not in met[side]:
                met[side].append(event.remote)

        host = getattr(topology, side)
        host.open_udp(41641)
        machines[side] = Puncher(server_socket, opener_ttl)
        drivers[side] = host.run(machines[side], on_event=on_event)

    start("left", "right", right_later_s)
    start("right", "left", 0.0)
    for side in ("left", "right"):
        drivers[side].tell("begin")
    world.run_for(seconds)
    return met


def meet(plan, seconds=6.0):
    """Whether `Puncher`s on the hosts "left" and "right" meet in any family, with full-size pings."""
    internet = Internet(plan, seed=1)
    return any(
        _meet_in(internet, family, seconds)
        for family in (4, 6)
        if all(family in host.interfaces[0].families for host in plan.hosts)
    )


def _meet_in(internet, family, seconds):
    def in_family(host):
        return [a.ip for a in host.addresses if (":" in a.ip) is (family == 6)]

    world, observer = internet.world, internet.relays["relay.test"]
    server_socket = observer.open_udp(9, in_family(observer)[0])
    observer.run(Observer([server_socket]))
    drivers, met = {}, set()

    def start(side, other):
        def on_event(event, now):
            if isinstance(event, OutsideAddressLearned):
                world.at(1.0, lambda: drivers[other].tell("target", event.address))
            elif isinstance(event, Met):
                met.add(side)

        host = internet.hosts[side]
        host.open_udp(41641, "::" if family == 6 else "0.0.0.0")
        drivers[side] = host.run(Puncher(server_socket, opener_ttl=2, size=1200), on_event=on_event)
        for ip in in_family(host):
            if ip not in in_family(internet.hosts[other]):  # two homes may have the same: that is oneself
                world.at(1.0, lambda ip=ip: drivers[other].tell("target", UdpAddress(ip, 41641)))

    start("left", "right")
    start("right", "left")
    for driver in drivers.values():
        driver.tell("begin")
    world.run_for(seconds)
    return len(met) == 2
