"""The iroh package with its own settings, without relays or discovery: dials a key at an address."""

from __future__ import annotations

from iroh import Endpoint, EndpointAddr, EndpointId, EndpointOptions, RelayMode, preset_minimal
from tests.bench.ends.task import CHUNK, PORT, Met, Meter, Ready, Stopwatch, Task, run, task, tell

ALPN = b"bench"


async def _endpoint(port: int) -> Endpoint:
    options = EndpointOptions(
        preset=preset_minimal(),
        bind_addr=f"0.0.0.0:{port}",
        relay_mode=RelayMode.disabled(),
        alpns=[ALPN],
    )
    return await Endpoint.bind(options)


async def listen(job: Task) -> None:
    endpoint = await _endpoint(PORT)
    tell(Ready(str(endpoint.id())))
    incoming = await endpoint.accept_next()
    assert incoming is not None
    connection = await (await incoming.accept()).connect()
    stream = await connection.accept_bi()
    await stream.send().write_all(await stream.recv().read(1))
    meter, source = Meter(job.seconds, sent=False), (await connection.accept_bi()).recv()
    while data := await source.read(CHUNK):
        meter.count(len(data))


async def dial(job: Task) -> None:
    endpoint = await _endpoint(0)
    watch = Stopwatch()
    address = EndpointAddr(EndpointId.from_string(job.to), None, [f"{job.public_ip}:{PORT}"])
    connection = await endpoint.connect(address, ALPN)
    stream = await connection.open_bi()
    await stream.send().write_all(b"?")
    await stream.recv().read(1)
    tell(Met(watch.milliseconds))
    sink, meter, chunk = (await connection.open_bi()).send(), Meter(job.seconds, sent=True), bytes(CHUNK)
    while True:
        await sink.write_all(chunk)
        meter.count(CHUNK)


if __name__ == "__main__":
    run((dial if task().to else listen)(task()))
