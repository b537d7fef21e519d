import asyncio
import contextlib
import hashlib
import logging
import math
import socket
from dataclasses import dataclass

import pytest

from peerway.core.machine import (
    CloseSocket,
    CloseStream,
    Datagram,
    Deadline,
    Event,
    Leaf,
    OpenSocket,
    OpenStream,
    PeerwayError,
    RelayAddress,
    Resolve,
    StreamWrite,
    Transmit,
    UdpAddress,
)
from peerway.io import clock, driver
from peerway.io.driver import Driver

V4, V6 = UdpAddress("127.0.0.1", 0), UdpAddress("::1", 0)


@dataclass(frozen=True, slots=True)
class Told(Event):
    """Something the toy machine was told."""

    what: str
    about: object = None


class ToyMachine(Leaf):
    """Echoes datagrams that begin with "?", tells its owner of everything."""

    def tell(self, what, about=None):
        self._events.append(Told(what, about))

    def ask(self, *events):
        self._events.extend(events)

    def put(self, *outputs):
        self._transmits.extend(outputs)

    def arm(self, name, at):
        self._timers.set(name, at)

    def _timer_expired(self, name, now):
        self.tell("timer", name)

    def receive(self, datagram: Datagram, now: float):
        if datagram.data.startswith(b"?"):
            answer = tuple(b"!" + segment[1:] for segment in datagram.segments())
            self.put(Transmit(answer, datagram.remote, datagram.local))
        else:
            self.tell("datagram", datagram)

    def transmit_failed(self, transmit, error, now):
        self.tell("failed", error)

    def interfaces_changed(self, addresses, now):
        self.tell("interfaces", addresses)

    def stream_opened(self, stream, now):
        self.tell("opened", stream)

    def stream_data(self, stream, data, now):
        self.tell("data", data)

    def stream_closed(self, stream, error, now):
        self.tell("closed", error)

    def stream_paused(self, stream, now):
        self.tell("paused", stream)

    def stream_resumed(self, stream, now):
        self.tell("resumed", stream)

    def resolved(self, name, ips, now):
        self.tell("resolved", (name, ips))

    def socket_opened(self, interface, local, now):
        self.tell("socket", (interface, local))

    def socket_failed(self, interface, ip, error, now):
        self.tell("no socket", (interface, ip, error))


class Owner:
    """A driver with a machine, and everything that was told."""

    def __init__(self, machine=None):
        self.machine = machine or ToyMachine()
        self.told = []
        self.exceptions = []
        self.reactions = {}
        self._changed = asyncio.Event()
        self.driver = Driver(self.machine, self.on_event, self.on_failure)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.driver.close()

    def on_event(self, event):
        self.told.append((event.what, event.about))
        self._changed.set()
        if event.what in self.reactions:
            self.reactions[event.what](event.about)

    def on_failure(self, error):
        self.exceptions.append(error)
        self._changed.set()

    def do(self, *events):
        self.machine.ask(*events)
        self.driver.wake()

    def put(self, *outputs):
        self.machine.put(*outputs)
        self.driver.wake()

    def all(self, what):
        return [about for kind, about in self.told if kind == what]

    async def until(self, condition):
        while not condition():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 10)

    async def first(self, what):
        await self.until(lambda: self.all(what))
        return self.all(what)[0]


@pytest.mark.parametrize("bind", [V4, V6])
def test_datagrams_go_through_the_machine_and_back(run, bind):
    async def main():
        async with Owner() as left, Owner() as right:
            await left.driver.open_udp(bind)
            remote = await right.driver.open_udp(bind)
            left.put(Transmit((b"?aa", b"?bb", b"?c"), remote))
            await left.until(lambda: sum(len(d.data) for d in left.all("datagram")) == 8)
            answers = [segment for d in left.all("datagram") for segment in d.segments()]
            assert answers == [b"!aa", b"!bb", b"!c"]
            assert left.all("datagram")[0].remote == remote

    run(main())


def test_a_transmit_leaves_by_its_local_address_else_by_its_family(run):
    async def main():
        async with Owner() as sender, Owner() as receiver:
            first = await sender.driver.open_udp(V4)
            second = await sender.driver.open_udp(V4)
            six = await sender.driver.open_udp(V6)
            at_v4 = await receiver.driver.open_udp(V4)
            at_v6 = await receiver.driver.open_udp(V6)
            sender.put(
                Transmit((b"1",), at_v4), Transmit((b"2",), at_v4, local=second), Transmit((b"3",), at_v6)
            )
            await receiver.until(lambda: len(receiver.all("datagram")) == 3)
            came_from = {d.data: (d.remote, d.local) for d in receiver.all("datagram")}
            assert came_from == {b"1": (first, at_v4), b"2": (second, at_v4), b"3": (six, at_v6)}

    run(main())


def test_what_cannot_be_sent_is_told_to_the_machine_in_words(run):
    async def main():
        async with Owner() as owner:
            local = await owner.driver.open_udp(V4)
            owner.put(Transmit((b"x",), UdpAddress("::1", 9)))
            owner.put(Transmit((b"x",), UdpAddress("127.0.0.1", 9), local=UdpAddress("127.0.0.1", 1)))
            owner.put(Transmit((b"x",), RelayAddress("http://relay.example.org:3340", bytes(32))))
            owner.put(Transmit((bytes(65_530),), UdpAddress("127.0.0.1", 9)))
            owner.driver.close_udp(local)
            owner.put(Transmit((b"x",), UdpAddress("127.0.0.1", 9)))
            assert owner.all("failed") == [
                "there is no IPv6 socket",
                "no socket is bound to 127.0.0.1:1",
                "relay http://relay.example.org:3340 is no address UDP can send to",
                "Message too long",
                "there is no IPv4 socket",
            ]

    run(main())


def test_sockets_are_opened_for_the_machine_or_it_is_told_why_not(run):
    async def main():
        async with Owner() as owner, Owner() as receiver:
            remote = await receiver.driver.open_udp(V4)
            owner.do(OpenSocket("", "127.0.0.1"), OpenSocket("", "127.0.0.1"), OpenSocket("", "192.0.2.1"))
            (first, second) = [local for _, local in owner.all("socket")]
            assert first != second
            owner.put(Transmit((b"x",), remote, second))
            assert (await receiver.first("datagram")).remote == second
            assert owner.all("no socket") == [("", "192.0.2.1", "Cannot assign requested address")]
            owner.do(CloseSocket(first))
            owner.put(Transmit((b"x",), remote, first))
            assert owner.all("failed") == [f"no socket is bound to {first}"]

    run(main())


def test_a_deadline_is_met_and_not_before(run):
    async def main():
        async with Owner() as owner:
            at = clock.now() + 0.02
            owner.machine.arm("late", at + 0.01)
            owner.driver.wake()
            owner.machine.arm("soon", at)
            owner.driver.wake()
            assert await owner.first("timer") == "soon"
            assert clock.now() >= at
            await owner.until(lambda: owner.all("timer") == ["soon", "late"])
            assert clock.now() >= at + 0.01

    run(main())


def test_a_deadline_that_moves_later_fires_once_and_late(run):
    async def main():
        async with Owner() as owner:
            for step in range(1, 20):
                owner.machine.arm("moving", clock.now() + step * 0.001)
                owner.driver.wake()
            at = owner.machine.poll_deadline().at
            await owner.first("timer")
            assert clock.now() >= at
            assert owner.all("timer") == ["moving"]

    run(main())


def test_sleeps_are_bounded_so_that_suspend_cannot_stretch_them(run):
    async def main():
        async with Owner() as owner:
            owner.machine.arm("far", clock.now() + 1e6)
            owner.driver.wake()
            loop = asyncio.get_running_loop()
            assert owner.driver._timer.when() <= loop.time() + driver.LONGEST_SLEEP_S + 0.1
            owner.machine._timers.cancel("far")
            owner.driver.wake()
            assert owner.driver._timer is None

    run(main())


class Stuck(ToyMachine):
    """A machine with a bug: its deadline stays in the past."""

    def __init__(self):
        super().__init__()
        self.timeouts = 0

    def poll_deadline(self):
        return Deadline(1.0, "never satisfied")

    def handle_timeout(self, now):
        self.timeouts += 1


def test_a_deadline_that_stays_in_the_past_neither_starves_nor_spins(run, caplog, monkeypatch):
    async def main():
        monkeypatch.setattr(driver, "OVERDUE_PAUSE_S", 3600.0)
        async with Owner(Stuck()) as owner:
            owner.driver.wake()
            turns = 0
            while owner.machine.timeouts < driver.OVERDUE_LIMIT:
                await asyncio.sleep(0)
                turns += 1
            assert turns >= driver.OVERDUE_LIMIT / 2  # at most one call an iteration of the loop
            for _ in range(50):
                await asyncio.sleep(0)
            assert owner.machine.timeouts == driver.OVERDUE_LIMIT

    run(main())
    [record] = [record for record in caplog.records if "overdue" in record.message]
    assert "never satisfied" in record.message


class Endless(ToyMachine):
    """A machine that always has one more event."""

    def poll_event(self):
        return Told("more")


def test_a_machine_that_never_ends_does_not_starve_the_loop(run):
    async def main():
        async with Owner(Endless()) as owner:
            owner.driver.wake()
            for turn in range(1, 5):
                assert len(owner.told) <= 2 * turn * driver.OUTPUTS_PER_DRAIN
                await asyncio.sleep(0)
            assert len(owner.told) >= 2 * driver.OUTPUTS_PER_DRAIN

    run(main())


class CountingMachine(ToyMachine):
    """Counts how often it is drained: a drain ends with the question for the deadline."""

    drains = 0

    def poll_deadline(self):
        self.drains += 1
        return super().poll_deadline()


def test_the_machine_is_drained_once_for_all_that_waits_in_a_socket(run):
    async def main():
        async with Owner(CountingMachine()) as owner:
            at = await owner.driver.open_udp(V4)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for size in (30, 20, 10):  # ever smaller ones are never coalesced
                    sender.sendto(bytes(size), (at.ip, at.port))
                drains = owner.machine.drains
                await owner.until(lambda: len(owner.all("datagram")) == 3)
            assert owner.machine.drains - drains <= 2  # loops that see one at a time see the rest together

    run(main())


def test_waking_soon_drains_once_before_the_loop_sleeps(run):
    async def main():
        async with Owner(CountingMachine()) as owner:
            drains = owner.machine.drains
            for what in ("one", "two", "three"):
                owner.machine.tell(what)
                owner.driver.wake_soon()
            assert owner.told == []
            await owner.first("three")
            assert [what for what, _ in owner.told] == ["one", "two", "three"]
            assert owner.machine.drains - drains == 1
            owner.driver.wake_soon()
        owner.driver.wake_soon()
        await asyncio.sleep(0)
        assert owner.machine.drains - drains == 2  # the second by closing

    run(main())


def test_calling_the_machine_and_waking_from_an_event_is_safe(run):
    async def main():
        async with Owner() as left, Owner() as right:
            await left.driver.open_udp(V4)
            remote = await right.driver.open_udp(V4)

            def react(about):
                left.put(Transmit((b"from inside",), remote))
                left.do(Told("second"))

            left.reactions["first"] = react
            left.do(Told("first"))
            assert [what for what, _ in left.told] == ["first", "second"]
            assert (await right.first("datagram")).data == b"from inside"

    run(main())


class Faulty(ToyMachine):
    """A machine that throws on datagrams beginning with "bad"."""

    def receive(self, datagram, now):
        if datagram.data.startswith(b"bad"):
            raise RuntimeError("a bug")
        super().receive(datagram, now)


def test_a_machine_that_throws_is_logged_told_and_lives_on(run, caplog):
    async def main():
        async with Owner() as left, Owner(Faulty()) as right:
            await left.driver.open_udp(V4)
            remote = await right.driver.open_udp(V4)
            left.put(*(Transmit((data,), remote) for data in (b"bad", b"good", b"bad", b"?good")))
            assert (await left.first("datagram")).data == b"!good"
            assert (await right.first("datagram")).data == b"good"
            assert [str(error) for error in right.exceptions] == ["a bug", "a bug"]
            assert right.driver.failures == 2

    run(main())
    first, _ = caplog.records
    assert first.levelno == logging.ERROR
    assert first.exc_info[0] is RuntimeError
    assert "doing=receive" in first.message


def test_only_the_first_failures_fill_the_log(run, caplog):
    async def main():
        async with Owner() as owner:
            owner.reactions["boom"] = lambda about: 1 / 0
            owner.do(*[Told("boom")] * 50, Told("after"))
            assert owner.driver.failures == len(owner.exceptions) == 50
            assert owner.all("after") == [None]

    run(main())
    assert len(caplog.records) == driver.FAILURES_LOGGED


def test_a_machine_that_throws_while_drained_is_told(run):
    async def main():
        async with Owner() as owner:

            def broken():
                raise RuntimeError("poll")

            owner.machine.poll_transmit = broken
            owner.driver.wake()
            owner.machine.poll_deadline = broken
            owner.driver.wake()
            assert [str(error) for error in owner.exceptions] == ["poll"] * 3
            del owner.machine.poll_transmit, owner.machine.poll_deadline

    run(main())


# --- streams -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def echo_server(context=None, host="127.0.0.1"):
    """The port of a server that sends back what it gets, until the other side closes."""
    ends = []

    async def echo(reader, writer):
        ends.append((asyncio.current_task(), writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _, writer in ends:
            writer.transport.abort()
        if ends:
            await asyncio.wait([task for task, _ in ends])


def test_a_machine_speaks_over_a_stream(run):
    async def main():
        async with echo_server() as port, Owner() as owner:
            owner.do(OpenStream("relay", f"http://127.0.0.1:{port}"))
            assert await owner.first("opened") == "relay"
            owner.put(StreamWrite("relay", b"one "), StreamWrite("relay", b"two"))
            await owner.until(lambda: b"".join(owner.all("data")) == b"one two")
            owner.put(StreamWrite("relay", b"last"))
            owner.do(CloseStream("relay"))
            owner.put(StreamWrite("relay", b"lost"))
            assert owner.driver.drops == {"stream write: not open": 1}
            assert owner.all("closed") == []

    run(main())


def test_a_stream_may_be_opened_again_under_its_name(run):
    async def main():
        async with echo_server() as port, Owner() as owner:
            for data in (b"1", b"2", b"3"):
                owner.told.clear()
                owner.do(OpenStream("relay", f"http://127.0.0.1:{port}"))
                await owner.first("opened")
                owner.put(StreamWrite("relay", data))
                assert await owner.first("data") == data
                owner.do(CloseStream("relay"))

    run(main())


def test_a_second_stream_of_the_same_name_is_misuse(run):
    async def main():
        async with echo_server() as port, Owner() as owner:
            url = f"http://127.0.0.1:{port}"
            owner.do(OpenStream("relay", url), OpenStream("relay", url))
            [error] = owner.exceptions
            assert isinstance(error, PeerwayError)
            await owner.first("opened")

    run(main())


def test_pauses_and_resumptions_reach_the_machine(run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:
            async with Owner() as owner:
                owner.do(OpenStream("relay", f"http://127.0.0.1:{server.getsockname()[1]}"))
                await owner.first("opened")
                far, _ = server.accept()
                written = 0
                while not owner.all("paused"):
                    owner.put(StreamWrite("relay", bytes(1 << 18)))
                    written += 1 << 18
                far.setblocking(False)
                received = 0
                loop = asyncio.get_running_loop()
                while received < written:
                    received += len(await loop.sock_recv(far, 1 << 20))
                assert await owner.first("resumed") == "relay"
                far.close()
                assert "closed the connection" in await owner.first("closed")

    run(main())


def test_streams_that_cannot_be_opened_are_told_in_words(run):
    async def main():
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        async with Owner() as owner:
            owner.do(
                OpenStream("refused", f"http://127.0.0.1:{port}"),
                OpenStream("nameless", "http://no-such-host.invalid:3340"),
                OpenStream("nonsense", "gopher://relay"),
            )
            await owner.until(lambda: len(owner.all("closed")) == 3)
            told = sorted(owner.all("closed"))
            assert told[0].startswith(f"127.0.0.1:{port} refused the connection")
            assert any("no-such-host.invalid" in error for error in told)
            assert any("not a relay URL" in error for error in told)

    run(main())


@pytest.mark.parametrize("right_pin", [True, False])
def test_a_pin_decides_whether_a_tls_stream_opens(run, authority, right_pin):
    async def main():
        context, der = authority.server(self_signed=True)
        pin = hashlib.sha256(der).hexdigest() if right_pin else "0" * 64
        async with echo_server(context) as port, Owner() as owner:
            owner.do(OpenStream("relay", f"https://127.0.0.1:{port}?pin={pin}"))
            if not right_pin:
                told = await owner.first("closed")
                assert pin in told
                assert hashlib.sha256(der).hexdigest() in told
                assert owner.all("opened") == []
                return
            await owner.first("opened")
            owner.put(StreamWrite("relay", b"over TLS"))
            assert await owner.first("data") == b"over TLS"

    run(main())


# --- names and interfaces ------------------------------------------------------------


def test_names_are_looked_up_once_and_answered(run):
    async def main():
        async with Owner() as owner:
            owner.do(Resolve("192.0.2.1"), Resolve("192.0.2.1"), Resolve("no-such-host.invalid"))
            await owner.until(lambda: len(owner.all("resolved")) == 2)
            assert sorted(owner.all("resolved")) == [
                ("192.0.2.1", ("192.0.2.1",)),
                ("no-such-host.invalid", ()),
            ]

    run(main())


def test_too_many_names_at_once_are_answered_with_nothing(run):
    async def main():
        async with Owner() as owner:
            owner.do(*(Resolve(f"192.0.2.{number}") for number in range(driver.NAMES_AT_ONCE + 2)))
            await owner.until(lambda: len(owner.all("resolved")) == driver.NAMES_AT_ONCE + 2)
            assert [name for name, ips in owner.all("resolved") if not ips] == ["192.0.2.32", "192.0.2.33"]
            assert owner.driver.drops == {"resolve: too many at once": 2}

    run(main())


def test_interface_addresses_are_told_when_asked_for(run):
    async def main():
        async with Owner() as owner:
            owner.driver.watch_interfaces()
            owner.driver.watch_interfaces()
            assert len(owner.all("interfaces")) == 1
            assert all(not math.isnan(entry.prefix_length) for entry in owner.all("interfaces")[0])

    run(main())


# --- the end -------------------------------------------------------------------------


def test_closing_frees_everything_at_any_moment(run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            async with echo_server() as port, Owner() as owner:
                await owner.driver.open_udp(V4)
                await owner.driver.open_udp(V6)
                owner.driver.watch_interfaces()
                owner.machine.arm("far", clock.now() + 100)
                owner.do(
                    OpenStream("open", f"http://127.0.0.1:{port}"),
                    OpenStream("handshaking", f"https://127.0.0.1:{silent.getsockname()[1]}"),
                )
                await owner.first("opened")
                # An address: the system's resolver would keep a socket of its own for a while.
                owner.do(
                    Resolve("192.0.2.1"),
                    OpenStream("just begun", f"http://127.0.0.1:{silent.getsockname()[1]}"),
                )
                told = len(owner.told)
                await owner.driver.close()
                await owner.driver.close()
                owner.do(Told("after the end"))
                assert len(owner.told) == told

    run(main())


def test_what_was_written_before_closing_leaves(run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:
            async with Owner() as owner, Owner() as other:
                await owner.driver.open_udp(V4)
                remote = await other.driver.open_udp(V4)
                owner.do(OpenStream("relay", f"http://127.0.0.1:{server.getsockname()[1]}"))
                await owner.first("opened")
                far, _ = server.accept()
                owner.machine.put(StreamWrite("relay", b"good"), StreamWrite("relay", b"bye"))
                owner.machine.put(Transmit((b"goodbye",), remote))
                await owner.driver.close()
                far.settimeout(5)
                assert far.makefile("rb").read() == b"goodbye"
                far.close()
                assert (await other.first("datagram")).data == b"goodbye"

    run(main())


def test_closing_does_not_wait_for_a_peer_that_does_not_read(run, monkeypatch):
    async def main():
        monkeypatch.setattr(driver, "CLOSE_FLUSH_S", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as server:
            async with Owner() as owner:
                owner.do(OpenStream("relay", f"http://127.0.0.1:{server.getsockname()[1]}"))
                await owner.first("opened")
                far, _ = server.accept()
                while not owner.all("paused"):
                    owner.put(StreamWrite("relay", bytes(1 << 18)))
                await asyncio.wait_for(owner.driver.close(), 2)
                far.close()

    run(main())


def test_closing_from_an_event_is_safe(run):
    async def main():
        async with Owner() as owner:
            closing = []
            owner.reactions["end"] = lambda about: closing.append(asyncio.create_task(owner.driver.close()))
            owner.do(Told("end"), Told("after"))
            await asyncio.wait(closing)
            assert [what for what, _ in owner.told] == ["end", "after"]

    run(main())
