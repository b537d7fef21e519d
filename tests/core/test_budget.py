from peerway.core.budget import (
    MAX_ADDRESSES,
    MAX_DIALLERS,
    MAX_NETWORKS,
    PROBES_BURST,
    PROBES_PER_NETWORK_BURST,
    PROBES_PER_NETWORK_PER_S,
    BoxBudget,
    BucketTable,
    DialBudget,
    ProbeBudget,
    TokenBucket,
    network_of,
)
from peerway.core.machine import RelayAddress, UdpAddress


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = TokenBucket(10.0, 5.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(0.2) for _ in range(3)] == [True, True, False]


def test_a_clock_that_jumps_back_gives_nothing_away():
    bucket = TokenBucket(10.0, 1.0)
    assert bucket.take(100.0)
    assert not bucket.take(0.0)
    assert not bucket.take(100.0)


def test_a_table_forgets_the_longest_unused():
    table = BucketTable(0.0, 1.0, 2)
    assert table.take("a", 0.0)
    assert table.take("b", 0.0)
    assert table.take("c", 0.0)
    assert len(table) == 2
    assert table.take("a", 0.0)


def test_one_network_cannot_be_flooded():
    budget = ProbeBudget()
    sent = sum(budget.allows(UdpAddress(f"203.0.113.{host}", 1), 0.0) for host in range(200))
    assert sent == PROBES_PER_NETWORK_BURST
    sent = sum(budget.allows(UdpAddress("203.0.113.9", 1 + port), 1.0) for port in range(200))
    assert sent == PROBES_PER_NETWORK_PER_S
    assert budget.refused == 200 - 40 + 200 - 40


def test_one_address_gets_little_however_long_it_goes_on():
    budget = ProbeBudget()
    victim = UdpAddress("203.0.113.9", 53)
    sent = [sum(budget.allows(victim, second + tenth / 10) for tenth in range(10)) for second in range(60)]
    assert sum(sent[:6]) == 60
    assert sent[20:] == [2] * 40
    assert budget.allows(UdpAddress("203.0.113.9", 54), 60.0)


def test_addresses_are_forgotten_only_when_there_are_very_many():
    budget = ProbeBudget()
    for number in range(5000):
        budget.allows(UdpAddress(f"203.{number // 250}.{number % 250}.1", 1), number / 100)
    assert len(budget._addresses) == MAX_ADDRESSES == 4096


def test_all_networks_together_have_a_limit():
    budget = ProbeBudget()
    sent = sum(budget.allows(UdpAddress(f"203.{net}.1.1", 1), 0.0) for net in range(250))
    assert sent == PROBES_BURST
    assert budget.spent == PROBES_BURST


def test_relays_are_not_counted_against_networks():
    budget = ProbeBudget()
    assert all(budget.allows(RelayAddress("http://r", b"k"), 0.0) for _ in range(500))


ROUTE = UdpAddress("203.0.113.9", 41641)
RELAY = RelayAddress("http://r", b"k")


def test_each_place_a_peer_is_known_at_has_boxes_of_its_own():
    budget = BoxBudget()
    assert sum(budget.allows_of_peer("peer", ROUTE, 0.0) for _ in range(200)) == 100
    assert sum(budget.allows_of_peer("peer", RELAY, 0.0) for _ in range(200)) == 100
    assert sum(budget.allows_of_peer("another", ROUTE, 0.0) for _ in range(200)) == 100
    assert sum(budget.allows_of_peer("peer", ROUTE, 1.0) for _ in range(200)) == 50
    assert budget.allows(ROUTE, 0.0)


def test_a_peer_may_dial_so_often_from_one_place():
    budget = DialBudget()
    assert sum(budget.allows("peer", ROUTE, 0.0) for _ in range(100)) == 40
    assert sum(budget.allows("peer", UdpAddress("203.0.113.77", 5), 0.0) for _ in range(100)) == 0
    assert sum(budget.allows("peer", RELAY, 0.0) for _ in range(100)) == 40
    assert sum(budget.allows("peer", ROUTE, 1.0) for _ in range(100)) == 2


def test_all_dials_together_have_a_limit():
    budget = DialBudget()
    assert sum(budget.allows(number, RELAY, 0.0) for number in range(1000)) == 256
    assert sum(budget.allows(number, RELAY, 1.0) for number in range(1000)) == 50


def test_the_diallers_remembered_are_bounded():
    budget = DialBudget()
    for number in range(5000):
        budget.allows(number, RELAY, 0.0)
    assert len(budget._diallers) == MAX_DIALLERS == 4096


def test_networks():
    assert network_of(UdpAddress("203.0.113.9", 1)) == "203.0.113.0/24"
    assert network_of(UdpAddress("2001:db8:1:2::9", 1)) == "2001:db8:1::/48"
    assert MAX_NETWORKS == 1024


def test_strangers_together_have_so_many_boxes_opened():
    budget = BoxBudget()
    places = [UdpAddress(f"203.{number}.1.1", 1) for number in range(256)]
    assert sum(budget.allows(place, 0.0) for place in places for _ in range(5)) == 200
    assert sum(budget.allows(place, 1.0) for place in places for _ in range(5)) == 200
    assert sum(budget.allows(place, 1.25) for place in places for _ in range(5)) == 125
