"""A relay server and its clients joined back to back in memory, with a clock that is set by hand."""

import random

from peerway.core.machine import CloseStream, StreamWrite
from peerway.core.relay.client import PacketsReceived, RelayClient
from peerway.core.relay.server import RelayServer

URL = "http://relay.test:3340"


def private_key(name):
    """A private key that is the same in every run."""
    return random.Random(f"key of {name}").randbytes(32)


class RelayNetwork:
    """Moves bytes between one `RelayServer` and many `RelayClient`s until nobody has more to say."""

    def __init__(self, limits=None, allow=None, seed=1, token=None):
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.server = RelayServer(self.rng, limits, allow, token)
        self.clients = {}
        self.server_events = []
        self.closed_by_server = []
        self.held = {}
        self.writes_to = {}

    def join(self, name, key=None, ip="192.0.2.1", token=""):
        """Connect a client; its stream has its name. Returns the client."""
        client = RelayClient(URL, name, key or private_key(name), random.Random(name), token)
        client.events = []
        self.clients[name] = client
        self.server.stream_accepted(name, ip, self.now)
        client.stream_opened(self.now)
        self.settle()
        return client

    def pause(self, name):
        """The server's stream to this client takes nothing from now on; what was written still arrives."""
        self.server.stream_paused(name, self.now)

    def resume(self, name):
        self.server.stream_resumed(name, self.now)
        self.settle()

    def send(self, sender, receiver, *packets):
        self.clients[sender].send_packet(self.clients[receiver].public_key, packets, self.now)
        self.settle()

    def leave(self, name, error=""):
        """The client's end of the stream is gone."""
        del self.clients[name]
        self.server.stream_closed(name, error, self.now)
        self.settle()

    def advance(self, seconds):
        """Let time pass, stopping at every deadline on the way."""
        end = self.now + seconds
        while True:
            machines = [self.server, *self.clients.values()]
            deadlines = [d.at for d in (m.poll_deadline() for m in machines) if d is not None]
            self.now = min([end, *deadlines])
            if self.now >= end and not any(at <= end for at in deadlines):
                return
            for machine in machines:
                machine.handle_timeout(self.now)
            self.settle()

    def settle(self):
        busy = True
        while busy:
            busy = self._drain_server()
            for name in list(self.clients):
                busy |= self._drain_client(name)

    def _drain_server(self):
        busy = False
        while (output := self.server.poll_transmit()) is not None:
            assert isinstance(output, StreamWrite)
            busy = True
            self.writes_to.setdefault(output.stream, []).append(output.data)
            if output.stream in self.clients:
                self.clients[output.stream].stream_data(output.data, self.now)
        while (event := self.server.poll_event()) is not None:
            busy = True
            self.server_events.append(event)
            if isinstance(event, CloseStream):
                self.closed_by_server.append(event.stream)
                if event.stream in self.clients:
                    self.clients[event.stream].stream_closed("", self.now)
        return busy

    def _drain_client(self, name):
        client, busy = self.clients[name], False
        while (output := client.poll_transmit()) is not None:
            busy = True
            self.server.stream_data(name, output.data, self.now)
        while (event := client.poll_event()) is not None:
            busy = True
            client.events.append(event)
            if isinstance(event, CloseStream):
                self.server.stream_closed(name, "", self.now)
        return busy

    def received(self, name):
        """The packets a client received so far, as (source key, packet)."""
        events = [e for e in self.clients[name].events if isinstance(e, PacketsReceived)]
        return [(e.source_key, packet) for e in events for packet in e.packets]

    def events(self, name, kind):
        return [event for event in self.clients[name].events if isinstance(event, kind)]
