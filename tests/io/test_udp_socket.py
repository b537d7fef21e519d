import asyncio
import errno
import os
import socket
import struct
import subprocess
import sys
import textwrap

import pytest

from peerway.core.machine import RelayAddress, Transmit, UdpAddress
from peerway.io import udp, udp_send
from peerway.io.udp import UdpSocket

pytestmark = pytest.mark.filterwarnings("error")

ANY = {"v4": UdpAddress("127.0.0.1", 0), "v6": UdpAddress("::1", 0)}
IP_RECVTTL = 12  # Linux; missing from the socket module before 3.14
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


class Inbox:
    """Collects what one socket is given, and lets a test wait for it."""

    def __init__(self):
        self.datagrams = []
        self.failed = []
        self.batches = []
        self._changed = asyncio.Event()

    def datagrams_arrived(self, batch):
        self.batches.append(len(batch))
        self.datagrams.extend(batch)
        self._changed.set()

    def transmit_failed(self, transmit, error):
        self.failed.append((transmit, error))
        self._changed.set()

    @property
    def payloads(self):
        return [segment for datagram in self.datagrams for segment in datagram.segments()]

    async def until(self, condition):
        while not condition():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 5)


def open_socket(bind, inbox):
    return UdpSocket(bind, inbox.datagrams_arrived, inbox.transmit_failed)


class Pair:
    """Two sockets on loopback, closed on leaving."""

    def __init__(self, family="v4"):
        self.left_inbox, self.right_inbox = Inbox(), Inbox()
        self.left = open_socket(ANY[family], self.left_inbox)
        self.right = open_socket(ANY[family], self.right_inbox)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.left.close()
        self.right.close()

    def send(self, *segments, ttl=None):
        self.left.send(Transmit(tuple(segments), self.right.local, ttl=ttl))

    async def arrived(self, count):
        await self.right_inbox.until(lambda: len(self.right_inbox.payloads) >= count)
        return self.right_inbox.payloads


def segments(count, size, last=None):
    made = [bytes([number % 256]) * size for number in range(count)]
    if last is not None:
        made[-1] = made[-1][:last]
    return made


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_datagram_arrives_with_both_addresses(run, family):
    async def main():
        with Pair(family) as pair:
            pair.send(b"hello")
            await pair.arrived(1)
            datagram = pair.right_inbox.datagrams[0]
            assert (datagram.data, datagram.segment_size) == (b"hello", 0)
            assert (datagram.remote, datagram.local) == (pair.left.local, pair.right.local)
            assert datagram.remote.port > 0

    run(main())


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_segments_of_many_sizes_arrive_as_they_were_cut(run, family):
    async def main():
        sent = []
        with Pair(family) as pair:
            for batch in (
                segments(1, 1200),
                segments(2, 1200),
                segments(10, 1200, last=1),
                segments(64, 1000),
                segments(65, 1000),
                segments(150, 1200, last=77),
                segments(200, 20),
                segments(3, 30_000, last=500),
                [b""],
                [b"x"],
            ):
                pair.send(*batch)
                sent += batch
            assert await pair.arrived(len(sent)) == sent

    run(main())


@linux_only
def test_a_batch_is_one_call_out_and_one_call_in(run):
    async def main():
        with Pair() as pair:
            assert pair.left.gso
            pair.send(*segments(50, 1200, last=700))
            await pair.arrived(50)
            [datagram] = pair.right_inbox.datagrams
            assert (len(datagram.data), datagram.segment_size) == (49 * 1200 + 700, 1200)

    run(main())


def test_without_segmentation_offload_every_segment_arrives_alone(run):
    async def main():
        with Pair() as pair:
            pair.left.gso = False
            pair.send(*segments(20, 1200, last=5))
            assert await pair.arrived(20) == segments(20, 1200, last=5)

    run(main())


def test_many_datagrams_arrive_in_batches_of_bounded_length(run):
    async def main():
        with Pair() as pair:
            for number in range(100):
                pair.send(number.to_bytes(4, "big"))
            assert await pair.arrived(100) == [number.to_bytes(4, "big") for number in range(100)]
            assert max(pair.right_inbox.batches) <= udp.RECEIVES_PER_WAKE
            assert len(pair.right_inbox.batches) >= 100 // udp.RECEIVES_PER_WAKE

    run(main())


def test_other_tasks_run_while_datagrams_wait(run):
    async def main():
        with Pair() as pair:
            turns = 0

            async def count_turns():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count_turns())
            for _ in range(160):
                pair.send(b"x")
            await pair.arrived(160)
            assert turns >= 160 // udp.RECEIVES_PER_WAKE - 1
            counting.cancel()
            await asyncio.wait([counting])

    run(main())


def test_segments_of_unequal_size_are_refused(run):
    async def main():
        with Pair() as pair:
            for bad in ([b"aa", b"b", b"cc"], [b"a", b"bb"], [b"aaa", b"b", b"ccc", b"d"]):
                with pytest.raises(ValueError, match="of one size"):
                    pair.send(*bad)

    run(main())


def receiver_of_ttl(family):
    sock = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET, socket.SOCK_DGRAM)
    if family == "v6":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    sock.bind((ANY[family].ip, 0))
    sock.settimeout(5)
    return sock


def received_ttl(sock):
    _, control, _, _ = sock.recvmsg(2048, 64)
    [(_, _, data)] = control
    return struct.unpack("=i", data[:4])[0]


@linux_only
@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("by_option", [False, True])
def test_a_ttl_holds_for_its_transmit_only(run, family, by_option):
    async def main():
        inbox = Inbox()
        sender = open_socket(ANY[family], inbox)
        if by_option:  # as on systems without the control message
            sender._sender._ttl_control = None
        with receiver_of_ttl(family) as receiver:
            remote = UdpAddress(*receiver.getsockname()[:2])
            for ttl in (None, 3, None, 255):
                sender.send(Transmit((b"x",), remote, ttl=ttl))
            assert [received_ttl(receiver) for _ in range(4)] == [64, 3, 64, 255]
            sender.send(Transmit((b"aa", b"bb", b"c"), remote, ttl=2))
            assert [received_ttl(receiver) for _ in range(3)] == [2, 2, 2]
        sender.close()
        assert inbox.failed == []

    run(main())


class Faulty:
    """A socket whose sends fail as told: an errno, or None to let one through."""

    def __init__(self, sock, faults):
        self._sock = sock
        self.faults = list(faults)
        self.calls = []

    def sendmsg(self, buffers, control, flags, address):
        self.calls.append(len(buffers))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise OSError(fault, os.strerror(fault))
        return self._sock.sendmsg(buffers, control, flags, address)

    def __getattr__(self, name):
        return getattr(self._sock, name)


def make_faulty(sender, *faults):
    faulty = Faulty(sender._sender._socket, faults)
    sender._sender._socket = faulty
    return faulty


def test_eio_turns_segmentation_off_and_sends_again(run):
    async def main():
        with Pair() as pair:
            pair.left.gso = True
            faulty = make_faulty(pair.left, errno.EIO)
            pair.send(*segments(5, 100))
            assert await pair.arrived(5) == segments(5, 100)
            assert faulty.calls == [5, 1, 1, 1, 1, 1]
            assert not pair.left.gso
            pair.send(*segments(2, 100))
            await pair.arrived(7)
            assert faulty.calls[6:] == [1, 1]
            assert pair.left_inbox.failed == []

    run(main())


def test_einval_sends_this_transmit_unsegmented_and_keeps_segmentation(run):
    async def main():
        with Pair() as pair:
            pair.left.gso = True
            faulty = make_faulty(pair.left, errno.EINVAL)
            pair.send(*segments(3, 100))
            await pair.arrived(3)
            assert faulty.calls == [3, 1, 1, 1]
            assert pair.left.gso

    run(main())


@pytest.mark.parametrize("fault", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.ECONNREFUSED])
def test_a_failed_send_is_told_once_and_the_socket_lives(run, fault):
    async def main():
        with Pair() as pair:
            pair.left.gso = False
            make_faulty(pair.left, None, fault, fault)
            lost = Transmit(tuple(segments(4, 10)), pair.right.local)
            pair.left.send(lost)
            [(transmit, error)] = pair.left_inbox.failed
            assert transmit is lost
            assert error.errno == fault
            pair.send(b"after")
            sent = segments(4, 10)
            assert await pair.arrived(3) == [sent[0], sent[3], b"after"]

    run(main())


def test_a_full_interface_queue_is_loss_and_no_failure(run):
    async def main():
        with Pair() as pair:
            make_faulty(pair.left, errno.ENOBUFS)
            pair.send(b"lost")
            pair.send(b"kept")
            assert await pair.arrived(1) == [b"kept"]
            assert pair.left_inbox.failed == []
            assert pair.left.drops == {"send: interface queue full": 1}

    run(main())


def test_what_a_full_socket_refuses_is_sent_in_order_when_it_is_writable(run):
    async def main():
        with Pair() as pair:
            pair.left.gso = False
            make_faulty(pair.left, None, None, errno.EAGAIN, None, errno.EAGAIN)
            pair.send(*segments(5, 10))
            pair.send(b"next")
            assert await pair.arrived(6) == [*segments(5, 10), b"next"]
            assert pair.left.drops == {}

    run(main())


def test_the_queue_of_a_full_socket_is_bounded(run, monkeypatch):
    async def main():
        monkeypatch.setattr(udp, "QUEUE_TRANSMITS", 3)
        with Pair() as pair:
            make_faulty(pair.left, errno.EAGAIN)
            for number in range(6):
                pair.send(bytes([number]) * 3, bytes([number]))
            assert pair.left.drops == {"send: queue full": 6}
            assert await pair.arrived(6) == [b"\0\0\0", b"\0", b"\1\1\1", b"\1", b"\2\2\2", b"\2"]

    run(main())


def test_the_queue_of_a_full_socket_is_bounded_in_bytes(run, monkeypatch):
    async def main():
        monkeypatch.setattr(udp, "QUEUE_BYTES", 100)
        with Pair() as pair:
            make_faulty(pair.left, errno.EAGAIN)
            for _ in range(3):
                pair.send(bytes(40))
            assert pair.left.drops == {"send: queue full": 1}
            await pair.arrived(2)

    run(main())


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_closed_port_harms_nothing(run, family):
    async def main():
        gone = socket.socket(socket.AF_INET6 if family == "v6" else socket.AF_INET, socket.SOCK_DGRAM)
        gone.bind((ANY[family].ip, 0))
        closed = UdpAddress(*gone.getsockname()[:2])
        gone.close()
        with Pair(family) as pair:
            for _ in range(3):
                pair.left.send(Transmit((b"anyone?",), closed))
                pair.send(b"still here")
            assert await pair.arrived(3) == [b"still here"] * 3
            assert pair.left_inbox.failed == []

    run(main())


def test_errors_found_while_receiving_are_counted(run):
    async def main():
        with Pair() as pair:
            faults = [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ECONNREFUSED]
            real = pair.left._receive

            def receive():
                if faults:
                    raise OSError(faults.pop(), "as ICMP would have it")
                return real()

            pair.left._receive = receive
            pair.right.send(Transmit((b"still heard",), pair.left.local))
            await pair.left_inbox.until(lambda: pair.left_inbox.payloads == [b"still heard"])
            assert pair.left.drops == {"receive: ECONNREFUSED": 2, "receive: EHOSTUNREACH": 1}

    run(main())


@linux_only
def test_a_refusal_the_kernel_reports_is_counted_and_the_socket_lives():
    async def main():
        gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        gone.bind(("127.0.0.1", 0))
        closed = UdpAddress(*gone.getsockname())
        with Pair() as pair, socket.socket(fileno=os.dup(pair.left.fileno())) as same:
            same.connect((closed.ip, closed.port))  # only a connected socket hears of ICMP
            gone.close()
            pair.left.send(Transmit((b"anyone?",), closed))
            for _ in range(10):
                await asyncio.sleep(0)
            same.connect((pair.right.local.ip, pair.right.local.port))
            assert pair.left.drops == {"receive: ECONNREFUSED": 1}
            pair.send(b"alive")
            await pair.arrived(1)
            pair.right.send(Transmit((b"both ways",), pair.left.local))
            await pair.left_inbox.until(lambda: pair.left_inbox.payloads == [b"both ways"])

    asyncio.run(main())


@linux_only
def test_a_datagram_larger_than_the_interface_allows_is_told(run):
    async def main():
        with Pair() as pair:
            pair.left.send(Transmit((bytes(65_530),), pair.right.local))
            [(_, error)] = pair.left_inbox.failed
            assert error.errno == errno.EMSGSIZE
            pair.send(b"fits")
            await pair.arrived(1)

    run(main())


def test_remotes_that_cannot_be_sent_to_are_told(run):
    async def main():
        with Pair() as pair:
            bad = [
                UdpAddress("::1", 9),
                UdpAddress("relay.example.org", 9),
                UdpAddress("300.1.1.1", 9),
                RelayAddress("http://relay.example.org:3340", bytes(32)),
            ]
            for remote in bad:
                pair.left.send(Transmit((b"x",), remote))
            assert [transmit.remote for transmit, _ in pair.left_inbox.failed] == bad
            codes = [error.errno for _, error in pair.left_inbox.failed]
            assert codes == [errno.EAFNOSUPPORT, errno.EINVAL, errno.EINVAL, errno.EAFNOSUPPORT]

    run(main())


def test_v4_and_v6_share_a_port(run):
    async def main():
        inbox = Inbox()
        six = open_socket(UdpAddress("::", 0), inbox)
        four = open_socket(UdpAddress("0.0.0.0", six.local.port), inbox)
        assert (four.local.ip, six.local.ip) == ("0.0.0.0", "::")
        assert four.local.port == six.local.port
        four.close()
        six.close()

    run(main())


def test_a_taken_port_raises_and_leaks_nothing(run):
    async def main():
        with Pair() as pair, pytest.raises(OSError, match="in use"):
            open_socket(pair.left.local, Inbox())

    run(main())


def test_sending_after_close_is_counted_and_closing_twice_is_harmless(run):
    async def main():
        with Pair() as pair:
            pair.left.close()
            pair.left.close()
            pair.send(b"late")
            assert pair.left.fileno() == -1
            assert pair.left.drops == {"send: socket closed": 1}

    run(main())


def test_closing_with_a_queue_frees_the_writer(run):
    async def main():
        with Pair() as pair:
            make_faulty(pair.left, errno.EAGAIN)
            pair.send(b"never sent")
            pair.left.close()
            await asyncio.sleep(0)
            assert pair.right_inbox.payloads == []

    run(main())


def test_closing_from_on_failed_is_safe(run):
    async def main():
        with Pair() as pair:
            pair.left._on_failed = lambda transmit, error: pair.left.close()
            make_faulty(pair.left, errno.EAGAIN, errno.EPERM)
            pair.send(b"waits")
            pair.send(b"waits too")
            for _ in range(5):
                await asyncio.sleep(0)
            assert pair.left.fileno() == -1

    run(main())


class WithoutReaders:
    """A loop like Windows' Proactor: no add_reader, but sock_recvfrom_into."""

    def __init__(self, loop):
        self._loop = loop

    def add_reader(self, *_):
        raise NotImplementedError

    def __getattr__(self, name):
        return getattr(self._loop, name)


def test_a_loop_without_readers_is_served_by_a_task():
    async def main():
        loop = WithoutReaders(asyncio.get_running_loop())
        inbox, other = Inbox(), Inbox()
        receiver = UdpSocket(ANY["v4"], inbox.datagrams_arrived, inbox.transmit_failed, loop)
        sender = UdpSocket(ANY["v4"], other.datagrams_arrived, other.transmit_failed, loop)
        sender.gso = False
        make_faulty(sender, None, errno.EAGAIN)
        sender.send(Transmit(tuple(segments(3, 50)), receiver.local))
        await inbox.until(lambda: len(inbox.payloads) == 3)
        assert inbox.payloads == segments(3, 50)
        sender.close()
        receiver.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_sender_forgets_remotes_rather_than_grow(run, monkeypatch):
    async def main():
        monkeypatch.setattr(udp_send, "KNOWN_REMOTES", 2)
        with Pair() as pair:
            for port in (9001, 9002, 9003, 9004, 9005):
                pair.left.send(Transmit((b"x",), UdpAddress("127.0.0.1", port)))
            assert len(pair.left._sender._remotes) <= 2

    run(main())


ELSEWHERE = """
    import asyncio, errno, socket, sys, time
    import cryptography, ifaddr, nacl.signing, qh3.quic.connection  # at home: not what is shown here
    for module, name in ((socket, "AF_NETLINK"), (socket, "CMSG_SPACE"), (time, "CLOCK_BOOTTIME")):
        delattr(module, name)
    sys.modules["fcntl"] = None
    sys.platform = "elsewhere"

    from peerway.core.machine import Transmit, UdpAddress
    from peerway.io import clock, driver, interfaces, stream
    from peerway.io.udp import UdpSocket

    async def main():
        arrived = asyncio.get_running_loop().create_future()
        here = UdpAddress("127.0.0.1", 0)
        receiver = UdpSocket(here, arrived.set_result, print)
        sender = UdpSocket(here, print, print)
        assert not sender.gso
        sender.send(Transmit((b"hello",), receiver.local, ttl=7))
        [datagram] = await arrived
        print(datagram.data.decode(), datagram.remote == sender.local)
        receiver.close()
        sender.close()
        watch = interfaces.watch_interfaces(print)
        print(watch.is_told, clock.now() > 0)
        watch.close()

    asyncio.run(main())
"""


def test_nothing_of_linux_is_needed():
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(ELSEWHERE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("hello True\nFalse True\n", "")
