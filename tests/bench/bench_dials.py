"""Dials a second in the simulated internet, on two cores: over QUIC and over what stands in for it."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from tests.sim.two_homes import TwoHomes

DIALS = 100  # in each process
CORES = 2
ECHO = bytes(10_000)


def dial(seed, quic):
    """Two nodes, relay and STUN from nothing to a direct path, and 10 kB there and back."""
    homes = TwoHomes(seed=seed, quic=quic, is_traced=False)
    homes.dial()
    assert homes.world.run_while(lambda: not homes.both_direct(), 3.0)
    assert homes.transfer(homes.open_stream(), ECHO, ECHO) == (ECHO, ECHO)


def seconds_of_processor(quic):
    """What `DIALS` cost one process, after a first."""
    dial(0, quic)
    begun = time.process_time()
    for seed in range(DIALS):
        dial(seed, quic)
    return time.process_time() - begun


def rate(quic):
    """Milliseconds of processor a dial, and dials a second of all `CORES` processes at once."""
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        for warm in [pool.submit(dial, 0, quic) for _ in range(CORES)]:
            warm.result()
        begun = time.perf_counter()
        spent = [job.result() for job in [pool.submit(seconds_of_processor, quic) for _ in range(CORES)]]
        elapsed = time.perf_counter() - begun
    return 1000 * sum(spent) / (CORES * DIALS), CORES * (DIALS + 1) / elapsed


def bench_simulated_dials():
    for name, quic in (("without QUIC", False), ("over QUIC", True)):
        cost, dials = rate(quic)
        print(f"\n{name}: {dials:.0f} dials a second on {CORES} cores, {cost:.1f} ms of processor each")
