"""The driver's side of the contract, and the machine's, which the driver checks."""

import pytest
from tests.sim.toy_machines import Scribe

from peerway.core.machine import (
    CloseSocket,
    Deadline,
    Event,
    Leaf,
    OpenSocket,
    RelayAddress,
    Resolve,
    Transmit,
    UdpAddress,
)
from peerway.sim.network.driver import ContractError
from peerway.sim.network.host import Host
from peerway.sim.network.tree import LinkQuality, Router
from peerway.sim.network.world import World

A, B = UdpAddress("192.0.2.1", 41641), UdpAddress("192.0.2.2", 41641)


def two_scribes(coalesce=True):
    world = World(1)
    core = Router(world, "core")
    drivers = []
    for name, address in (("a", "192.0.2.1/24"), ("b", "192.0.2.2/24")):
        host = Host(world, name, coalesce)
        host.attach(core, address)
        host.open_udp(41641)
        drivers.append(host.run(Scribe()))
    return world, *drivers


def lone_host():
    world = World(1)
    host = Host(world, "a")
    host.attach(Router(world, "core"), "192.0.2.1/24")
    return world, host


# --- time


def test_clock_jumps_to_deadlines_and_calls_at_the_very_moment():
    world, a, _ = two_scribes()
    a.call(lambda now: a.machine.arm(3600.5))
    world.run_until(10_000.0)
    assert a.machine.inputs[1:] == [("timeout", 3600.5)]
    assert world.now == 10_000.0


def test_deadline_that_moves_is_called_once_where_it_moved_to():
    world, a, _ = two_scribes()
    for at in (5.0, 9.0, 7.0):
        a.call(lambda now, at=at: a.machine.arm(at))
    world.run_until(20.0)
    assert a.machine.inputs[1:] == [("timeout", 7.0)]


def test_run_while_stops_at_the_moment_or_at_its_limit():
    world, a, _ = two_scribes()
    a.call(lambda now: a.machine.arm(5.0))
    assert world.run_while(lambda: len(a.machine.inputs) < 2, limit_s=60.0) is True
    assert world.now == 5.0
    assert world.run_while(lambda: True, limit_s=60.0) is False
    assert world.now == 65.0


def test_what_is_due_at_one_moment_happens_in_the_order_it_was_scheduled():
    world = World(1)
    order = []
    for name in "abc":
        world.at(1.0, order.append, name)
    world.at(0.5, lambda: world.after(0.5, order.append, "d"))
    world.run_until(1.0)
    assert order == ["a", "b", "c", "d"]


# --- datagrams


def test_segments_that_arrive_together_are_one_datagram():
    world, a, b = two_scribes()
    a.call(lambda now: a.machine.send(B, (b"12", b"34", b"5")))
    a.call(lambda now: a.machine.send(B, (b"67", b"89")))
    world.run_for(1.0)
    assert [(d.data, d.segment_size, d.remote, d.local) for d in b.machine.datagrams] == [
        (b"12345", 2, A, UdpAddress("0.0.0.0", 41641)),
        (b"6789", 2, A, UdpAddress("0.0.0.0", 41641)),
    ]


def test_without_coalescing_every_segment_is_a_datagram():
    world, a, b = two_scribes(coalesce=False)
    a.call(lambda now: a.machine.send(B, (b"12", b"34", b"5")))
    world.run_for(1.0)
    assert [(d.data, d.segment_size) for d in b.machine.datagrams] == [(b"12", 0), (b"34", 0), (b"5", 0)]


def test_at_most_64_datagrams_are_coalesced():
    world, a, b = two_scribes()
    a.call(lambda now: a.machine.send(B, (b"xx",) * 100))
    world.run_for(1.0)
    assert [len(d.data) for d in b.machine.datagrams] == [128, 72]


def test_socket_of_one_address_hears_only_what_is_for_it():
    world, a, _ = two_scribes()
    host = Host(world, "c")
    host.attach(a.host.link().upper, "192.0.2.3/24", "192.0.2.4/24")
    host.open_udp(7, "192.0.2.4")
    machine = Scribe()
    host.run(machine)
    for ip in ("192.0.2.3", "192.0.2.4"):
        a.call(lambda now, ip=ip: a.machine.send(UdpAddress(ip, 7)))
    world.run_for(1.0)
    assert [d.local for d in machine.datagrams] == [UdpAddress("192.0.2.4", 7)]


def test_answer_leaves_from_the_interface_on_the_destinations_network():
    world = World(1)
    core = Router(world, "core")
    near, far = Host(world, "near"), Host(world, "far")
    far.attach(core, "192.0.2.1/24", interface="eth0")
    far.attach(core, "10.9.0.1/24", interface="eth1")
    near.attach(core, "10.9.0.2/24")
    near.open_udp(7)
    machine = Scribe()
    near.run(machine)
    far.open_udp(7)
    driver = far.run(Scribe())
    driver.call(lambda now: driver.machine.send(UdpAddress("10.9.0.2", 7)))
    world.run_for(1.0)
    assert [str(d.remote) for d in machine.datagrams] == ["10.9.0.1:7"]


def test_sockets_are_opened_and_closed_as_the_machine_asks():
    _, a, _ = two_scribes()
    a.call(lambda now: a.machine.ask(OpenSocket("", "0.0.0.0"), OpenSocket("eth0", "192.0.2.1")))
    first, second = UdpAddress("0.0.0.0", 49152), UdpAddress("192.0.2.1", 49153)
    assert a.machine.inputs[1:] == [("opened", "", first), ("opened", "eth0", second)]
    a.call(lambda now: a.machine.ask(CloseSocket(second)))
    a.call(lambda now: a.machine.send(B, local=second))
    assert a.machine.inputs[-1] == ("failed", str(B), "no such socket")


def test_a_socket_at_an_address_that_is_not_ours_cannot_be_had():
    _, a, _ = two_scribes()
    a.call(lambda now: a.machine.ask(OpenSocket("eth1", "192.0.2.9"), OpenSocket("", "::")))
    assert a.machine.inputs[1:] == [
        ("failed", "eth1", "192.0.2.9", "a has no address 192.0.2.9"),
        ("failed", "", "::", "a has no address ::"),
    ]


def test_what_cannot_be_sent_is_told():
    _, a, _ = two_scribes()
    a.call(lambda now: a.machine.send(UdpAddress("2001:db8::1", 9)))
    a.call(lambda now: a.machine.send(B, local=UdpAddress("0.0.0.0", 9)))
    a.host.open_udp(9, "198.51.100.7")
    b = a.host.run(Scribe())
    b.call(lambda now: b.machine.send(B))
    assert a.machine.inputs[1:] == [
        ("failed", "[2001:db8::1]:9", "no such socket"),
        ("failed", "192.0.2.2:41641", "no such socket"),
    ]
    assert b.machine.inputs[1:] == [("failed", "192.0.2.2:41641", "network is unreachable")]


def test_socket_ports_are_given_in_turn_and_freed_by_close():
    _, host = lone_host()
    first = host.open_udp()
    assert (first.port, host.open_udp().port) == (49152, 49153)
    with pytest.raises(OSError, match=r"UDP port 49152 of 0\.0\.0\.0 is in use"):
        host.open_udp(49152)
    host.close_udp(first)
    assert host.open_udp(49152) == first


# --- what only the operating system knows


def test_machine_is_told_of_interfaces_that_come_and_go():
    world, host = lone_host()
    machine = Scribe()
    host.run(machine)
    host.attach(Router(world, "other"), "10.0.0.2/24", "2001:db8::2/64", interface="wlan0")
    host.detach("eth0")
    assert machine.inputs == [
        ("interfaces", ("192.0.2.1",)),
        ("interfaces", ("192.0.2.1", "10.0.0.2", "2001:db8::2")),
        ("interfaces", ("10.0.0.2", "2001:db8::2")),
    ]


def test_detached_host_is_reached_no_more():
    world, a, b = two_scribes()
    b.host.detach("eth0")
    a.call(lambda now: a.machine.send(B))
    world.run_for(1.0)
    assert b.machine.datagrams == []
    assert "drop nobody there" in world.trace.lines[-1]


def test_names_are_those_of_the_world():
    world, host = lone_host()
    world.names["server.test"] = ("203.0.113.10", "2001:db8::1")
    machine = Scribe()
    driver = host.run(machine)
    for name in ("server.test", "203.0.113.9", "nobody.test"):
        driver.call(lambda now, name=name: machine.resolve(name))
    world.run_for(1.0)
    assert machine.inputs[1:] == [
        ("resolved", "server.test", ("203.0.113.10", "2001:db8::1")),
        ("resolved", "203.0.113.9", ("203.0.113.9",)),
        ("resolved", "nobody.test", ()),
    ]


# --- sleep


def test_who_sleeps_hears_nothing_and_its_timer_fires_when_it_wakes():
    world, a, b = two_scribes()
    b.call(lambda now: b.machine.arm(5.0))
    world.run_until(1.0)
    b.host.sleep()
    a.call(lambda now: a.machine.send(B, b"lost"))
    world.run_until(10.0)
    assert b.machine.inputs[1:] == []
    b.host.wake()
    assert b.machine.inputs[1:] == [("timeout", 10.0)]
    a.call(lambda now: a.machine.send(B, b"heard"))
    world.run_until(11.0)
    assert [d.data for d in b.machine.datagrams] == [b"heard"]


def test_a_timer_that_is_not_due_yet_fires_in_time_after_a_nap():
    world, _, b = two_scribes()
    b.call(lambda now: b.machine.arm(5.0))
    b.host.sleep()
    world.run_until(3.0)
    b.host.wake()
    world.run_until(10.0)
    assert b.machine.inputs[1:] == [("timeout", 5.0)]


def test_what_the_system_has_to_say_waits_for_the_waking_and_comes_before_late_timers():
    world, _, b = two_scribes()
    b.call(lambda now: b.machine.arm(5.0))
    b.call(lambda now: b.machine.resolve("192.0.2.77"))
    b.host.sleep()
    world.run_until(10.0)
    b.host.detach("eth0")
    b.host.wake()
    assert b.machine.inputs[1:] == [
        ("resolved", "192.0.2.77", ("192.0.2.77",)),
        ("interfaces", ()),
        ("timeout", 10.0),
    ]


def test_nobody_can_use_a_machine_that_sleeps():
    _, a, _ = two_scribes()
    a.host.sleep()
    with pytest.raises(RuntimeError, match="a is asleep"):
        a.call(lambda now: a.machine.send(B))


# --- machines that break the contract


class Chatterbox(Leaf):
    """Answers every question with the same question."""

    def poll_transmit(self):
        return Transmit((b"and",), B)


class Insomniac(Leaf):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def handle_timeout(self, now):
        pass

    def poll_deadline(self):
        return None if self.at is None else Deadline(self.at, "toy")


def test_endless_talk_is_a_broken_contract(monkeypatch):
    monkeypatch.setattr("peerway.sim.network.driver.OUTPUTS_LIMIT", 1000)
    _, host = lone_host()
    with pytest.raises(ContractError, match="a: more than 1000 outputs after one input"):
        host.run(Chatterbox())


def test_deadline_in_the_past_is_a_broken_contract():
    world, host = lone_host()
    world.run_until(10.0)
    with pytest.raises(ContractError, match=r"a at 10\.000000: a deadline in the past.*toy"):
        host.run(Insomniac(9.9))


def test_deadline_that_stays_at_one_moment_is_a_broken_contract():
    world, host = lone_host()
    host.run(Insomniac(5.0))
    with pytest.raises(ContractError, match=r"a at 5\.000000: a busy loop.*toy"):
        world.run_until(10.0)


def test_transmit_to_a_relay_address_is_a_broken_contract():
    _, a, _ = two_scribes()
    with pytest.raises(ContractError, match="a transmit to relay http://r reached the driver"):
        a.call(lambda now: a.machine.send(RelayAddress("http://r", bytes(32))))


def test_segments_of_unequal_size_are_a_broken_contract():
    for segments in ((b"1", b"22"), (b"22", b"1", b"22")):
        _, a, _ = two_scribes()
        with pytest.raises(ContractError, match="segments of unequal size"):
            a.call(lambda now, a=a, segments=segments: a.machine.send(B, segments))


def test_machine_that_cannot_take_what_comes_is_a_broken_contract():
    world, a, b = two_scribes()
    b.host.open_udp(9)
    b.host.run(Insomniac(None))
    a.call(lambda now: a.machine.send(UdpAddress("192.0.2.2", 9)))
    with pytest.raises(ContractError, match="Insomniac on b has no receive"):
        world.run_for(1.0)


# --- the record


def test_packets_and_events_are_recorded():
    world, a, _ = two_scribes()
    a.call(lambda now: a.machine.send(B, b"hello"))
    a.call(lambda now: a.machine.send(UdpAddress("198.51.100.9", 1), b"hello"))
    world.run_for(1.0)
    packet = "192.0.2.1:41641 > 192.0.2.2:41641"
    assert list(world.trace.lines) == [
        f"0.000000 a send {packet} ttl 64 len 5 2cf24dba",
        "0.000000 a send 192.0.2.1:41641 > 198.51.100.9:1 ttl 64 len 5 2cf24dba",
        "0.001000 core drop no route 192.0.2.1:41641 > 198.51.100.9:1 ttl 63 len 5 2cf24dba",
        f"0.002000 b receive {packet} ttl 63 len 5 2cf24dba",
        "0.002000 b Received(data=b'hello', remote=UdpAddress(ip='192.0.2.1', port=41641))",
    ]


class Nameless(Event):
    pass


class Announcer(Leaf):
    def __init__(self, *events):
        super().__init__()
        self._events.extend(events)


def test_events_are_recorded_without_addresses_in_memory_and_cut_when_long():
    world, host = lone_host()
    host.run(Announcer(Nameless(), Resolve("x" * 300)))
    first, second = world.trace.lines
    assert first == "0.000000 a Nameless"
    assert second == f"0.000000 a Resolve(name='{'x' * 186}… 619e47ad"


def test_link_qualities_of_one_link_do_not_touch_the_luck_of_another():
    def lost_by_b(loss_a):
        world = World(3)
        core = Router(world, "core")
        hosts = {name: Host(world, name) for name in "abc"}
        hosts["c"].attach(core, "192.0.2.9/24", quality=LinkQuality(delay_s=0.001))
        for name, ip, loss in (("a", "192.0.2.1", loss_a), ("b", "192.0.2.2", 0.5)):
            hosts[name].attach(core, f"{ip}/24", quality=LinkQuality(loss=loss))
            hosts[name].open_udp(1)
            driver = hosts[name].run(Scribe())
            for number in range(30):
                driver.call(
                    lambda now, n=number, d=driver: d.machine.send(UdpAddress("192.0.2.9", 1), bytes([n]))
                )
        world.run_for(1.0)
        return [line for line in world.trace.lines if "b-core drop lost" in line]

    assert lost_by_b(0.0) == lost_by_b(0.5) != []
