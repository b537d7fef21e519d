"""What one relay process on one processor carries, how long it takes, and what a silent client costs it.

Tailscale's derper is measured in turn with ours where it is installed; it then has one processor, too,
and one thread to run Go on.
"""

import contextlib
import statistics
import sys

import pytest
from tests.bench import programs
from tests.bench.figures import complete

PAIRS = 20
WINDOW = 32  # packets under way for each pair: what derper keeps for one client before it drops
SIZES = (1280, 200)
IDLE_CLIENTS = {"peerway": 5000, "derper": 1000}
CROWD = 100  # pairs, of which one may not read
GOAL = 1.5
TRANSPORTS = pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")


@contextlib.contextmanager
def relays(tls):
    """The relays that are here, by name, each running: program and URL."""
    with contextlib.ExitStack() as stack:
        found = {"peerway": stack.enter_context(programs.peerway_serve(*([] if tls else ["--plain"])))}
        if programs.is_here("derper"):
            found["derper"] = stack.enter_context(programs.derper(tls))
        else:
            print("\nderper is not here to be compared with: go install tailscale.com/cmd/derper@latest")
        yield found


def load(relay, order):
    """Put a relay under load; what the load saw, and what the relay used for it."""
    program, url = relay
    with programs.running(sys.executable, "-m", "tests.bench.relay_load", cpu=programs.LOAD_CPU) as clients:
        clients.tell({"url": url} | order)
        clients.hear()
        used = program.cpu_seconds()
        clients.hear()
        used = program.cpu_seconds() - used
        seen = clients.hear()
    return seen | {"relay_cpu": used / seen["seconds"], "packets_per_cpu_s": seen["packets"] / used}


def medians(rounds, *keys):
    return {key: statistics.median(each[key] for each in rounds) for key in keys}


def name(tls):
    return "tls" if tls else "plain"


@TRANSPORTS
def bench_relay_capacity(results, rounds, seconds, tls):
    figures = {}
    with relays(tls) as found:
        for size in SIZES:
            order = {"pairs": PAIRS, "size": size, "window": WINDOW, "seconds": seconds / 2}
            seen = {relay: [] for relay in found}
            for _ in range(rounds):
                for relay, running in found.items():
                    seen[relay].append(load(running, order))
            keys = ("packets_per_s", "gigabits_per_s", "packets_per_cpu_s", "relay_cpu", "load_cpu", "lost")
            figures[str(size)] = {relay: medians(each, *keys) for relay, each in seen.items()}
    print()
    for size, by_relay in figures.items():
        for relay, one in by_relay.items():
            print(
                f"{name(tls):6}{size:>5} bytes  {relay:8}{one['packets_per_s']:9,.0f} packets/s, "
                f"{one['gigabits_per_s']:.2f} Gb/s (relay busy {one['relay_cpu']:.0%}, "
                f"load {one['load_cpu']:.0%})"
            )
        if len(by_relay) == 2:
            ratio = by_relay["peerway"]["packets_per_s"] / by_relay["derper"]["packets_per_s"]
            by_relay["ratio"] = ratio
            print(f"{name(tls):6}{size:>5} bytes  {ratio:.2f} x derper; goal with TLS {GOAL} x")
    record = {"bench": f"relay-{name(tls)}", "pairs": PAIRS, "window": WINDOW, "goal": GOAL}
    results.write(f"relay-{name(tls)}", record | {"figures": complete(figures)})


@TRANSPORTS
def bench_relay_latency(results, seconds, tls):
    """How much later a packet comes than over a plain TCP connection between the same two ends."""
    figures = {}
    with relays(tls) as found:
        for relay, running in found.items():
            full = load(running, {"pairs": PAIRS, "size": 1280, "window": WINDOW, "seconds": seconds})
            for share in (0.2, 0.7):
                rate = share * full["packets_per_s"]
                seen = load(running, {"pairs": PAIRS, "size": 1280, "rate": rate, "seconds": 1.5 * seconds})
                figures.setdefault(relay, {})[f"{share:.0%}"] = added(seen)
    print()
    for relay, by_share in figures.items():
        for share, one in by_share.items():
            print(
                f"{name(tls):6}{relay:8} at {share} of its capacity ({one['packets_per_s']:,.0f} packets/s): "
                f"adds {one['added_p50_ms']:.2f} ms (p50), {one['added_p99_ms']:.2f} ms (p99), "
                f"lost {one['lost']:.2%} (relay busy {one['relay_cpu']:.0%}, load {one['load_cpu']:.0%})"
            )
    record = {"bench": f"relay-latency-{name(tls)}", "pairs": PAIRS}
    results.write(f"relay-latency-{name(tls)}", record | {"figures": complete(figures)})


def added(seen):
    """What the relay added to the time that the load itself and the kernel take, and what it lost."""
    relayed, direct = seen["relay_ms"], seen["direct_ms"]
    return {
        "added_p50_ms": relayed["p50"] - direct["p50"],
        "added_p99_ms": relayed["p99"] - direct["p99"],
        "direct_p99_ms": direct["p99"],
        "packets_per_s": seen["packets_per_s"],
        "lost": seen["lost"],
        "relay_cpu": seen["relay_cpu"],
        "load_cpu": seen["load_cpu"],
    }


@TRANSPORTS
def bench_relay_idle_clients(results, tls):
    """How much a relay grows with clients that say nothing."""
    figures = {}
    with relays(tls) as found:
        for relay, (program, url) in found.items():
            count = IDLE_CLIENTS[relay]
            before = program.resident_bytes()
            with programs.running(
                sys.executable, "-m", "tests.bench.relay_load", cpu=programs.LOAD_CPU
            ) as clients:
                clients.tell({"url": url, "clients": count})
                clients.hear()
                each = (program.resident_bytes() - before) / count
            figures[relay] = {"clients": count, "bytes_each": each}
            print(f"\n{name(tls)} {relay}: {each / 1000:.1f} kB for each of {count} silent clients")
    record = {"bench": f"relay-idle-{name(tls)}"}
    results.write(f"relay-idle-{name(tls)}", record | {"figures": complete(figures)})


@TRANSPORTS
def bench_relay_slow_reader(results, rounds, seconds, tls):
    """A hundred pairs at a quarter of what the relay can do, without and with one reader that never reads."""
    seen = {"all read": [], "with a deaf one": []}
    with programs.peerway_serve(*([] if tls else ["--plain"])) as relay:
        crowd = {"pairs": CROWD, "size": 1280}
        full = load(relay, crowd | {"window": WINDOW, "seconds": seconds})
        paced = crowd | {"rate": full["packets_per_s"] / 4, "seconds": seconds}
        for _ in range(min(rounds, 3)):
            for deaf, who in enumerate(seen):
                found = load(relay, paced | {"deaf": deaf})
                each = found["packets_per_s"] / (CROWD - deaf)
                seen[who].append(added(found) | {"packets_per_s_each": each})
    figures = {who: medians(found, *found[0]) for who, found in seen.items()}
    print()
    for who, one in figures.items():
        print(
            f"{name(tls):6}{who:16} {one['packets_per_s_each']:7,.0f} packets/s each of the others, adds "
            f"{one['added_p50_ms']:.2f} ms (p50), {one['added_p99_ms']:.2f} ms (p99), lost {one['lost']:.2%}"
        )
    record = {"bench": f"relay-slow-reader-{name(tls)}", "pairs": CROWD}
    results.write(f"relay-slow-reader-{name(tls)}", record | {"figures": complete(figures)})
