"""Packets from host to host: routes, TTL, links, and NATs classified by probing through them."""

from dataclasses import replace

import pytest
from tests.sim.topology import KINDS, pair
from tests.sim.toy_machines import Observer, Scribe, as_address, punch

from peerway.core.machine import UdpAddress
from peerway.core.nat import Filtering, Mapping, PortAllocation
from peerway.sim.network.host import Host
from peerway.sim.network.nat import Hairpin, NatBehaviour, Pooling
from peerway.sim.network.tree import Bursts, LinkQuality, Router
from peerway.sim.network.world import World


def scribe_on(host, port=41641, ip="0.0.0.0"):
    host.open_udp(port, ip)
    machine = Scribe()
    return machine, host.run(machine)


def two_hosts(**quality):
    world = World(1)
    core = Router(world, "core")
    hosts = Host(world, "a"), Host(world, "b")
    hosts[0].attach(core, "192.0.2.1/24", quality=LinkQuality(**quality))
    hosts[1].attach(core, "192.0.2.2/24", quality=LinkQuality(delay_s=0.0))
    return world, *hosts


B = UdpAddress("192.0.2.2", 41641)


def send(driver, *arguments, **options):
    driver.call(lambda now: driver.machine.send(*arguments, **options))


def test_a_router_may_behave_otherwise_for_a_while_and_still_knows_its_mappings():
    topology = pair("eim-apdf", "open", seed=1)
    home, server = topology.left_home, topology.server
    sockets = [server.open_udp(3478, "203.0.113.10")]
    server.run(Observer(sockets))
    _, driver = scribe_on(topology.left)
    before, usual = seen_from(topology.left, driver, sockets), home.nat4.behaviour
    assert len(before) == 1
    home.behave(replace(usual, udp_blocked=True), None)
    assert seen_from(topology.left, driver, sockets) == []
    home.behave(usual, None)
    assert seen_from(topology.left, driver, sockets) == before


def test_a_router_may_behave_otherwise_in_every_respect():
    topology = pair("eim-apdf", "open", seed=1)
    home, server = topology.left_home, topology.server
    sockets = [server.open_udp(port, "203.0.113.10") for port in (3478, 3479, 3480)]
    server.run(Observer(sockets))
    _, driver = scribe_on(topology.left)
    assert len(set(seen_from(topology.left, driver, sockets[:2]))) == 1
    home.behave(replace(KINDS["edm"], host_session_limit=2), None)
    assert len(set(seen_from(topology.left, driver, sockets[:2]))) == 1, "sessions go on"
    assert seen_from(topology.left, driver, sockets[2:]) == [], "no more than two"
    home.behave(KINDS["edm"], None)
    assert len(set(seen_from(topology.left, driver, sockets))) == 2, "what begins now is mapped anew"


def test_a_router_cannot_begin_to_translate_nor_cease():
    topology = pair("eim-apdf", "open", seed=1)
    for home, box in ((topology.left_home, None), (topology.right_home, NatBehaviour())):
        with pytest.raises(ValueError, match="which cannot be changed"):
            home.behave(box, None)


@pytest.mark.parametrize("destination", ["198.51.100.1", "203.0.113.10"])
def test_a_packet_that_dies_at_a_router_leaves_no_session_there(destination):
    topology = pair("cgn", "open", seed=1)
    topology.left.inject(UdpAddress("10.1.0.2", 7), UdpAddress(destination, 9), b"x", ttl=1)
    topology.world.run_for(1.0)
    assert " drop ttl " in topology.world.trace.lines[-1]
    assert not topology.left_home.nat4._table.from_inside


def test_a_router_without_a_firewall_may_get_one_for_a_while():
    world = World(1)
    core = Router(world, "core")
    office = Router(world, "office", core)
    near, far = Host(world, "near"), Host(world, "far")
    near.attach(office, "198.51.100.1/24")
    far.attach(core, "192.0.2.2/24")
    _, driver = scribe_on(near)
    machine, _ = scribe_on(far)
    for box in (None, NatBehaviour(translates=False, udp_blocked=True), None):
        office.behave(box, None)
        send(driver, B, b"blocked" if box else b"free")
        world.run_for(1.0)
    assert [datagram.data for datagram in machine.datagrams] == [b"free", b"free"]


# --- classification, as RFC 5780 does it but with a toy protocol


def seen_from(host, driver, remotes):
    """The outside addresses of `driver`'s socket, as each of `remotes` sees it."""
    seen = []
    for remote in remotes:
        driver.machine.datagrams.clear()
        send(driver, remote, b"who am I")
        host.world.run_for(1.0)
        seen += [as_address(datagram.data) for datagram in driver.machine.datagrams]
    return seen


def classify(kind):
    """(mapping, filtering, translated) of the left home; None where nothing comes back."""
    topology = pair(kind, "open", seed=1)
    server = topology.server
    sockets = [server.open_udp(port, ip) for ip in ("203.0.113.10", "203.0.113.11") for port in (3478, 3479)]
    server.run(Observer(sockets))
    same, other_port, other_ip, _ = sockets
    machine, driver = scribe_on(topology.left)
    seen = seen_from(topology.left, driver, (same, other_port, other_ip))
    if not seen:
        return None
    if seen[0] == seen[2]:
        mapping = Mapping.ENDPOINT_INDEPENDENT
    else:
        mapping = Mapping.ADDRESS_DEPENDENT if seen[0] == seen[1] else Mapping.ADDRESS_AND_PORT_DEPENDENT
    # fresh ports: the questions above have opened the old one towards every server
    answered = []
    for local_port, answer_from in ((5001, b"3"), (5002, b"1")):
        machine, driver = scribe_on(topology.left, local_port)
        send(driver, same, answer_from)
        topology.world.run_for(1.0)
        answered.append(bool(machine.datagrams))
    filtering = {
        (True, True): Filtering.ENDPOINT_INDEPENDENT,
        (False, True): Filtering.ADDRESS_DEPENDENT,
        (False, False): Filtering.ADDRESS_AND_PORT_DEPENDENT,
    }[tuple(answered)]
    return mapping, filtering, seen[0].ip != topology.left.addresses[0].ip


EIM, ADM, APDM = Mapping
EIF, ADF, APDF = Filtering


@pytest.mark.parametrize(
    ("kind", "classified"),
    [
        ("open", (EIM, EIF, False)),
        ("firewall", (EIM, APDF, False)),
        ("eim-eif", (EIM, EIF, True)),
        ("eim-adf", (EIM, ADF, True)),
        ("eim-apdf", (EIM, APDF, True)),
        ("edm", (APDM, APDF, True)),
        ("adm", (ADM, APDF, True)),
        ("edm-seq", (APDM, APDF, True)),
        ("poisoned", (EIM, APDF, True)),
        ("port-block", (EIM, APDF, True)),
        ("cgn", (EIM, EIF, True)),
        ("cgn-inside", (EIM, EIF, True)),
        ("cgn-no-hairpin", (EIM, EIF, True)),
        ("cgn-edm", (APDM, APDF, True)),
        ("udp-blocked", None),
        ("udp-rejected", None),
    ],
)
def test_probing_finds_what_each_kind_is(kind, classified):
    assert classify(kind) == classified


def test_every_kind_is_classified():
    assert len(KINDS) == 16


def test_mapping_is_gone_after_its_idle_time_on_the_wire():
    topology = pair("eim-eif", "open", seed=1)
    left, left_driver = scribe_on(topology.left)
    _, right_driver = scribe_on(topology.right)
    send(left_driver, UdpAddress("192.0.2.1", 41641))
    topology.world.run_until(119.0)
    send(right_driver, UdpAddress("198.51.100.1", 41641), b"in time")
    topology.world.run_until(150.0)
    send(right_driver, UdpAddress("198.51.100.1", 41641), b"too late")
    topology.world.run_for(1.0)
    assert [datagram.data for datagram in left.datagrams] == [b"in time"]


def neighbours(hairpin):
    world = World(1)
    core = Router(world, "core")
    behaviour = NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT, hairpin=hairpin)
    home = Router(world, "home", core, behaviour, "198.51.100.1")
    hosts = Host(world, "a"), Host(world, "b")
    for host, ip in zip(hosts, ("10.1.0.2/24", "10.1.0.3/24"), strict=True):
        host.attach(home, ip)
    _, a_driver = scribe_on(hosts[0], 41641)
    b, b_driver = scribe_on(hosts[1], 41642)
    send(b_driver, UdpAddress("203.0.113.10", 1))
    send(a_driver, UdpAddress("198.51.100.1", 41642), b"by the outside")
    send(a_driver, UdpAddress("10.1.0.3", 41642), b"by the inside")
    world.run_for(1.0)
    return [(datagram.data, str(datagram.remote)) for datagram in b.datagrams]


def test_neighbours_meet_by_hairpin_and_by_their_own_network():
    assert neighbours(Hairpin.EXTERNAL_SOURCE) == [
        (b"by the outside", "198.51.100.1:41641"),
        (b"by the inside", "10.1.0.2:41641"),
    ]


def test_without_hairpin_neighbours_meet_on_their_own_network_only():
    assert neighbours(Hairpin.NONE) == [(b"by the inside", "10.1.0.2:41641")]


# --- poisoning


@pytest.mark.parametrize(("opener_ttl", "meet"), [(None, False), (2, True)])
def test_two_poisoned_homes_meet_only_if_the_first_packets_die_on_the_way(opener_ttl, meet):
    met = punch(pair("poisoned", "poisoned", seed=1), opener_ttl, right_later_s=0.07)
    # the right side learns late where the left is, when the left's first packet is there already
    assert bool(met["left"] and met["right"]) is meet


def test_who_is_late_meets_a_careful_router_all_the_same():
    met = punch(pair("eim-apdf", "eim-apdf", seed=1), None, right_later_s=0.07)
    assert met == {
        "left": [UdpAddress("192.0.2.1", 41641)],
        "right": [UdpAddress("198.51.100.1", 41641)],
    }


# --- hops


@pytest.mark.parametrize(("ttl", "arrives_with"), [(1, None), (2, None), (3, None), (4, 1), (None, 61)])
def test_every_router_takes_one_off_the_ttl(ttl, arrives_with):
    topology = pair("open", "open", seed=1)
    right, _ = scribe_on(topology.right)
    _, driver = scribe_on(topology.left)
    send(driver, UdpAddress("192.0.2.1", 41641), ttl=ttl)
    topology.world.run_for(1.0)
    received = [line for line in topology.world.trace.lines if "right receive" in line]
    if arrives_with is None:
        assert (right.datagrams, received) == ([], [])
    else:
        assert [f" ttl {arrives_with} " in line for line in received] == [True]


def test_packet_whose_ttl_ends_at_the_nat_opens_nothing():
    for ttl, opened in ((1, False), (2, True)):
        topology = pair("eim-eif", "open", seed=1)
        left, driver = scribe_on(topology.left)
        _, right_driver = scribe_on(topology.right)
        send(driver, UdpAddress("192.0.2.1", 41641), ttl=ttl)
        topology.world.run_for(1.0)
        send(right_driver, UdpAddress("198.51.100.1", 41641))
        topology.world.run_for(1.0)
        assert bool(left.datagrams) is opened


def test_two_nats_in_a_row_let_an_answer_back():
    world = World(1)
    core = Router(world, "core")
    carrier = Router(world, "carrier", core, NatBehaviour(), "198.51.100.1")
    home = Router(world, "home", carrier, NatBehaviour(), "100.64.0.2")
    host, server = Host(world, "host"), Host(world, "server")
    host.attach(home, "192.168.1.2/24")
    server.attach(core, "203.0.113.10/24")
    server.run(Observer([server.open_udp(3478)]))
    _, driver = scribe_on(host)
    remote = UdpAddress("203.0.113.10", 3478)
    assert seen_from(host, driver, [remote]) == [UdpAddress("198.51.100.1", 41641)]


def test_ipv6_goes_through_a_firewall_beside_the_ipv4_nat():
    world = World(1)
    core = Router(world, "core")
    home = Router(world, "home", core, NatBehaviour(), "198.51.100.1", nat6=NatBehaviour(translates=False))
    host, server = Host(world, "host"), Host(world, "server")
    host.attach(home, "10.1.0.2/24", "2001:db8:1::2/64")
    server.attach(core, "203.0.113.10/24", "2001:db8:2::1/64")
    sockets = [server.open_udp(3478), server.open_udp(3478, "::")]
    server.run(Observer(sockets))
    host.open_udp(41641)
    host.open_udp(41641, "::")
    driver = host.run(Scribe())
    remotes = [UdpAddress("203.0.113.10", 3478), UdpAddress("2001:db8:2::1", 3478)]
    seen = seen_from(host, driver, remotes)
    assert seen == [UdpAddress("198.51.100.1", 41641), UdpAddress("2001:db8:1::2", 41641)]
    stranger, stranger_driver = Scribe(), None
    server.open_udp(9)
    server.open_udp(9, "::")
    stranger_driver = server.run(stranger)
    driver.machine.datagrams.clear()
    send(stranger_driver, UdpAddress("2001:db8:1::2", 41641))
    world.run_for(1.0)
    assert driver.machine.datagrams == []


# --- links


def test_a_packet_takes_the_delays_of_its_links():
    world, a, b = two_hosts(delay_s=0.25)
    receiver, _ = scribe_on(b)
    send(scribe_on(a)[1], B)
    world.run_until(0.249)
    assert receiver.datagrams == []
    world.run_until(0.25)
    assert [str(datagram.remote) for datagram in receiver.datagrams] == ["192.0.2.1:41641"]


def test_jitter_delays_by_no_more_than_it_says_and_reorders():
    world, a, b = two_hosts(delay_s=0.1, jitter_s=0.05)
    times = []
    b.open_udp(41641)
    b.run(Scribe(), on_event=lambda event, now: times.append((event.data, now)))
    _, driver = scribe_on(a)
    for number in range(50):
        send(driver, B, bytes([number]))
    world.run_for(1.0)
    assert len(times) == 50
    assert all(0.1 <= now <= 0.15 for _, now in times)
    assert times != sorted(times)


def test_loss_loses_its_share():
    world, a, b = two_hosts(loss=0.3)
    receiver, _ = scribe_on(b)
    b.coalesce = False
    _, driver = scribe_on(a)
    for _ in range(1000):
        send(driver, B)
    world.run_for(1.0)
    assert 650 < len(receiver.datagrams) < 750


def test_rate_spaces_packets_and_a_full_queue_drops():
    world, a, b = two_hosts(delay_s=0.0, rate=8000.0, queue_bytes=2500)
    times = []
    b.open_udp(41641)
    b.run(Scribe(), on_event=lambda event, now: times.append(round(now, 6)))
    _, driver = scribe_on(a)
    for _ in range(5):
        send(driver, B, bytes(972))  # 1,000 bytes with its headers: one second each
    world.run_for(10.0)
    assert times == [1.0, 2.0, 3.0]


def test_a_link_that_is_down_carries_nothing():
    world, a, b = two_hosts()
    receiver, _ = scribe_on(b)
    _, driver = scribe_on(a)
    link = a.link()
    link.up = False
    send(driver, B, b"lost")
    link.up = True
    send(driver, B, b"carried")
    world.run_for(1.0)
    assert [datagram.data for datagram in receiver.datagrams] == [b"carried"]


# --- what else links do


def arrivals(count=1000, size=5, **quality):
    """The numbers of the packets that arrive, in their order."""
    world, a, b = two_hosts(**quality)
    b.coalesce = False
    receiver, _ = scribe_on(b)
    _, driver = scribe_on(a)
    for number in range(count):
        world.at(number * 0.001, send, driver, B, number.to_bytes(2, "big") + bytes(size))
    world.run_for(10.0)
    return [int.from_bytes(datagram.data[:2], "big") for datagram in receiver.datagrams]


def test_bursts_lose_many_in_a_row_and_then_none_for_long():
    lost = sorted(set(range(5000)) - set(arrivals(5000, bursts=Bursts(begin=0.01, end=0.1))))
    begins = [number for number in lost if number - 1 not in lost]
    assert 300 < len(lost) < 700  # a share of 0.01 / (0.01 + 0.1)
    assert 5 < len(lost) / len(begins) < 20  # 10 packets a burst


def test_a_burst_may_let_some_through():
    assert 2300 < len(arrivals(5000, bursts=Bursts(begin=1.0, end=0.0, loss=0.5))) < 2700


def test_reordering_holds_its_share_back():
    order = arrivals(1000, reorder=0.1, reorder_s=0.0105)
    assert sorted(order) == list(range(1000))
    late = [number for place, number in enumerate(order) if number < max(order[: place + 1])]
    assert 70 < len(late) < 130


def test_duplicates_are_copies_of_their_own():
    numbers = arrivals(1000, duplicate=0.2)
    assert 1150 < len(numbers) < 1250
    assert set(numbers) == set(range(1000))
    topology = pair("open", "open", seed=1, access=LinkQuality(duplicate=1.0))
    scribe_on(topology.right)
    send(scribe_on(topology.left)[1], UdpAddress("192.0.2.1", 41641))
    topology.world.run_for(1.0)
    lines = [line for line in topology.world.trace.lines if "right receive" in line]
    assert [" ttl 61 " in line for line in lines] == [True] * 4


def test_each_way_of_a_link_has_its_own_quality_which_may_change():
    world, a, b = two_hosts()
    there, driver = scribe_on(a)
    here, back = scribe_on(b)
    a.link().set_quality(LinkQuality(loss=1.0), downward=LinkQuality(delay_s=0.5))
    send(driver, B, b"lost")
    send(back, UdpAddress("192.0.2.1", 41641), b"late")
    world.run_for(0.499)
    assert there.datagrams == []
    world.run_for(1.0)
    assert [datagram.data for datagram in there.datagrams] == [b"late"]
    a.link().quality = LinkQuality()
    send(driver, B, b"carried")
    world.run_for(1.0)
    assert [datagram.data for datagram in here.datagrams] == [b"carried"]


# --- routers that begin anew


def test_a_router_that_reboots_forgets_and_may_have_another_address():
    topology = pair("eim-eif", "open", seed=1)
    left, driver = scribe_on(topology.left)
    right, right_driver = scribe_on(topology.right)
    to_right = UdpAddress("192.0.2.1", 41641)
    send(driver, to_right)
    topology.world.run_for(1.0)
    topology.left_home.reboot("198.51.100.77")
    for ip in ("198.51.100.1", "198.51.100.77"):
        send(right_driver, UdpAddress(ip, 41641))
    topology.world.run_for(1.0)
    assert left.datagrams == []
    send(driver, to_right)
    topology.world.run_for(1.0)
    assert [str(datagram.remote) for datagram in right.datagrams] == [
        "198.51.100.1:41641",
        "198.51.100.77:41641",
    ]
    for ip in ("198.51.100.1", "198.51.100.77"):
        send(right_driver, UdpAddress(ip, 41641), ip.encode())
    topology.world.run_for(1.0)
    assert [datagram.data for datagram in left.datagrams] == [b"198.51.100.77"]


def test_a_firewall_that_reboots_lets_in_nobody_it_knew():
    topology = pair("firewall", "open", seed=1)
    left, driver = scribe_on(topology.left)
    _, right_driver = scribe_on(topology.right)
    send(driver, UdpAddress("192.0.2.1", 41641))
    topology.world.run_for(1.0)
    topology.left_home.reboot()
    send(right_driver, UdpAddress("198.51.100.1", 41641))
    topology.world.run_for(1.0)
    assert left.datagrams == []


def test_a_nat_with_several_addresses_is_reached_at_each():
    world = World(1)
    core = Router(world, "core")
    behaviour = NatBehaviour(mapping=APDM, ports=PortAllocation.RANDOM, pooling=Pooling.ARBITRARY)
    home = Router(world, "home", core, behaviour, ("198.51.100.1", "198.51.100.2"))
    host, server = Host(world, "host"), Host(world, "server")
    host.attach(home, "192.168.1.2/24")
    server.attach(core, "203.0.113.10/24")
    remotes = [server.open_udp(port, "203.0.113.10") for port in range(3478, 3488)]
    server.run(Observer(remotes))
    _, driver = scribe_on(host)
    seen = seen_from(host, driver, remotes)
    assert {address.ip for address in seen} == {"198.51.100.1", "198.51.100.2"}
    assert len(seen) == 10


def test_a_world_without_a_trace_goes_the_same_way():
    outcomes = []
    for is_traced in (True, False):
        topology = pair("edm", "eim-adf", 7, LinkQuality(loss=0.2, jitter_s=0.05))
        topology.world.is_traced = is_traced
        outcomes.append((punch(topology), topology.world.count()))
    assert outcomes[0] == outcomes[1]
    assert list(topology.world.trace.lines) == []


def test_two_homes_are_parted_at_the_core_and_both_reach_the_server():
    topology = pair("open", "open", seed=1)
    core, links = topology.left_home.uplink.upper, (topology.left_home.uplink, topology.right_home.uplink)
    right, _ = scribe_on(topology.right)
    server, _ = scribe_on(topology.server)
    _, driver = scribe_on(topology.left)
    core.part(*links)
    for remote in (UdpAddress("192.0.2.1", 41641), UdpAddress("203.0.113.10", 41641)):
        send(driver, remote)
    topology.world.run_for(1.0)
    assert (len(right.datagrams), len(server.datagrams)) == (0, 1)
    core.unite(*links)
    send(driver, UdpAddress("192.0.2.1", 41641))
    topology.world.run_for(1.0)
    assert len(right.datagrams) == 1
