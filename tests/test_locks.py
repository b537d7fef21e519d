"""The two locks, of what peerway needs and of what benchmarks measure beside it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def pins(lock):
    return dict(PIN.findall((ROOT / lock).read_text()))


def test_the_locks_agree_where_they_name_the_same_package():
    needed, beside = pins("requirements.lock"), pins("requirements-bench.lock")
    both = needed.keys() & beside.keys()
    assert {"qh3", "cryptography", "msgspec"} <= both
    assert {name: beside[name] for name in both} == {name: needed[name] for name in both}


def test_what_is_measured_beside_peerway_is_not_installed_for_the_tests():
    assert {"aioquic", "iroh"} <= pins("requirements-bench.lock").keys() - pins("requirements.lock").keys()
