"""stdin and stdout: nothing lost, nothing blocked, no descriptor left changed."""

import asyncio
import errno
import os
import threading

import pytest

from peerway.cli.errors import CommandError
from peerway.cli.stdio import CHUNKS_AHEAD, PENDING_LIMIT, Stdin, Stdout


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    threads = set(threading.enumerate())
    yield ends
    close(ends[1])
    # a reader that outlived its test would read from whatever gets the descriptor's number next
    for thread in set(threading.enumerate()) - threads:
        if thread.name == "stdin":
            thread.join(5)
    close(ends[0])


def close(descriptor):
    try:
        os.close(descriptor)
    except OSError:
        pass


async def read_all(source):
    data = b""
    while chunk := await source.read():
        data += chunk
    return data


def test_a_pipe_is_read_to_its_end(pipe):
    os.write(pipe[1], b"\x00\xffhello\r\n")
    os.close(pipe[1])
    assert asyncio.run(read_all(Stdin(pipe[0]))) == b"\x00\xffhello\r\n"


def test_a_regular_file_is_read_to_its_end(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        assert asyncio.run(read_all(Stdin(file.fileno()))) == content


def test_the_null_device_has_ended_at_once_and_stays_so():
    async def scenario(descriptor):
        source = Stdin(descriptor)
        return [await source.read(), await source.read()]

    with open(os.devnull, "rb") as null:
        assert asyncio.run(scenario(null.fileno())) == [b"", b""]


def test_a_cancelled_read_loses_nothing(pipe):
    async def scenario():
        source = Stdin(pipe[0])
        waiting = asyncio.create_task(source.read())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        os.write(pipe[1], b"later")
        return await source.read()

    assert asyncio.run(scenario()) == b"later"


def test_a_descriptor_that_was_left_non_blocking_is_read_all_the_same(pipe):
    os.set_blocking(pipe[0], False)

    async def scenario():
        source = Stdin(pipe[0])
        waiting = asyncio.create_task(source.read())
        await asyncio.sleep(0)
        os.write(pipe[1], b"data")
        return await waiting

    assert asyncio.run(scenario()) == b"data"


def test_stdin_is_not_read_before_someone_asks_and_only_so_far_ahead(tmp_path):
    (tmp_path / "file").write_bytes(bytes(8_000_000))
    with (tmp_path / "file").open("rb") as file:

        async def scenario():
            source = Stdin(file.fileno())
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0
            return len(await source.read())

        chunk = asyncio.run(scenario())
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) <= (CHUNKS_AHEAD + 1) * chunk


def test_a_stdin_that_cannot_be_read_is_told(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(CommandError, match="cannot read stdin: Is a directory"):
            asyncio.run(read_all(Stdin(descriptor)))
    finally:
        os.close(descriptor)


def test_what_is_written_arrives_in_order(pipe):
    async def scenario():
        sink = Stdout(pipe[1])
        for number in range(100):
            await sink.write(b"%d," % number)
        await sink.flush()

    asyncio.run(scenario())
    assert os.read(pipe[0], 10_000) == b"".join(b"%d," % number for number in range(100))


def test_a_slow_reader_holds_back_the_writer_but_not_the_loop(pipe):
    total = PENDING_LIMIT + 500_000
    read = []

    def drain():
        while sum(read) < total:
            read.append(len(os.read(pipe[0], 1 << 16)))

    async def scenario():
        sink = Stdout(pipe[1])
        writing = asyncio.create_task(sink.write(bytes(total)))
        await asyncio.sleep(0)
        assert not writing.done()
        reader.start()
        await writing
        await sink.flush()

    reader = threading.Thread(target=drain)
    asyncio.run(scenario())
    reader.join()
    assert sum(read) == total


def test_a_reader_that_went_away_is_an_error_at_the_latest_in_flush(pipe):
    async def scenario():
        sink = Stdout(pipe[1])
        os.close(pipe[0])
        await sink.write(b"lost")
        await sink.flush()

    with pytest.raises(CommandError, match="cannot write to stdout: Broken pipe"):
        asyncio.run(scenario())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told():
    async def scenario(descriptor):
        sink = Stdout(descriptor)
        await sink.write(b"lost")
        await sink.flush()

    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(CommandError, match=os.strerror(errno.ENOSPC)),
    ):
        asyncio.run(scenario(full.fileno()))


def test_no_descriptor_is_made_non_blocking(pipe):
    async def scenario():
        os.write(pipe[1], b"x")
        await Stdin(pipe[0]).read()
        sink = Stdout(pipe[1])
        await sink.write(b"y")
        await sink.flush()

    asyncio.run(scenario())
    assert os.get_blocking(pipe[0])
    assert os.get_blocking(pipe[1])
