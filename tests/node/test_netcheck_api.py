"""`Node.netcheck` on real sockets, on loopback: there is no NAT, and the server has two addresses."""

import asyncio
import json

import pytest
from tests.node.running import run

from peerway import Node, NodeClosedError, PeerwayError
from peerway.core.path.candidate import CandidateKind
from peerway.netcheck import (
    Difficulty,
    FilteringFinding,
    MappingFinding,
    NoServersError,
    judge,
    record,
    render,
)
from peerway.server import Server


@pytest.fixture
def two_addresses():
    return lambda: Server(host=("127.0.0.1", "127.0.0.2"), relay_port=0, stun_port=0)


def test_a_node_finds_out_what_it_sits_behind_and_leaves_nothing_open(two_addresses):
    async def main():
        async with two_addresses() as server, Node(relays=[server.url]) as node:
            told = []
            report = await node.netcheck(on_progress=told.append)
            assert (report.udp_v4, report.public_v4) == (True, "127.0.0.1")
            assert report.mapping_v4 is MappingFinding.NONE
            assert report.filtering_v4 is FilteringFinding.ENDPOINT_INDEPENDENT
            assert (report.captive_portal, report.silent) == (False, ())
            assert report.home_relay == server.url
            assert report.relays[0].via == "udp"
            assert judge(report).difficulty is Difficulty.OPEN
            assert any(text.startswith("UDP over IPv4: yes, 127.0.0.1") for text in told)
            assert "Direct: with everyone." in render(report)
            assert json.loads(json.dumps(record(report)))["home_relay"] == server.url

    run(main())


def test_a_second_check_only_looks_whether_the_first_still_holds(two_addresses):
    async def main():
        async with two_addresses() as server, Node(relays=[server.url]) as node:
            first = await node.netcheck()
            told = []
            again = await node.netcheck(on_progress=told.append)
            assert (again.mapping_v4, again.filtering_v4) == (first.mapping_v4, first.filtering_v4)
            assert told == []
            await node.netcheck(full=True, on_progress=told.append)
            assert told != []

    run(main())


def test_a_relay_that_does_not_answer_is_named(two_addresses):
    async def main():
        async with two_addresses() as server, Node(relays=[server.url, "http://127.0.0.1:9?stun=9"]) as node:
            report = await node.netcheck()
            assert report.home_relay == server.url
            assert "refused" in report.relays[1].error
            assert report.silent == ("127.0.0.1:9: no answer to 5 requests in 1.8 s",)

    run(main())


def test_a_check_that_is_cancelled_leaves_nothing_open(two_addresses):
    async def main():
        async with two_addresses() as server, Node(relays=[server.url]) as node:
            check = asyncio.create_task(node.netcheck())
            await asyncio.sleep(0)
            check.cancel()
            with pytest.raises(asyncio.CancelledError):
                await check

    run(main())


def test_without_anybody_to_ask_it_says_what_to_give():
    async def main():
        async with Node() as node:
            with pytest.raises(NoServersError, match="give a relay"):
                await node.netcheck()
        with pytest.raises(NodeClosedError):
            await node.netcheck()

    run(main())


def test_an_advertised_address_is_a_candidate_of_its_own():
    async def main():
        async with Node(advertise=["198.51.100.7:41641"]) as node:
            assert [str(c) for c in node.candidates if c.kind is CandidateKind.STATIC] == [
                "198.51.100.7:41641 (static)"
            ]
        with pytest.raises(PeerwayError, match="IP:PORT"):
            Node(advertise=["home.example.org"])

    run(main())
