"""The kernel's TCP, with plain sockets: what the network itself can carry."""

from __future__ import annotations

import socket

from tests.bench.ends.task import CHUNK, PORT, Met, Meter, Ready, Stopwatch, Task, task, tell


def listen(job: Task) -> None:
    with socket.create_server(("", PORT)) as server:
        tell(Ready(job.public_ip))
        connection, _ = server.accept()
        connection.sendall(connection.recv(1))
        meter, buffer = Meter(job.seconds, sent=False), bytearray(CHUNK)
        while size := connection.recv_into(buffer):
            meter.count(size)


def dial(job: Task) -> None:
    watch = Stopwatch()
    with socket.create_connection((job.to, PORT)) as connection:
        connection.sendall(b"?")
        connection.recv(1)
        tell(Met(watch.milliseconds))
        meter, chunk = Meter(job.seconds, sent=True), bytes(CHUNK)
        while True:
            connection.sendall(chunk)
            meter.count(CHUNK)


if __name__ == "__main__":
    (dial if task().to else listen)(task())
