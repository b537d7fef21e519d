"""Thousands of STUN clients in one process: binding requests from as many addresses, answers counted.

A program of its own: `python -m tests.bench.stun_load` reads lines of JSON, each an order, and prints a
line for each. Every client is another address in 127.0.0.0/8, so that a server's limits for one address
count as they do outside; the kernel takes the address with the message (IP_PKTINFO), so one socket
speaks for all. Requests go and answers come 64 a system call, which leaves this far from being the
slower side. So many requests are under way at a time, and no answer is waited for in vain for long.
"""

import ctypes
import json
import os
import select
import socket
import struct
import sys
import time

from peerway.core.stun.framing import COOKIE
from peerway.io.udp_many import BATCH, _Buffer, _calls, _Message

UNDER_WAY = 512
SILENCE_LIMIT_MS = 200
ANSWER_BYTES = 128
REQUEST = b"\x00\x01\x00\x00" + COOKIE
SUCCESS = b"\x01\x01"
IP_PKTINFO = 8
FIRST_CLIENT = int.from_bytes(socket.inet_aton("127.16.0.1"), "big")


class Clients:
    """`count` of them, rounded up to whole batches; each asks again and again, in turn."""

    def __init__(self, count, port):
        self._receive, self._send = _calls()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self._sock.bind(("0.0.0.0", 0))
        self._count = max(count, BATCH) // BATCH * BATCH
        self._lay_out_requests(count, port)
        self._lay_out_answers()
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)
        self._next = 0

    def _lay_out_requests(self, count, port):
        self._name = ctypes.create_string_buffer(
            struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", port, socket.inet_aton("127.0.0.1"))
        )
        self._control = [
            ctypes.create_string_buffer(said_from(number % count)) for number in range(self._count)
        ]
        self._data = [ctypes.create_string_buffer(REQUEST + os.urandom(12), 20) for _ in range(self._count)]
        self._requests, self._request_buffers = laid_out(self._data)
        for message, control in zip(self._requests, self._control, strict=True):
            message.header.name, message.header.name_bytes = ctypes.addressof(self._name), 16
            message.header.control, message.header.control_bytes = ctypes.addressof(control), 32

    def _lay_out_answers(self):
        self._answers_data = [ctypes.create_string_buffer(ANSWER_BYTES) for _ in range(BATCH)]
        self._answers, self._answer_buffers = laid_out(self._answers_data)

    def ask(self, seconds):
        """Ask for so long; how many answers came, how many were missed, and what it took."""
        fd, step = self._sock.fileno(), ctypes.sizeof(_Message)
        first = ctypes.addressof(self._requests)
        waiting = answers = lost = 0
        begun, used = time.perf_counter(), time.process_time()
        while time.perf_counter() < begun + seconds:
            while waiting + BATCH <= UNDER_WAY:
                sent = self._send(fd, ctypes.c_void_p(first + self._next * step), BATCH, 0)
                assert sent > 0, os.strerror(ctypes.get_errno())
                waiting += sent
                self._next = (self._next + sent) % self._count
                if self._next + BATCH > self._count:
                    self._next = 0
            came = self._receive(fd, self._answers, BATCH, 0, None)
            if came > 0:
                answers, waiting = answers + came, max(0, waiting - came)
            elif not self._poll.poll(SILENCE_LIMIT_MS):
                lost, waiting = lost + waiting, 0
        took = time.perf_counter() - begun
        assert self._answers_data[0].raw.startswith(SUCCESS), "what came is no answer"
        return {
            "answers": answers,
            "lost": lost,
            "seconds": took,
            "load_cpu": (time.process_time() - used) / took,
        }


def laid_out(data):
    """Messages with these buffers."""
    messages, buffers = (_Message * len(data))(), (_Buffer * len(data))()
    for message, buffer, held in zip(messages, buffers, data, strict=True):
        buffer.at, buffer.size = ctypes.addressof(held), ctypes.sizeof(held)
        message.header.buffers, message.header.buffer_count = ctypes.addressof(buffer), 1
    return messages, buffers


def said_from(number):
    """The control message by which a message leaves from the address of client `number`."""
    ip = (FIRST_CLIENT + number).to_bytes(4, "big")
    return struct.pack("=Qii", 28, socket.IPPROTO_IP, IP_PKTINFO) + struct.pack("=i4s8x", 0, ip)


def main():
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(Clients(order["clients"], order["port"]).ask(order["seconds"])), flush=True)


if __name__ == "__main__":
    main()
