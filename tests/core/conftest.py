import random

import pytest

from peerway.core.quic.qh3_transport import Qh3Transport
from peerway.sim.transport.stand_in import SimTransports


@pytest.fixture(params=["qh3", "sim"])
def transports(request):
    """A factory of transports: production's, and the simulator's that has to behave like it."""
    return Qh3Transport if request.param == "qh3" else SimTransports(random.Random(1))
