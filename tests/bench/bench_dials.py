"""What a dial costs the processor in the simulated internet, over QUIC and over what stands in for it."""

import time

from tests.sim.two_homes import TwoHomes

DIALS = 60
ECHO = bytes(10_000)


def dial(seed, quic):
    """Two nodes, relay and STUN from nothing to a direct path, and 10 kB there and back."""
    homes = TwoHomes(seed=seed, quic=quic, is_traced=False)
    homes.dial()
    assert homes.world.run_while(lambda: not homes.both_direct(), 3.0)
    assert homes.transfer(homes.open_stream(), ECHO, ECHO) == (ECHO, ECHO)


def milliseconds_each(quic):
    dial(0, quic)
    begun = time.process_time()
    for seed in range(DIALS):
        dial(seed, quic)
    return 1000 * (time.process_time() - begun) / DIALS


def bench_a_simulated_dial():
    simulated, quic = milliseconds_each(quic=False), milliseconds_each(quic=True)
    print(
        f"\n{simulated:.1f} ms a dial, {1000 / simulated:.0f} a second; "
        f"over QUIC {quic:.1f} ms: {quic / simulated:.1f} times as much"
    )
