"""The UDP socket of a server that strangers ask: 64 questions come, and 64 answers leave, with one call.

UDP_GRO and UDP_SEGMENT join what goes between two ends. Where every client sends one small question
there is nothing to join, and an answer costs two system calls and a dozen Python objects. Linux has
`recvmmsg` and `sendmmsg` for that. Python has neither, so they are called through ctypes, on memory
that is laid out once; addresses stay as the kernel writes them, since the answer to a question goes
where it came from.

Elsewhere, and for questions that want more thought, the socket is an ordinary `UdpSocket`.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from peerway.core.machine import Datagram, Transmit, UdpAddress
from peerway.core.stun.framing import HEADER_SIZE
from peerway.core.stun.plain import Answers, Questions
from peerway.io import udp_options
from peerway.io.address import SocketAddress, from_socket_address
from peerway.io.udp import UdpSocket

BATCH = 64  # datagrams a call
BATCHES_PER_WAKE = 4
REST_BYTES = 1516  # of a message behind its head; what is larger is cut
HEAD_BYTES = HEADER_SIZE  # of a message, kept apart from the rest of it


class QuestionSocket(UdpSocket):
    """A bound UDP socket that can answer questions by the batch (`answer_by`); else a `UdpSocket`."""

    _many: _Many | None = None
    _answer: Callable[[Questions], Answers]

    def answer_by(self, answer: Callable[[Questions], Answers]) -> None:
        """Have `answer` see first what comes, where the system has the calls for that.

        What it leaves goes to `on_datagrams`, as all does on other systems.
        """
        found = _calls()
        if found is not None:
            # The kernel parts again what came joined, so that each segment is a message of its own.
            with suppress(OSError):
                self._socket.setsockopt(udp_options.SOL_UDP, udp_options.UDP_GRO, 0)
            self._answer, self._many = answer, _Many(self._socket, *found)

    def _readable(self) -> None:
        if self._many is None:
            super()._readable()
            return
        for _ in range(BATCHES_PER_WAKE):
            try:
                count = self._many.receive()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._count_receive_error(error)
                continue
            self._answer_batch(self._many, count)
            if count < BATCH or self._closed:
                return

    def _answer_batch(self, many: _Many, count: int) -> None:
        answers = self._answer(many.questions(count))
        left = [Datagram(many.message(index), many.sender(index), self.local) for index in answers.left]
        sent = 0
        if answers.answered and not self._queue:
            sent = many.send(answers)
        size = len(answers.data) // (len(answers.answered) or 1)
        for place, index in list(enumerate(answers.answered))[sent:]:  # what the socket did not take
            answer = answers.data[place * size : (place + 1) * size]
            self.send(Transmit((answer,), many.sender(index), self.local))
        if left:
            self._on_datagrams(left)


class _Buffer(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """`struct msghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("buffers", ctypes.c_void_p),
        ("buffer_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """`struct mmsghdr`: `size` is how many bytes came or went."""

    _fields_ = (("header", _Header), ("size", ctypes.c_uint))


class _Block:
    """Messages laid out for the kernel: each has a place for its address, and one for each of its parts.

    The places of one kind are back to back.
    """

    def __init__(self, name_bytes: int, *part_bytes: int) -> None:
        self.messages = (_Message * BATCH)()
        self._buffers = (_Buffer * (BATCH * len(part_bytes)))()
        self.names = _Places(name_bytes)
        self.parts = [_Places(size) for size in part_bytes]
        sizes = memoryview(self.messages).cast("B").cast("I")
        first = _Message.size.offset // sizes.itemsize
        self._sizes = sizes[first :: ctypes.sizeof(_Message) // sizes.itemsize]
        for index, message in enumerate(self.messages):
            first_buffer = index * len(part_bytes)
            for number, part in enumerate(self.parts):
                self._buffers[first_buffer + number] = _Buffer(part.address(index), part.size)
            message.header.name, message.header.name_bytes = self.names.address(index), name_bytes
            message.header.buffers = ctypes.addressof(self._buffers[first_buffer])
            message.header.buffer_count = len(part_bytes)

    def sizes(self, count: int) -> list[int]:
        """How many bytes of each of the first messages came or went."""
        return self._sizes[:count].tolist()


class _Places:
    """Memory for `BATCH` things of one size."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = (ctypes.c_char * (size * BATCH))()
        self.view = memoryview(self._memory).cast("B")

    def address(self, index: int) -> int:
        return ctypes.addressof(self._memory) + index * self.size

    def first(self, count: int) -> bytes:
        return bytes(self.view[: count * self.size])

    def at(self, index: int) -> bytes:
        return bytes(self.view[index * self.size : (index + 1) * self.size])


class _Many:
    """The two calls on one socket."""

    def __init__(self, sock: socket.socket, receive: Any, send: Any) -> None:
        self._fd = sock.fileno()
        self._receive, self._send = receive, send
        self._six = sock.family == socket.AF_INET6
        self._name_bytes = 28 if self._six else 16  # struct sockaddr_in6, sockaddr_in
        self._asked = _Block(self._name_bytes, HEAD_BYTES, REST_BYTES)
        self._answers: dict[int, _Block] = {}  # by their size

    def receive(self) -> int:
        """How many messages came. Raises `OSError`."""
        count = self._receive(self._fd, self._asked.messages, BATCH, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(count)

    def questions(self, count: int) -> Questions:
        """The first messages of those that came."""
        names, step = self._asked.names.first(count), self._name_bytes
        columns = (2, 3, *range(8, 24)) if self._six else range(2, 8)
        endpoints = bytearray(len(columns) * count)
        for place, column in enumerate(columns):
            endpoints[place :: len(columns)] = names[column::step]
        return Questions(bytes(endpoints), self._asked.parts[0].first(count), self._asked.sizes(count))

    def message(self, index: int) -> bytes:
        """One of the messages that came."""
        head, rest = self._asked.parts
        return (head.at(index) + rest.at(index))[: self._asked.sizes(index + 1)[index]]

    def sender(self, index: int) -> UdpAddress:
        """Who sent that message."""
        name = self._asked.names.at(index)
        port = int.from_bytes(name[2:4], "big")
        address: SocketAddress = (socket.inet_ntop(socket.AF_INET, name[4:8]), port)
        if self._six:
            ip, zone = socket.inet_ntop(socket.AF_INET6, name[8:24]), name[24:28]
            address = (ip, port, 0, int.from_bytes(zone, sys.byteorder))
        return from_socket_address(address)

    def send(self, answers: Answers) -> int:
        """Send the answers where the questions came from; how many the socket took before it refused one."""
        count = len(answers.answered)
        block = self._block_for(len(answers.data) // count)
        names, step = self._asked.names.view, self._name_bytes
        if answers.answered[-1] == count - 1:  # all of the first ones
            block.names.view[: count * step] = names[: count * step]
        else:
            chosen = [names[index * step : (index + 1) * step] for index in answers.answered]
            block.names.view[: count * step] = b"".join(chosen)
        block.parts[0].view[: len(answers.data)] = answers.data
        return max(0, int(self._send(self._fd, block.messages, count, socket.MSG_DONTWAIT)))

    def _block_for(self, size: int) -> _Block:
        block = self._answers.get(size)
        if block is None:
            block = self._answers[size] = _Block(self._name_bytes, size)
        return block


def _calls() -> tuple[Any, Any] | None:
    """`recvmmsg` and `sendmmsg`, None on a system without them."""
    if not udp_options.ON_LINUX:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    try:
        return library.recvmmsg, library.sendmmsg
    except AttributeError:
        return None
