"""The questions that `tests/lab/test_ground_truth.py` asks the kernel's NATs as well tell kinds apart."""

import asyncio

from tests.lab.ground_truth import examine
from tests.lab.ground_truth_sim import SimBench
from tests.sim.topology import KINDS


def answers(name, seed=1):
    return asyncio.run(examine(SimBench(KINDS[name], seed)))


def test_only_kinds_that_differ_in_name_give_the_same_answers():
    alike = {}
    for name in KINDS:
        alike.setdefault(repr(answers(name)), []).append(name)
    assert list(alike.values()) == [
        ["open"],
        ["firewall"],
        ["eim-eif"],
        ["eim-adf"],
        ["eim-apdf"],
        ["edm", "cgn-edm"],
        ["adm"],
        ["edm-seq"],
        ["poisoned"],
        ["port-block"],
        ["cgn"],
        ["cgn-inside"],
        ["cgn-no-hairpin"],
        ["udp-blocked", "udp-rejected"],
    ]


def test_answers_do_not_depend_on_chance():
    for name in KINDS:
        assert answers(name, seed=1) == answers(name, seed=2)


def test_time_is_told_as_linux_has_it():
    assert answers("eim-apdf")["time"] == {
        "answer in time": True,
        "answer after an answer": True,
        "answer too late": False,
        "answer in time after a repetition": True,
        "another port when it begins anew": False,
        "another address, remembered": False,
        "another port, remembered": False,
        "another address, forgotten": False,
        "another port, forgotten": False,
        "answer where packets went both ways": True,
        "answer to a monologue, too late": False,
    }
