"""A scenario is written as the Python that makes it."""

import peerway.sim
from peerway.sim import (
    Dial,
    Filtering,
    HostPlan,
    InterfacePlan,
    InternetPlan,
    NatBehaviour,
    RouterPlan,
    Scenario,
    Transfer,
)
from peerway.sim.draw import draw
from peerway.sim.written import written

HOMES = InternetPlan(
    (
        RouterPlan("left-home", nat4=NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT, idle_s=10.0)),
        RouterPlan("right-home"),
    ),
    (
        HostPlan("left", (InterfacePlan("left-home", families=(4, 6)),)),
        HostPlan("right", (InterfacePlan("right-home"),), port=41641),
    ),
)

WRITTEN = """\
Scenario(
    7,
    InternetPlan(
        (
            RouterPlan(
                "left-home",
                nat4=NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT, idle_s=10.0),
            ),
            RouterPlan("right-home"),
        ),
        (
            HostPlan("left", (InterfacePlan("left-home", families=(4, 6)),)),
            HostPlan("right", (InterfacePlan("right-home"),), port=41641),
        ),
    ),
    (Dial("both"), Transfer("left", 1000)),
)"""


def test_what_is_as_usual_is_left_out():
    assert written(Scenario(7, HOMES, (Dial("both"), Transfer("left", 1000)))) == WRITTEN


def test_what_fits_a_line_takes_one():
    assert written(NatBehaviour()) == "NatBehaviour()"
    assert written((Dial("left"),)) == '(Dial("left"),)'


def test_whatever_is_drawn_reads_back_with_the_words_of_the_package():
    words = {name: getattr(peerway.sim, name) for name in peerway.sim.__all__}
    for seed in range(300):
        scenario = draw(seed)
        assert eval(written(scenario), words) == scenario
