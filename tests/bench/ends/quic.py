"""What the ends over aioquic and over qh3's own asyncio transport share: the two look alike.

The listener sends and the dialler receives, which is the faster way round for qh3, whose own transport
reads in batches (GRO) as a client only. Their writers take everything at once and never ask to wait, so
the sender tops the transport's queue up whenever it sends. The receiver counts at the event, before the
stream reader's copies.
"""

from __future__ import annotations

import asyncio
import ssl

from tests.bench.ends.certificate import write_certificate
from tests.bench.ends.task import CHUNK, PORT, QUEUED_BYTES, Met, Meter, Ready, Stopwatch, Task, tell

ALPN = ["bench"]
ECHO, POUR = b"?", b"!"


def sender_of(protocol, stream_data_received, queued, seconds):
    """A server protocol that echoes, or keeps a stream supplied; `queued(quic, stream)` says how far."""

    class Sender(protocol):
        pouring = None
        meter = Meter(seconds, sent=True)

        def quic_event_received(self, event) -> None:
            if isinstance(event, stream_data_received) and event.data == ECHO:
                self._quic.send_stream_data(event.stream_id, ECHO)
            elif isinstance(event, stream_data_received) and event.data == POUR:
                self.pouring = event.stream_id
            self.transmit()

        def transmit(self) -> None:
            if self.pouring is not None:
                chunk = bytes(CHUNK)
                while queued(self._quic, self.pouring) < QUEUED_BYTES:
                    self._quic.send_stream_data(self.pouring, chunk)
                    self.meter.count(CHUNK)
            super().transmit()

    return Sender


def receiver_of(protocol, stream_data_received, seconds):
    """A client protocol that counts what comes on the stream `counted`."""

    class Receiver(protocol):
        counted = None
        meter = Meter(seconds, sent=False)

        def quic_event_received(self, event) -> None:
            if not isinstance(event, stream_data_received) or event.stream_id != self.counted:
                super().quic_event_received(event)
            else:
                self.meter.count(len(event.data))

    return Receiver


async def listen(job: Task, serve, configuration, sender) -> None:
    """Serve until killed."""
    chain, key = write_certificate()
    configuration = configuration(is_client=False, alpn_protocols=ALPN)
    configuration.load_cert_chain(chain, key)
    await serve("0.0.0.0", PORT, configuration=configuration, create_protocol=sender)
    tell(Ready(job.public_ip))
    await asyncio.Event().wait()


async def dial(job: Task, connect, configuration, receiver) -> None:
    """Connect, have a byte echoed, and count until killed."""
    watch = Stopwatch()
    configuration = configuration(is_client=True, alpn_protocols=ALPN, verify_mode=ssl.CERT_NONE)
    async with connect(job.to, PORT, configuration=configuration, create_protocol=receiver) as protocol:
        reader, writer = await protocol.create_stream()
        writer.write(ECHO)
        await reader.readexactly(1)
        tell(Met(watch.milliseconds))
        protocol.counted = protocol._quic.get_next_available_stream_id()
        _, writer = await protocol.create_stream()
        writer.write(POUR)
        await asyncio.Event().wait()
