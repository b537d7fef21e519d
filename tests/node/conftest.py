import pytest
from tests.authority import authority

from peerway.server import Server

__all__ = ["authority"]


@pytest.fixture
def server():
    """A relay and STUN server on loopback, made inside the test's own loop."""
    return lambda: Server(host="127.0.0.1", relay_port=0, stun_port=0)
