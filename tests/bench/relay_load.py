"""Many clients of one relay in one process, with as little between them and their sockets as Python allows.

A program of its own, so that its processor time is not the relay's: `python -m tests.bench.relay_load`
reads one JSON object that says what to do from its standard input and prints one with what it saw.

Clients come in pairs, one sends and one reads. A load is either a `window` of packets that each pair
keeps under way, which takes a relay to its limit without a loss, or `rate` packets a second of all
pairs together, which is what latency is measured at. Then one more pair exchanges packets that say when
they were sent; a second such pair is joined by a plain TCP connection, and what that one takes is what
this program and the kernel add by themselves.
"""

import contextlib
import json
import random
import select
import socket
import ssl
import statistics
import sys
import time

from peerway.core.relay.client import RelayClient
from peerway.core.relay.frames import FrameType, build_packets
from peerway.core.relay.url import RelayUrl

READ_BYTES = 256 << 10
READS_AT_ONCE = 16
TICK_S = 0.0005
DEAF_BYTES = 16 << 20  # fill every buffer on the way to a reader that does not read
BURST = 16  # packets that a paced sender sends at a time
MOST_AT_ONCE = 512
PROBE_EVERY_S = 0.004
HANDSHAKE_LIMIT_S = 30.0
FRAME_HEAD_BYTES = 37  # type, length, key


class Client:
    """A connection to the relay, past its handshakes."""

    def __init__(self, url, number):
        self.sock = connected(url)
        machine = RelayClient(url, "s", random.Random(number).randbytes(32), random.SystemRandom())
        machine.stream_opened(time.monotonic())
        while True:
            while (output := machine.poll_transmit()) is not None:
                self.sock.sendall(output.data)
            if machine.connected:
                break
            data = self.sock.recv(READ_BYTES)
            assert data, "the relay closed the connection"
            machine.stream_data(data, time.monotonic())
        self.key = machine.public_key
        self.sock.setblocking(False)


def connected(url):
    sock = socket.create_connection((url.host, url.port), HANDSHAKE_LIMIT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not url.tls:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=url.host)


class Reader:
    """The reading end of a pair: counts packets of one size by their bytes."""

    def __init__(self, sock, stride):
        self.sock, self.stride = sock, stride
        self.bytes = 0

    def read(self, buffer):
        for _ in range(READS_AT_ONCE):
            try:
                size = self.sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            assert size, "the relay closed a connection"
            self.bytes += size
            if size < len(buffer) and not isinstance(self.sock, ssl.SSLSocket):
                return

    @property
    def packets(self):
        return self.bytes // self.stride


class Sender:
    """The sending end of a pair: `stride` bytes a packet, as many as it is told and the socket takes."""

    def __init__(self, sock, frame, most):
        self.sock, self.stride = sock, len(frame)
        self._wire = memoryview(frame * most)
        self._most = most
        self._left = memoryview(b"")
        self.packets = 0

    @property
    def is_stuck(self):
        """Whether a packet has left in part."""
        return len(self._left) > 0

    def fill(self, size):
        """Send so many bytes at once, however long it takes."""
        self.sock.setblocking(True)
        for _ in range(size // len(self._wire) + 1):
            self.sock.sendall(self._wire)
        self.sock.setblocking(False)

    def send(self, count):
        """Send what is left of the last ones, or so many more; `packets` counts them from now on."""
        if not self._left:
            count = min(count, self._most)
            self._left = self._wire[: count * self.stride]
            self.packets += count
        with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
            self._left = self._left[self.sock.send(self._left) :]


class Probe:
    """A pair whose packets say when they were sent."""

    def __init__(self, out, back, destination):
        self.out, self.back, self._destination = out, back, destination
        self.delays = []
        self._held = bytearray()

    def send(self):
        stamp = time.perf_counter_ns().to_bytes(8, "big")
        with contextlib.suppress(BlockingIOError):
            self.out.send(build_packets(FrameType.SEND_PACKET, self._destination, [stamp]))

    def read(self, buffer):
        try:
            size = self.back.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        now = time.perf_counter_ns()
        self._held += buffer[:size]
        frame = FRAME_HEAD_BYTES + 8
        while len(self._held) >= 5:
            length = 5 + int.from_bytes(self._held[1:5], "big")
            if len(self._held) < length:
                return
            if length == frame:
                self.delays.append(now - int.from_bytes(self._held[FRAME_HEAD_BYTES:frame], "big"))
            del self._held[:length]


class Load:
    """An order carried out by `run`: `pairs`, their packets' `size`, `window` or `rate`, how many `seconds`,
    and how many of the readers are `deaf`: they take nothing, and what becomes of theirs is not counted."""

    def __init__(self, url, order):
        self._order = order
        size, pairs = order["size"], order["pairs"]
        ends = [Client(url, number) for number in range(2 * pairs + 2)]
        stride = FRAME_HEAD_BYTES + size
        self.senders, self.readers = [], []
        most = order.get("window") or MOST_AT_ONCE
        for out, back in zip(ends[:pairs], ends[pairs : 2 * pairs], strict=True):
            frame = build_packets(FrameType.SEND_PACKET, back.key, [bytes(size)])
            self.senders.append(Sender(out.sock, frame, most))
            self.readers.append(Reader(back.sock, stride))
        self.probe = Probe(ends[-2].sock, ends[-1].sock, ends[-1].key)
        near, far = tcp_pair()
        self.direct = Probe(near, far, bytes(32))
        self._deaf = set(range(order.get("deaf", 0)))
        self._poll = select.epoll()
        self._by_fd = {}
        for number, reader in enumerate(self.readers):
            if number not in self._deaf:
                self._watch(reader.sock, reader)
        self._watch(self.probe.back, self.probe)
        self._watch(self.direct.back, self.direct)
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._next_probe = 0.0

    def _watch(self, sock, reader):
        self._by_fd[sock.fileno()] = reader
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def run(self):
        """Load the relay for `seconds`, of which the first `settle` do not count; what happened."""
        for number in self._deaf:
            self.senders[number].fill(DEAF_BYTES)
        step = self._paced if "rate" in self._order else self._windowed
        begun = time.perf_counter()
        counts_from, end = begun + self._order.get("settle", 0.5), 0.0
        before = None
        while True:
            now = time.perf_counter()
            if before is None and now >= counts_from:
                before, end = self._state(), now + self._order["seconds"]
                say("counting")
                for probe in (self.probe, self.direct):
                    probe.delays.clear()
            elif before is not None and now >= end:
                break
            step(now - begun)
        after = self._state()
        say("counted")
        return self._result({name: after[name] - before[name] for name in after})

    def _windowed(self, _):
        window = self._order["window"]
        for sender, reader in zip(self.senders, self.readers, strict=True):
            room = window - (sender.packets - reader.packets)
            if 2 * room >= window or sender.is_stuck:
                sender.send(room)
        self._read(0.02)

    def _paced(self, elapsed):
        count = len(self.senders)
        each = elapsed * self._order["rate"] / count
        for number, sender in enumerate(self.senders):
            due = int(each + BURST * number / count) - sender.packets  # they take turns
            if due >= BURST or sender.is_stuck:
                sender.send(due)
        if elapsed >= self._next_probe:
            self._next_probe = elapsed + PROBE_EVERY_S
            self.probe.send()
            self.direct.send()
        self._read(TICK_S)

    def _read(self, wait):
        for fd, _ in self._poll.poll(wait):
            self._by_fd[fd].read(self._buffer)

    def _state(self):
        living = [number for number in range(len(self.readers)) if number not in self._deaf]
        return {
            "seconds": time.perf_counter(),
            "cpu": time.process_time(),
            "sent": sum(self.senders[number].packets for number in living),
            "received": sum(self.readers[number].packets for number in living),
        }

    def _result(self, passed):
        seconds = passed["seconds"]
        return {
            "packets_per_s": passed["received"] / seconds,
            "gigabits_per_s": passed["received"] * 8 * self._order["size"] / seconds / 1e9,
            "lost": 1 - passed["received"] / passed["sent"] if passed["sent"] else 0.0,
            "load_cpu": passed["cpu"] / seconds,
            "packets": passed["received"],
            "seconds": seconds,
            "relay_ms": percentiles(self.probe.delays),
            "direct_ms": percentiles(self.direct.delays),
        }


def percentiles(delays):
    if len(delays) < 100:
        return {}
    cuts = statistics.quantiles(delays, n=100)
    return {"p50": cuts[49] / 1e6, "p99": cuts[98] / 1e6}


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
    return near, far


def idle(url, count):
    """Connect so many clients and hold them until told to end."""
    clients = [Client(url, number) for number in range(count)]
    say("connected")
    sys.stdin.readline()
    return {"clients": len(clients)}


def say(word):
    print(word, flush=True)


def main():
    order = json.loads(sys.stdin.readline())
    url = RelayUrl.parse(order["url"])
    result = idle(url, order["clients"]) if "clients" in order else Load(url, order).run()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
