"""A relay connection kept standing: over the real client and server machines, without sockets."""

import random

from peerway.core.machine import CloseStream, OpenStream, StreamWrite
from peerway.core.relay.client import ANSWER_LIMIT_S, QUIET_S
from peerway.core.relay.keeper import (
    BACKOFF_CAP_S,
    BACKOFF_JITTER,
    RelayDown,
    RelayKeeper,
    RelayUp,
)
from peerway.core.relay.server import RelayServer

URL = "http://relay.test:3340"


class Bench:
    def __init__(self):
        self.keys = []
        self.keeper = RelayKeeper(URL, self.fresh_key, random.Random(1))
        self.server = RelayServer(random.Random(2))
        self.server_is_up = True
        self.deaf = False
        self.now = 0.0
        self.events = []
        self.stream = None

    def fresh_key(self):
        self.keys.append(bytes([len(self.keys) + 1]) * 32)
        return self.keys[-1]

    def settle(self):
        moved = True
        while moved:
            moved = False
            while (output := self.keeper.poll_transmit()) is not None:
                moved = True
                assert isinstance(output, StreamWrite)
                if self.stream is not None and not self.deaf:
                    self.server.stream_data(self.stream, output.data, self.now)
            while (output := self.server.poll_transmit()) is not None:
                moved = True
                if output.stream == self.stream and not self.deaf:
                    self.keeper.stream_data(output.data, self.now)
            while (event := self.keeper.poll_event()) is not None:
                moved = True
                self.happened(event)
            while (event := self.server.poll_event()) is not None:
                if isinstance(event, CloseStream) and event.stream == self.stream:
                    self.stream = None
                    self.keeper.stream_closed("", self.now)

    def happened(self, event):
        self.events.append(event)
        if isinstance(event, OpenStream):
            if self.server_is_up:
                self.stream = event.stream
                self.server.stream_accepted(event.stream, "192.0.2.1", self.now)
                self.keeper.stream_opened(self.now)
            else:
                self.keeper.stream_closed("connection refused", self.now)

    def run_for(self, seconds):
        end = self.now + seconds
        while (deadline := self.keeper.poll_deadline()) is not None and deadline.at <= end:
            self.now = max(self.now, deadline.at)
            self.keeper.handle_timeout(self.now)
            self.settle()
        self.now = end

    def count(self, kind):
        return sum(isinstance(event, kind) for event in self.events)


def started(server_is_up=True):
    bench = Bench()
    bench.server_is_up = server_is_up
    bench.keeper.start(0.0)
    bench.settle()
    return bench


def test_it_connects():
    bench = started()
    assert bench.keeper.is_up
    assert bench.count(RelayUp) == 1


def test_it_tries_again_later_each_time_and_not_all_at_once():
    bench = started(server_is_up=False)
    bench.run_for(300.0)
    waits = [event.retry_in for event in bench.events if isinstance(event, RelayDown)]
    assert all(event.reason == "connection refused" for event in bench.events if isinstance(event, RelayDown))
    for number, wait in enumerate(waits):
        least = min(0.25 * 2**number, BACKOFF_CAP_S)
        assert least <= wait <= least * (1 + BACKOFF_JITTER)
    assert 10 <= len(waits) <= 16


def test_it_comes_back_when_the_relay_does():
    bench = started(server_is_up=False)
    bench.run_for(3.0)
    bench.server_is_up = True
    bench.run_for(5.0)
    assert bench.keeper.is_up
    assert bench.keeper.last_error == ""


def test_somebody_who_asks_does_not_wait_for_the_back_off():
    bench = started(server_is_up=False)
    bench.run_for(100.0)
    bench.server_is_up = True
    bench.keeper.retry(bench.now)
    bench.settle()
    assert bench.keeper.is_up


def test_an_attempt_that_hangs_is_given_up_for_a_fresh_one_when_somebody_asks():
    bench = Bench()
    bench.happened = bench.events.append  # the network is away: the stream neither opens nor fails
    bench.keeper.start(0.0)
    bench.settle()
    bench.now = 1.9
    bench.keeper.retry(bench.now)
    bench.settle()
    assert bench.count(OpenStream) == 1
    bench.now = 2.0
    del bench.happened
    bench.keeper.retry(bench.now)
    bench.settle()
    assert bench.keeper.is_up
    assert [event.stream for event in bench.events if isinstance(event, CloseStream)] == [f"{URL} 1"]


def test_failures_before_it_came_up_count_little_when_it_goes_down_soon():
    bench = started(server_is_up=False)
    bench.run_for(200.0)
    bench.server_is_up = True
    bench.keeper.retry(bench.now)
    bench.settle()
    bench.now += 3.0
    bench.keeper.stream_closed("connection reset", bench.now)
    bench.settle()
    down = [event for event in bench.events if isinstance(event, RelayDown)]
    assert 2.0 <= down[-1].retry_in <= 3.0


def test_a_relay_that_accepts_and_drops_is_not_stormed():
    bench = started()
    waits = []
    for _ in range(8):
        bench.keeper.stream_closed("go away", bench.now)
        bench.settle()
        waits.append([event for event in bench.events if isinstance(event, RelayDown)][-1].retry_in)
        bench.run_for(waits[-1])
    assert bench.keeper.is_up
    assert min(waits[3:]) >= 2.0


def test_a_changed_address_connects_anew_at_once_and_starts_the_back_off_anew():
    bench = started()
    bench.keeper.reconnect(bench.now)
    bench.settle()
    assert bench.keeper.is_up
    (down,) = (event for event in bench.events if isinstance(event, RelayDown))
    assert down.retry_in == 0.0
    assert bench.count(RelayUp) == bench.count(OpenStream) == 2


def test_each_connection_has_a_key_of_its_own():
    bench = started(server_is_up=False)
    bench.run_for(2.0)
    assert len(bench.keys) == len(set(bench.keys)) > 2


def test_a_relay_that_went_silent_is_noticed_when_something_is_sent():
    bench = started()
    bench.deaf = True
    bench.run_for(QUIET_S + 0.1)
    bench.keeper.send(b"k" * 32, (b"packet",), bench.now)
    bench.settle()
    bench.run_for(ANSWER_LIMIT_S + 0.1)
    down = [event for event in bench.events if isinstance(event, RelayDown)]
    assert "did not answer" in down[0].reason


def test_a_changed_network_makes_it_ask_and_an_answer_keeps_it():
    bench = started()
    bench.keeper.retry(bench.now)
    bench.settle()
    bench.run_for(10.0)
    assert bench.keeper.is_up
    assert bench.count(RelayDown) == 0
    bench.deaf = True
    bench.keeper.retry(bench.now)
    bench.run_for(ANSWER_LIMIT_S + 0.1)
    assert bench.count(RelayDown) == 1


def test_what_is_sent_while_connecting_arrives():
    bench = Bench()
    bench.keeper.start(0.0)
    bench.keeper.send(b"k" * 32, (b"first flight",), 0.0)
    bench.settle()
    assert bench.server.drops["destination not here"] == 1


def test_what_is_sent_between_two_tries_is_dropped_and_counted():
    bench = started(server_is_up=False)
    bench.keeper.send(b"k" * 32, (b"packet",), bench.now)
    assert bench.keeper.drops["relay: down"] == 1


def test_a_relay_nobody_needs_is_closed():
    bench = started()
    bench.keeper.stop()
    bench.settle()
    assert bench.count(CloseStream) == 1


def test_a_restarting_relay_says_when_to_come_back():
    bench = started()
    bench.server.drain(bench.now)
    bench.settle()
    (down,) = (event for event in bench.events if isinstance(event, RelayDown))
    assert 0.25 <= down.retry_in <= BACKOFF_CAP_S * 1.5
