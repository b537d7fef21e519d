import asyncio
import errno
import os
import socket
import ssl
import threading

import pytest

from peerway.core.machine import UdpAddress
from peerway.io import address, clock, dial, resolve
from peerway.io.connect_errors import explain
from peerway.io.resolve import ResolveError


def test_time_does_not_go_back():
    first = clock.now()
    assert clock.now() >= first > 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (UdpAddress("192.0.2.1", 7), ("192.0.2.1", 7)),
        (UdpAddress("2001:db8::1", 7), ("2001:db8::1", 7, 0, 0)),
        (UdpAddress("fe80::1%1", 7), ("fe80::1", 7, 0, 1)),
    ],
)
def test_addresses_survive_the_way_to_the_system_and_back(ours, theirs):
    assert address.to_socket_address(ours) == theirs
    assert address.from_socket_address(theirs) == ours


def test_a_zone_may_be_given_by_name():
    [(index, name), *_] = socket.if_nameindex()
    assert address.to_socket_address(UdpAddress(f"fe80::1%{name}", 7)) == ("fe80::1", 7, 0, index)


@pytest.mark.parametrize("ip", ["", "localhost", "1.2.3", "::g", "1.2.3.4\0", "fe80::1%no-such-if"])
def test_what_is_no_address_is_never_looked_up(ip):
    with pytest.raises(OSError):
        address.to_socket_address(UdpAddress(ip, 7))


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "fe80::1%2"])
def test_an_address_answers_itself(run, ip):
    assert run(resolve.resolve(ip)) == (ip,)


def test_localhost_is_here(run):
    ips = run(resolve.resolve("localhost"))
    assert set(ips) <= {"127.0.0.1", "::1"}
    assert len(ips) == len(set(ips)) >= 1


@pytest.mark.parametrize(
    "name", ["no-such-host.invalid", "", "a" * 70 + ".example", "nul\0name", "two words"]
)
def test_a_name_without_addresses_raises_only_the_documented_error(run, name):
    with pytest.raises(ResolveError, match=r"host|name|looked up"):
        run(resolve.resolve(name, timeout=3))


class SlowResolver:
    """Stands in for the system's, which waits for `answer`; `asked` are the names."""

    def __init__(self, monkeypatch):
        self.answer = threading.Event()
        self.asked = []
        real = socket.getaddrinfo

        def slow(name, *args, **kwargs):
            if not name.endswith(".example"):
                return real(name, *args, **kwargs)
            self.asked.append(name)
            self.answer.wait()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

        monkeypatch.setattr(socket, "getaddrinfo", slow)


@pytest.fixture
def slow(monkeypatch):
    resolver = SlowResolver(monkeypatch)
    yield resolver
    resolver.answer.set()
    for thread in threading.enumerate():
        if thread.name.startswith("resolve "):
            thread.join()


def test_a_slow_name_server_times_out(run, slow):
    with pytest.raises(ResolveError, match=r"no answer about 'slow.example' .* within 0.01 s"):
        run(resolve.resolve("slow.example", timeout=0.01))


def test_a_name_that_is_not_answered_keeps_no_other_waiting_and_is_asked_for_once(run, slow):
    async def main():
        names = [f"{number}.example" for number in range(50)]
        patient = [asyncio.create_task(resolve.resolve(name)) for name in names + names]
        assert (await resolve.resolve("localhost"))[0] in ("127.0.0.1", "::1")
        slow.answer.set()
        assert await asyncio.gather(*patient) == [("192.0.2.1",)] * 100
        assert sorted(slow.asked) == sorted(names)

    run(main())


def test_an_answer_that_comes_too_late_serves_who_asks_again(run, slow):
    async def main():
        with pytest.raises(ResolveError):
            await resolve.resolve("slow.example", timeout=0.01)
        again = asyncio.create_task(resolve.resolve("slow.example"))
        await asyncio.sleep(0)
        slow.answer.set()
        assert await again == ("192.0.2.1",)
        assert slow.asked == ["slow.example"]

    run(main())


def test_names_looked_up_at_once_are_bounded(run, slow, monkeypatch):
    monkeypatch.setattr(resolve, "LOOKUPS_AT_ONCE", 3)

    async def main():
        waiting = [asyncio.create_task(resolve.resolve(f"{number}.example")) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ResolveError, match="3 other names still are"):
            await resolve.resolve("one-too-many.example")
        slow.answer.set()
        await asyncio.gather(*waiting)
        assert await resolve.resolve("again.example") == ("192.0.2.1",)

    run(main())


def test_an_answer_after_the_end_of_the_loop_is_dropped(run, slow):
    with pytest.raises(ResolveError):
        run(resolve.resolve("slow.example", timeout=0.01))
    slow.answer.set()
    for thread in threading.enumerate():
        if thread.name.startswith("resolve "):
            thread.join()
    assert resolve._lookups == {}


def test_families_take_turns():
    ips = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"]
    assert dial.alternate_families(ips) == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]
    assert dial.alternate_families(["192.0.2.1", "192.0.2.2"]) == ["192.0.2.1", "192.0.2.2"]
    assert dial.alternate_families([]) == []


def listening(ip="127.0.0.1"):
    sock = socket.create_server((ip, 0), family=address.family_of(ip))
    return sock, sock.getsockname()[1]


def test_a_dead_address_does_not_keep_the_next_from_answering(run):
    async def main():
        server, port = listening("127.0.0.1")
        with server:
            # 127.0.0.2 refuses: nothing listens there
            sock = await dial._first_connected(["127.0.0.2", "::1", "127.0.0.1"], port)
            assert sock.getpeername() == ("127.0.0.1", port)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            sock.close()

    run(main())


def test_a_silent_address_delays_the_next_by_a_moment_only(run, monkeypatch):
    async def main():
        monkeypatch.setattr(dial, "ATTEMPT_DELAY_S", 0.02)
        full, full_port = listening("127.0.0.2")
        with full:
            full.listen(0)
            waiting = []
            for _ in range(4):  # fill its backlog: from now on it is silent
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.2", full_port))
                waiting.append(sock)
            with socket.create_server(("127.0.0.1", full_port)):
                sock = await asyncio.wait_for(dial._first_connected(["127.0.0.2", "127.0.0.1"], full_port), 5)
                assert sock.getpeername()[0] == "127.0.0.1"
                sock.close()
            for sock in waiting:
                sock.close()

    run(main())


def test_the_most_telling_error_is_raised(run):
    async def main():
        server, port = listening()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            # a link-local address without a zone says nothing of the host
            await dial._first_connected(["fe80::1", "127.0.0.1", "::1"], port)

    run(main())


def test_cancelling_frees_every_attempt(run, monkeypatch):
    async def main():
        monkeypatch.setattr(dial, "ATTEMPT_DELAY_S", 0.001)
        full, port = listening()
        with full:
            full.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            dialling = asyncio.create_task(dial._first_connected(["127.0.0.1"] * 4, port))
            await asyncio.wait([dialling], timeout=0.05)
            dialling.cancel()
            await asyncio.wait([dialling])
            assert dialling.cancelled()
            for sock in waiting:
                sock.close()

    run(main())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ECONNREFUSED, "x"), "host:1 refused the connection"),
        (OSError(errno.EHOSTUNREACH, "x"), "host:1 cannot be reached: no route"),
        (OSError(errno.ENETUNREACH, "x"), "host:1 cannot be reached: there is no network"),
        (OSError(errno.ETIMEDOUT, "x"), "host:1 stopped answering"),
        (OSError(errno.EPERM, "x"), "host:1 cannot be reached: this system forbids it"),
        (OSError(errno.EXDEV, os.strerror(errno.EXDEV)), "host:1: Invalid cross-device link"),
        (TimeoutError(), "no answer from host:1 in time"),
        (ConnectionResetError(), "host:1 closed the connection"),
        (ssl.SSLEOFError(8, "EOF occurred"), "host:1 closed the connection during the TLS handshake"),
        (ResolveError("host 'x' was not found"), "host 'x' was not found"),
        (ValueError("odd"), "host:1: odd"),
        (OSError(), "host:1: OSError"),
    ],
)
def test_errors_are_told_in_words(error, expected):
    assert explain(error, "host:1").startswith(expected)


def test_of_very_many_addresses_the_first_are_taken():
    found = [(f"192.0.2.{number}", 0) for number in range(200)]
    assert resolve._addresses("many.example", found) == tuple(f"192.0.2.{number}" for number in range(16))
