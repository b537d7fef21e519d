"""What a run holds the two to, beside what they say themselves: mistakes that only it can see."""

from dataclasses import replace

import pytest

from peerway.core.link import Link
from peerway.core.machine import RelayAddress, Transmit
from peerway.core.path.agent import PathAgent
from peerway.sim import Dial, Pause, Scenario
from peerway.sim.conversation import Conversation
from peerway.sim.homes import TWO_HOMES
from peerway.sim.outlook import outlooks
from peerway.sim.run import run

DUAL = replace(
    TWO_HOMES,
    hosts=tuple(
        replace(host, interfaces=(replace(host.interfaces[0], families=(4, 6)),)) for host in TWO_HOMES.hosts
    ),
)


def said(scenario):
    return "; ".join(map(str, run(scenario).violations))


def test_what_is_said_to_go_directly_must_not_go_by_a_relay(monkeypatch):
    as_it_is = Link._child_transmit

    def diverted(self, key, output, now):
        if key == "quic" and isinstance(output, Transmit) and self._agent is not None:
            for local, remote in list(self._agent._pairs):
                if isinstance(remote, RelayAddress):
                    self._flight.send(output, [(local, remote)], now)
                    self._touch("flight")
                    return
        as_it_is(self, key, output, now)

    assert said(Scenario(1, TWO_HOMES, (Dial("left"),))) == ""
    monkeypatch.setattr(Link, "_child_transmit", diverted)
    assert "sends by a relay what it says goes directly" in said(Scenario(1, TWO_HOMES, (Dial("left"),)))


def test_a_relay_path_kept_warm_is_not_idle(monkeypatch):
    as_it_is = PathAgent._watch_pair

    def warm(self, key, pair, now):
        if isinstance(key[1], RelayAddress) and self._usage.is_idle:
            pair.watch(5.0, carries_data=False, now=now)
            self._touch(key)
        else:
            as_it_is(self, key, pair, now)

    scenario = Scenario(1, TWO_HOMES, (Dial("left"), Pause(130.0)))
    assert said(scenario) == ""
    monkeypatch.setattr(PathAgent, "_watch_pair", warm)
    assert "bytes to relays after 90 s without a word" in said(scenario)


def test_wrong_bytes_are_seen_whenever_they_come(monkeypatch):
    as_it_is = Conversation.close

    def late(self, side):
        self.errors.append("left was given other bytes than its peer sent, after 7")
        as_it_is(self, side)

    monkeypatch.setattr(Conversation, "close", late)
    assert "other bytes" in said(Scenario(1, TWO_HOMES, (Dial("left"),)))


@pytest.mark.parametrize(("plan", "only"), [(TWO_HOMES, 4), (DUAL, None)])
def test_a_verdict_tells_the_family(plan, only):
    verdict = run(Scenario(1, plan, (Dial("left"),)))
    assert verdict.expected_family == only
    assert verdict.family == (only or 6)
    assert outlooks(plan, "left", "right")[4] == "direct"


def test_a_family_that_leads_nowhere_is_not_believed(monkeypatch):
    monkeypatch.setattr("peerway.sim.meeting.outlooks", lambda *_: {4: "relay", 6: "direct"})
    assert "direct by IPv4, though the oracle knows no such way" in said(
        Scenario(1, TWO_HOMES, (Dial("left"),))
    )
