"""Which packets are under way, when one counts as lost, and how much more may go.

RFC 9002 in its essence: a number is never sent twice, only what was in the packet; a packet is
lost when three later ones arrived before it, or one did and it had 9/8 of a round trip; when
nothing is heard at all a probe goes, each time after twice as long. The window doubles every
round trip until the first loss; from then on it grows by a packet a round trip, and halves in
each that loses.

What it is not: there is no pacing, no ECN, no persistent congestion, and the time by which an
acknowledgement was delayed counts as part of the round trip.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

PACKET_BYTES = 1200
INITIAL_RTT_S = 0.333  # RFC 9002 6.2.2
GRANULARITY_S = 0.001  # RFC 9002 6.1.2
PACKET_THRESHOLD = 3  # RFC 9002 6.1.1
TIME_THRESHOLD = 9 / 8  # RFC 9002 6.1.2
MAX_ACK_DELAY_S = 0.025  # RFC 9000 18.2
MAX_DOUBLINGS = 6
INITIAL_WINDOW = 10 * PACKET_BYTES  # RFC 9002 7.2
LEAST_WINDOW = 2 * PACKET_BYTES
MOST_WINDOW = 4 << 20


class Sent(NamedTuple):
    """A packet under way: since when, its size, and the offset of its chunk of the pipe, if it has one."""

    at: float
    size: int
    chunk: int | None


class Recovery:
    """The packets of one direction. Chunks go in with `sent` and come back acknowledged or lost."""

    def __init__(self) -> None:
        self.window = INITIAL_WINDOW
        self.in_flight = 0
        self._sent: dict[int, Sent] = {}
        self._slow_start_until = MOST_WINDOW
        self._halved_at = -1  # the last number sent when the window was halved
        self._last_sent = -1
        self._last_sent_at = 0.0
        self._largest = -1
        self._loss_at: float | None = None
        self._latest = self._smoothed = INITIAL_RTT_S
        self._variation = INITIAL_RTT_S / 2
        self._is_measured = False
        self._doublings = 0

    @property
    def has_room(self) -> bool:
        """Whether another packet may go."""
        return self.in_flight < self.window

    @property
    def probe_timeout(self) -> float:
        """Seconds of silence after which a probe is sent (RFC 9002 6.2.1)."""
        return self._smoothed + max(4 * self._variation, GRANULARITY_S) + MAX_ACK_DELAY_S

    def measured(self, seconds: float) -> None:
        """A round trip took so long."""
        self._latest = seconds
        if not self._is_measured:
            self._is_measured = True
            self._smoothed, self._variation = seconds, seconds / 2
        else:
            self._variation += (abs(self._smoothed - seconds) - self._variation) / 4
            self._smoothed += (seconds - self._smoothed) / 8

    def sent(self, number: int, size: int, chunk: int | None, now: float) -> None:
        """Packet `number`, which must be acknowledged, goes now."""
        self._sent[number] = Sent(now, size, chunk)
        self.in_flight += size
        self._last_sent, self._last_sent_at = number, now

    def acknowledged(self, largest: int, arrived: int, now: float) -> tuple[list[int], list[int]]:
        """The peer has `largest`, and n less than it where bit n of `arrived` is set.

        The chunks that arrived, and the ones that were lost.
        """
        numbers = [n for n in self._until(largest) if arrived >> (largest - n) & 1]
        if not numbers:
            return [], []
        if numbers[-1] == largest:
            self.measured(now - self._sent[largest].at)
        self._largest = max(self._largest, numbers[-1])
        self._doublings = 0
        is_used = 2 * self.in_flight >= self.window  # a window nobody fills does not grow
        arrived_packets = [(number, self._forget(number)) for number in numbers]
        lost = self.overdue(now)
        for number, sent in arrived_packets:
            if is_used and number > self._halved_at:
                self._grow(sent.size)
        return [sent.chunk for _, sent in arrived_packets if sent.chunk is not None], lost

    def overdue(self, now: float) -> list[int]:
        """The chunks of packets that count as lost by now."""
        wait = TIME_THRESHOLD * max(self._latest, self._smoothed, GRANULARITY_S)
        self._loss_at = None
        lost = []
        for number in list(self._until(self._largest - 1)):
            at = self._sent[number].at + wait
            if number > self._largest - PACKET_THRESHOLD and at > now:
                self._loss_at = at
                break
            chunk = self._forget(number).chunk
            if chunk is not None:
                lost.append(chunk)
            self._shrink(number)
        return lost

    def deadline(self) -> float | None:
        """When `timed_out` is to be called."""
        if not self._sent or self._loss_at is not None:
            return self._loss_at
        return self._last_sent_at + self.probe_timeout * (1 << self._doublings)

    def timed_out(self, now: float) -> tuple[list[int], bool]:
        """The deadline passed: the chunks that are lost, and whether nothing was heard at all: probe."""
        if self._loss_at is not None:
            return self.overdue(now), False
        self._doublings = min(self._doublings + 1, MAX_DOUBLINGS)
        return [], True

    def end_back_off(self) -> None:
        """What made the packets vanish is thought to be over."""
        self._doublings = 0

    def _until(self, largest: int) -> Iterator[int]:
        return takewhile(lambda number: number <= largest, self._sent)

    def _forget(self, number: int) -> Sent:
        sent = self._sent.pop(number)
        self.in_flight -= sent.size
        return sent

    def _grow(self, size: int) -> None:
        if self.window >= self._slow_start_until:
            size = size * PACKET_BYTES // self.window
        self.window = min(self.window + size, MOST_WINDOW)

    def _shrink(self, number: int) -> None:
        if number > self._halved_at:
            self._halved_at = self._last_sent
            self.window = self._slow_start_until = max(self.window // 2, LEAST_WINDOW)
