"""What every lab test needs: the tools, or a word on which are missing."""

import os

import pytest

from peerway.lab.laboratory import LabUnavailable, require_lab


@pytest.fixture(scope="session", autouse=True)
def lab_is_available():
    try:
        require_lab("turnserver", "turnutils_natdiscovery")
    except LabUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
