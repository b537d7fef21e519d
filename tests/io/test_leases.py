import json
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest

from peerway.core.machine import UdpAddress
from peerway.core.portmap.lease import Lease
from peerway.core.portmap.report import Protocol
from peerway.io.leases import LeaseStore
from peerway.io.state import StateError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files cannot be locked here")

PCP = Lease(
    Protocol.PCP, "192.168.1.1", UdpAddress("192.168.1.2", 5), 6, bytes(range(12)), "203.0.113.7", 3600
)
UPNP = replace(PCP, protocol=Protocol.UPNP, nonce=b"", lifetime_s=0)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "state"


def files(home):
    return sorted(path.name for path in home.iterdir()) if home.exists() else []


def abandoned(home, *leases):
    """What a run leaves that was killed: its file, not locked."""
    store = LeaseStore(home)
    store.keep(leases)
    store.close()


def test_nothing_is_made_before_there_is_something_to_keep(home):
    store = LeaseStore(home)
    assert store.take_over() == ()
    store.keep(())
    store.close()
    assert not home.exists()


def test_a_later_run_finds_what_a_killed_one_left(home):
    abandoned(home, PCP, UPNP)
    store = LeaseStore(home)
    assert store.take_over() == (PCP, UPNP)
    store.keep((UPNP,))
    assert len(files(home)) == 1
    store.keep(())
    store.close()
    assert files(home) == []


def test_only_the_owner_can_read_it(home):
    abandoned(home, PCP)
    (name,) = files(home)
    assert (home / name).stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


def test_what_a_run_holds_that_still_lives_is_not_taken(home):
    living = LeaseStore(home)
    living.keep((PCP,))
    living.keep((PCP, UPNP))
    other = LeaseStore(home)
    assert other.take_over() == ()
    living.close()
    assert other.take_over() == (PCP, UPNP)
    assert LeaseStore(home).take_over() == ()  # it is the other's now
    other.close()


def test_what_was_taken_over_and_not_dealt_with_is_found_again(home):
    abandoned(home, PCP)
    first = LeaseStore(home)
    assert first.take_over() == (PCP,)
    first.close()
    second = LeaseStore(home)
    assert second.take_over() == (PCP,)
    second.close()


PROGRAM = """
    import sys
    from pathlib import Path
    from peerway.core.machine import UdpAddress
    from peerway.core.portmap.lease import Lease
    from peerway.core.portmap.report import Protocol
    from peerway.io.leases import LeaseStore

    store = LeaseStore(Path(sys.argv[1]))
    store.keep((Lease(Protocol.NAT_PMP, "192.168.1.1", UdpAddress("192.168.1.2", 5), 6),))
    print("kept", flush=True)
    sys.stdin.read()
"""


def test_kill_9_leaves_the_leases_to_the_next_run(home):
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(home)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "kept\n"
        store = LeaseStore(home)
        assert store.take_over() == ()
        run.kill()
        run.wait()
    (lease,) = store.take_over()
    assert (lease.protocol, lease.external_port) == (Protocol.NAT_PMP, 6)
    store.close()


def test_a_lease_that_is_over_is_forgotten_and_a_renewed_one_is_not(home, monkeypatch):
    real = time.time
    store = LeaseStore(home)
    store.keep((PCP, UPNP))
    monkeypatch.setattr(time, "time", lambda: real() + 3000)
    store.renewed()
    store.close()
    monkeypatch.setattr(time, "time", lambda: real() + 6000)
    later = LeaseStore(home)
    assert later.take_over() == (PCP, UPNP)
    later.close()
    monkeypatch.setattr(time, "time", lambda: real() + 8000)
    later = LeaseStore(home)
    assert later.take_over() == (UPNP,)
    later.close()
    monkeypatch.setattr(time, "time", lambda: real() + 40 * 86_400)
    later = LeaseStore(home)
    assert later.take_over() == ()
    later.keep(())
    later.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"written": "x", "leases": []}',
        json.dumps({"written": 1, "leases": [{"a": 1}]}),
        "\xff",
        '{"written": 1, "x": ' + "[" * 3000,
        '{"written": 1, "leases": [{"gateway": "\xff"}]}',
    ],
)
def test_a_file_of_no_use_is_ignored_and_removed(home, text):
    home.mkdir()
    (home / "portmap-0123.json").write_text(text, encoding="latin-1")
    store = LeaseStore(home)
    assert store.take_over() == ()
    store.keep((PCP,))
    assert len(files(home)) == 1
    assert "portmap-0123.json" not in files(home)
    store.keep(())
    store.close()


def test_other_files_are_left_alone(home):
    home.mkdir()
    (home / "listen.key").write_text("secret")
    store = LeaseStore(home)
    store.take_over()
    store.keep((PCP,))
    store.keep(())
    store.close()
    assert files(home) == ["listen.key"]


def test_a_directory_that_cannot_be_written_to_is_an_error_that_says_so(home):
    home.write_text("not a directory")
    with pytest.raises(StateError, match="state"):
        LeaseStore(home).keep((PCP,))


def test_a_directory_others_may_write_to_is_refused(home):
    home.mkdir()
    os.chmod(home, 0o777)
    with pytest.raises(StateError, match="others may write"):
        LeaseStore(home).keep((PCP,))
