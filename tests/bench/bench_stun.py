"""How many strangers a STUN server can tell their address, beside coturn on the same processor."""

import statistics
import sys

import pytest
from tests.bench import programs
from tests.bench.figures import complete

from peerway.core.relay.url import RelayUrl

CLIENTS = 4096
GOAL = 1.1


def measured(server, port, load, clients, seconds):
    """Answers a second, microseconds of the server's processor each, and how busy the load was."""
    used = server.cpu_seconds()
    load.tell({"port": port, "clients": clients, "seconds": seconds})
    seen = load.hear()
    used = server.cpu_seconds() - used
    return {
        "answers_per_s": seen["answers"] / seen["seconds"],
        "answers_per_cpu_s": seen["answers"] / used,
        "server_cpu": used / seen["seconds"],
        "load_cpu": seen["load_cpu"],
        "lost": seen["lost"],
    }


def medians(rounds):
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


@pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
def bench_stun_answers_beside_coturn(results, rounds, seconds):
    """Rounds in turn, so that whatever else the machine does meets both. coturn is also asked by a single
    client, at which it is faster: a table of sessions is part of its work, and none of ours."""
    assert programs.is_here("turnserver"), "coturn is to be compared with: apt-get install coturn"
    seen = {"peerway": [], "coturn": [], "coturn, one client": []}
    with (
        programs.peerway_serve("--plain") as (ours, url),
        programs.coturn() as (theirs, their_port),
        programs.running(sys.executable, "-m", "tests.bench.stun_load", cpu=programs.LOAD_CPU) as load,
    ):
        our_port = RelayUrl.parse(url).stun_port
        for _ in range(rounds):
            seen["peerway"].append(measured(ours, our_port, load, CLIENTS, seconds))
            seen["coturn"].append(measured(theirs, their_port, load, CLIENTS, seconds))
            seen["coturn, one client"].append(measured(theirs, their_port, load, 1, seconds))
    found = {name: medians(each) for name, each in seen.items()}
    per_core = {name: each["answers_per_cpu_s"] for name, each in found.items()}
    ratio = per_core["peerway"] / per_core["coturn"]
    strict = per_core["peerway"] / per_core["coturn, one client"]
    print()
    for name, each in found.items():
        print(
            f"{name:19}{each['answers_per_s']:10,.0f} answers/s, {each['answers_per_cpu_s']:10,.0f} "
            f"a second of its processor (busy {each['server_cpu']:.0%}, load {each['load_cpu']:.0%})"
        )
    print(f"per core {ratio:.2f} x coturn, {strict:.2f} x coturn with one client; goal {GOAL} x")
    figures = complete(found | {"ratio": ratio, "ratio_to_one_client": strict})
    results.write("stun", {"bench": "stun", "clients": CLIENTS, "goal": GOAL, "figures": figures})
