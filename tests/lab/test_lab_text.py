"""What the lab says in words and pictures, and how it reads the names of cells. No lab needed."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from peerway.lab.draw import draw
from peerway.lab.kinds import KINDS
from peerway.lab.layouts import pair
from peerway.lab.matrix import DEFAULT_CELLS, CellError, batches, parse_cells
from peerway.lab.places import PLACES
from peerway.lab.plot import plot
from peerway.lab.record import RunRecord
from peerway.lab.scenarios import SCENARIOS, topology_of
from peerway.lab.summary import Spread, grid, spread, summarize, table


def run(left="eim-apdf", right="edm", outcome="direct", expected="direct", direct_ms=12.5, bytes_ok=True):
    return RunRecord("lab", left, right, outcome, expected, 4.5, direct_ms, 9, bytes_ok, 7)


def test_a_record_is_one_json_object_with_the_fixed_fields():
    assert run().to_json() == (
        '{"source": "lab", "left": "eim-apdf", "right": "edm", "outcome": "direct", "expected": "direct", '
        '"first_byte_ms": 4.5, "direct_ms": 12.5, "probes_sent": 9, "bytes_ok": true, "seed": 7, '
        '"loss": 0, "reason": "", "family": null, "expected_family": null}'
    )


def test_a_run_is_as_expected_only_with_every_byte_right():
    assert run().as_expected
    assert not run(bytes_ok=False).as_expected
    assert not run(outcome="relay").as_expected
    assert replace(run(), family=6, expected_family=6).as_expected
    assert not replace(run(), family=4, expected_family=6).as_expected


def test_cells_are_read_in_order():
    assert parse_cells("eim-apdfxedm, udp-blockedxopen,same-lan") == (
        ("eim-apdf", "edm"),
        ("udp-blocked", "open"),
        ("same-lan", "same-lan"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("open", "'open' is not a cell: write LEFTxRIGHT, say eim-apdfxedm, or same-lan"),
        ("openxeim-apd", "'eim-apd' is no place: did you mean eim-apdf?"),
        ("same-lanxedm", "same-lan is a cell of its own: write just same-lan"),
        ("edmxsame-cgn", "same-cgn is a cell of its own: write just same-cgn"),
    ],
)
def test_what_is_not_a_cell_is_explained(text, message):
    with pytest.raises(CellError) as caught:
        parse_cells(text)
    assert str(caught.value) == message


def test_the_default_matrix_is_every_pair_of_seven_kinds_and_the_same_lan():
    assert len(DEFAULT_CELLS) == 50
    assert len(set(DEFAULT_CELLS)) == 50


def test_every_kind_place_and_scenario_explains_itself():
    for thing in (*KINDS.values(), *PLACES.values()):
        assert thing.old_name
        assert thing.explanation.endswith(".")
    for scenario in SCENARIOS.values():
        assert scenario.explanation.endswith(".")
        assert draw(scenario.topology())


def test_percentiles_are_by_nearest_rank():
    assert spread([float(n) for n in range(1, 101)]) == Spread(50.0, 95.0, 99.0)
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)
    assert spread([]) is None


def test_a_summary_counts_outcomes_for_each_cell():
    records = [run(direct_ms=10.0), run(direct_ms=30.0), run("edm", "edm", "relay", "relay", None)]
    assert table(summarize(records)) == (
        "cell          expected  as expected  direct  relay  failed  first byte, ms  direct, ms\n"
        "eim-apdfxedm  direct    2/2          2       0      0       4 / 4 / 4       10 / 30 / 30\n"
        "edmxedm       relay     1/1          0       1      0       4 / 4 / 4       -\n"
    )


def test_a_plot_has_a_square_for_each_cell_and_one_curve_of_all_direct_runs():
    picture = plot([run(), run("open", "open", direct_ms=3.0), run("edm", "edm", "relay", "relay", None)])
    drawn = ElementTree.fromstring(picture)
    svg = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{svg}polyline")) == 1
    texts = [text.text for text in drawn.findall(f"{svg}text")]
    assert texts.count("direct") == 2
    assert texts.count("relay") == 1
    assert "3 ms" in texts


def test_an_unexpected_outcome_stands_out_in_the_plot():
    assert "#c8553d" in plot([run("open", "open", "relay", "direct", None)])


def test_the_grid_shows_kinds_against_kinds():
    records = [
        run("open", "edm", direct_ms=12.0),
        run("open", "open", direct_ms=3.0),
        run("edm", "edm", "relay", "relay", None),
        run("edm", "open", "relay", "direct", None),
    ]
    assert grid(records) == ("      open        edm\nopen  3 ms        12 ms\nedm   NOT direct  relay\n")


def test_cells_side_by_side_never_share_a_home():
    groups = batches(DEFAULT_CELLS, 7)
    assert sorted(cell for group in groups for cell in group) == sorted(DEFAULT_CELLS)
    for group in groups:
        assert len(group) <= 7
        assert len({left for left, _ in group}) == len({right for _, right in group}) == len(group)
    assert [len(group) for group in batches(DEFAULT_CELLS, 1)] == [1] * 50


def test_a_plot_of_nothing_is_still_a_picture():
    assert ElementTree.fromstring(plot([])).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_drawing_shows_core_routers_kinds_and_addresses():
    assert (
        draw(pair("eim-apdf", "edm"))
        == """\
eim-apdfxedm: Two hosts, one behind eim-apdf, one behind edm.

+----------------------------------------------------------+
| core-1 -- core-2 -- core-3                               |
|             |                                            |
|             +-- server: 13.0.0.10, 14.0.0.10             |
+----------------------------------------------------------+
     | core-1                         | core-3
+----------------------------+   +-----------------+
| left-router                |   | right-router    |
| eim-apdf                   |   | edm             |
| (port-restricted cone NAT) |   | (symmetric NAT) |
| wan 11.1.0.2/24            |   | wan 11.2.0.2/24 |
| lan 10.1.1.1/24            |   | lan 10.2.1.1/24 |
+----------------------------+   +-----------------+
     |                                |
     +-- left                         +-- right
         eth0 10.1.1.100/24               eth0 10.2.1.100/24
"""
    )


def test_a_drawing_branches_where_homes_share_a_carrier():
    drawing = draw(pair("same-cgn", "same-cgn")).splitlines()
    assert drawing[drawing.index("     | core-1") + 1 :] == [
        "+------------------------------+",
        "| home-router                  |",
        "| cgn                          |",
        "| (full cone NAT of a carrier) |",
        "| wan 11.1.0.2/24              |",
        "| lan 100.65.1.1/24            |",
        "+------------------------------+",
        "     +--------------------------------+",
        "     |                                |",
        "+----------------------------+   +----------------------------+",
        "| left-router                |   | right-router               |",
        "| eim-apdf                   |   | eim-apdf                   |",
        "| (port-restricted cone NAT) |   | (port-restricted cone NAT) |",
        "| wan 100.65.1.2/24          |   | wan 100.65.1.3/24          |",
        "| lan 10.1.2.1/24            |   | lan 10.1.3.1/24            |",
        "+----------------------------+   +----------------------------+",
        "     |                                |",
        "     +-- left                         +-- right",
        "         eth0 10.1.2.100/24               eth0 10.1.3.100/24",
    ]


def test_a_topology_knows_the_address_the_world_sees():
    topology = topology_of("eim-apdfxopen")
    assert topology.public_ip("left") == "11.1.0.2"
    assert topology.public_ip("right") == "11.2.1.100"
    assert topology_of("dual-stackxopen").public_ip("left", 6) == "2a11:0:1:1::100"
    assert topology_of("same-cgn").public_ip("right") == "11.1.0.2"


def test_only_where_somebody_speaks_ipv6_does_the_server():
    assert topology_of("eim-apdfxopen").server_ips == ("13.0.0.10", "14.0.0.10")
    assert not any(machine.has_ipv6 for machine in topology_of("eim-apdfxopen").machines.values())
    both = ("13.0.0.10", "14.0.0.10", "2a13::10", "2a14::10")
    assert topology_of("dual-stackxopen").server_ips == both


def test_a_way_out_leads_through_every_router_from_the_outside_in():
    topology = topology_of("same-cgn")
    assert topology.routers_before("left") == ("home-router", "left-router")
    assert topology.routers == ("home-router", "left-router", "right-router")
    assert topology.home_of("right").hosts == ("left", "right")


def test_networks_nobody_translates_are_routed_to_through_every_router():
    routes = topology_of("dual-cgnxopen").machines["left-router-1"].routes
    assert [(route.destination, route.via) for route in routes] == [
        ("default", "11.1.0.1"),
        ("default", "2a11:0:1::1"),
        ("2a11:0:1:2::/64", "2a11:0:1:1::2"),
    ]


def test_homes_may_share_their_private_addresses():
    machines = topology_of("same-numbers").machines
    assert machines["left"].devices[0].addresses == machines["right"].devices[0].addresses


def test_firewalls_in_a_row_know_the_way_to_the_networks_behind():
    routes = topology_of("three-firewalls").machines["left-router-1"].routes
    assert [(route.destination, route.via) for route in routes] == [
        ("default", "11.1.0.1"),
        ("11.1.2.0/24", "11.1.1.2"),
        ("11.1.3.0/24", "11.1.1.2"),
    ]
