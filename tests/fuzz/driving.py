"""Drives a machine as asyncio and the simulator do, and looks after every input at what must hold."""

from __future__ import annotations

from tests.fuzz.choices import Choices

from peerway.core.machine import (
    CloseStream,
    Event,
    Machine,
    OpenSocket,
    OpenStream,
    Output,
    StreamWrite,
    Transmit,
)

START_S = 1000.0
MOST_OUTPUTS = 20_000  # of one input: more can only be a loop


class Course:
    """A machine, the time, and what the machine has said since it was last asked."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now = START_S
        self.outputs: list[Output] = []
        self.events: list[Event] = []

    def drain(self) -> None:
        """Take all that the machine says; then its deadline lies in the future, or one timeout mends that.

        An input may come while a timer is overdue: the loop has not got round to it.
        """
        self._take()
        deadline = self.machine.poll_deadline()
        if deadline is not None and deadline.at <= self.now:
            self.machine.handle_timeout(self.now)
            self._take()
            deadline = self.machine.poll_deadline()
        assert deadline is None or deadline.at > self.now, f"a busy loop: {deadline} at {self.now}"

    def _take(self) -> None:
        outputs, events = [], []
        while (output := self.machine.poll_transmit()) is not None:
            outputs.append(output)
            assert len(outputs) < MOST_OUTPUTS
        while (event := self.machine.poll_event()) is not None:
            events.append(event)
            assert len(events) < MOST_OUTPUTS
        assert self.machine.poll_transmit() is None, "events made transmits"
        self.outputs += outputs
        self.events += events

    def said(self) -> tuple[list[Output], list[Event]]:
        """What was said, and is forgotten here."""
        outputs, events = self.outputs, self.events
        self.outputs, self.events = [], []
        return outputs, events

    def pass_time(self, choices: Choices) -> None:
        """A moment, to the next deadline, or far beyond it in one leap; or a timeout without a cause."""
        kind = choices.number()
        deadline = self.machine.poll_deadline()
        if kind < 128 and deadline is not None:
            self.now = max(self.now, deadline.at)
        elif kind < 240:
            self.now += choices.jump()
        self.machine.handle_timeout(self.now)
        self.drain()

    def finish(self, seconds: float = 400.0, wakes: int = 3000) -> None:
        """Let so much time pass, with every deadline on the way: they must not come without end."""
        end = self.now + seconds
        for _ in range(wakes):
            deadline = self.machine.poll_deadline()
            if deadline is None or deadline.at > end:
                return
            self.now = max(self.now, deadline.at)
            self.machine.handle_timeout(self.now)
            self.drain()
        raise AssertionError(f"more than {wakes} wake-ups in {seconds} s")


class Wishes:
    """What a machine has asked of its driver and not been given yet: sockets, streams, and what it sent."""

    def __init__(self) -> None:
        self.sockets: list[OpenSocket] = []
        self.opening: list[str] = []  # streams that have not been answered
        self.streams: list[str] = []  # those, and the ones that stand
        self.sent: list[Transmit] = []
        self.written: list[StreamWrite] = []

    def note(self, outputs: list[Output], events: list[Event]) -> list[Event]:
        """Take in what was said; returns the events that ask for nothing of this."""
        for output in outputs:
            if isinstance(output, StreamWrite):
                self.written.append(output)
            else:
                self.sent.append(output)
        others = []
        for event in events:
            if isinstance(event, OpenSocket):
                self.sockets.append(event)
            elif isinstance(event, OpenStream):
                self.streams.append(event.stream)
                self.opening.append(event.stream)
            elif isinstance(event, CloseStream):
                if event.stream in self.streams:
                    self.streams.remove(event.stream)
            else:
                others.append(event)
        return others
