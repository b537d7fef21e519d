"""Many questions with one call, on real loopback sockets."""

import asyncio
import socket
import struct
import sys

import pytest

from peerway.core.machine import Transmit, UdpAddress
from peerway.core.stun.plain import Answers
from peerway.io import udp_many
from peerway.io.udp_many import QuestionSocket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="recvmmsg and sendmmsg are Linux's")

LOOPBACK = {"v4": "127.0.0.1", "v6": "::1"}
families = pytest.mark.parametrize("family", ["v4", "v6"])


class Parrot:
    """Answers a question that begins with `?` with its third byte, four times; the rest is for others."""

    def __init__(self, family):
        self.batches, self.others, self.failed = [], [], []
        self.left = asyncio.Event()
        self.socket = QuestionSocket(
            UdpAddress(LOOPBACK[family], 0), self.take_others, lambda *what: self.failed.append(what)
        )
        self.socket.answer_by(self.answer)

    def take_others(self, datagrams):
        self.others += datagrams
        self.left.set()

    def answer(self, questions):
        self.batches.append(questions)
        heads = [questions.heads[at : at + 20] for at in range(0, len(questions.heads), 20)]
        answered = [index for index, head in enumerate(heads) if head[:2] == b"??"]
        left = [index for index, head in enumerate(heads) if head[:1] != b"?"]
        return Answers(answered, b"".join(4 * heads[index][2:3] for index in answered), left)


def client(family, parrot):
    sock = socket.socket(
        socket.AF_INET6 if family == "v6" else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    )
    sock.connect((LOOPBACK[family], parrot.socket.local.port))
    return sock


async def received(sock, count):
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        return [await loop.sock_recv(sock, 4096) for _ in range(count)]


@families
def test_each_answer_goes_where_its_question_came_from(run, family):
    async def main():
        parrot = Parrot(family)
        clients = [client(family, parrot) for _ in range(100)]
        for number, sock in enumerate(clients):
            sock.send(b"??" + bytes([number]))
        for number, sock in enumerate(clients):
            assert await received(sock, 1) == [bytes([number]) * 4]
            port = sock.getsockname()[1]
            ip = socket.inet_pton(sock.family, LOOPBACK[family])
            asked = [batch.endpoints for batch in parrot.batches]
            assert any(struct.pack("!H", port) + ip in endpoints for endpoints in asked)
            sock.close()
        assert sum(len(batch.sizes) for batch in parrot.batches) == 100
        assert (parrot.others, parrot.failed) == ([], [])
        parrot.socket.close()

    run(main())


@families
def test_what_is_left_is_handed_on_whole_and_what_is_ignored_is_not(run, family):
    async def main():
        parrot = Parrot(family)
        with client(family, parrot) as sock:
            long = b"!" + bytes(range(250)) * 4
            for data in (b"??a", b"", long, b"?-", b"??b"):
                sock.send(data)
            assert await received(sock, 2) == [b"aaaa", b"bbbb"]
            assert [datagram.data for datagram in parrot.others] == [b"", long]
            own = sock.getsockname()
            assert {datagram.remote for datagram in parrot.others} == {UdpAddress(own[0], own[1])}
            assert {datagram.local for datagram in parrot.others} == {parrot.socket.local}
        parrot.socket.close()

    run(main())


def test_what_is_larger_than_any_question_is_cut(run):
    async def main():
        parrot = Parrot("v4")
        with client("v4", parrot) as sock:
            sock.send(b"!" * 5000)
            sock.send(b"??a")
            assert await received(sock, 1) == [b"aaaa"]
        assert [len(datagram.data) for datagram in parrot.others] == [1536]
        parrot.socket.close()

    run(main())


def test_questions_that_came_joined_are_answered_one_by_one(run):
    async def main():
        parrot = Parrot("v4")
        with client("v4", parrot) as sock:
            sock.sendmsg([b"??a", b"??b", b"??c"], [(socket.IPPROTO_UDP, 103, struct.pack("=H", 3))])
            assert await received(sock, 3) == [b"aaaa", b"bbbb", b"cccc"]
        parrot.socket.close()

    run(main())


def test_answers_that_the_socket_does_not_take_wait_for_it(run, monkeypatch):
    async def main():
        parrot = Parrot("v4")
        monkeypatch.setattr(udp_many._Many, "send", lambda many, answers: 1)
        with client("v4", parrot) as sock:
            for data in (b"??a", b"??b", b"??c"):
                sock.send(data)
            assert await received(sock, 2) == [b"bbbb", b"cccc"]
        parrot.socket.close()

    run(main())


def test_a_socket_closed_by_whoever_was_handed_something_is_left_alone(run):
    async def main():
        parrot = Parrot("v4")
        parrot.socket._on_datagrams = lambda batch: (parrot.take_others(batch), parrot.socket.close())
        with client("v4", parrot) as sock:
            for _ in range(100):
                sock.send(b"!")
            await parrot.left.wait()
        parrot.socket.send(Transmit((b"late",), UdpAddress("127.0.0.1", 9)))
        assert parrot.socket.drops == {"send: socket closed": 1}

    run(main())


def test_without_the_calls_everything_is_handed_on(run, monkeypatch):
    monkeypatch.setattr(udp_many, "_calls", lambda: None)

    async def main():
        parrot = Parrot("v4")
        with client("v4", parrot) as sock:
            sock.send(b"??a")
            await parrot.left.wait()
        assert [datagram.data for datagram in parrot.others] == [b"??a"]
        parrot.socket.close()

    run(main())
