"""What every lab test needs: the tools, or a word on which are missing."""

import functools
import os

import pytest

from peerway.lab.laboratory import LabUnavailable, require_lab


@functools.cache
def what_is_missing() -> str:
    try:
        require_lab("turnserver", "turnutils_natdiscovery", "miniupnpd", "upnpc", "natpmpc")
    except LabUnavailable as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def lab_is_available(request):
    if request.node.get_closest_marker("lab") is None or not what_is_missing():
        return
    if os.environ.get("CI") == "true":
        pytest.fail(what_is_missing())
    pytest.skip(what_is_missing())
