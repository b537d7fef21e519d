"""What tests of every folder may need: programs that others wrote."""

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from peerway.io import interfaces

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

STOPS = ("SIGINT", "SIGHUP")
MAY_BLOCK = (
    ("logging/__init__.py", "emit"),  # where a log goes is the application's choice; here, pytest's
    ("peerway/io/routes.py", "_read_table"),  # the kernel's own memory, not a disk
    ("peerway/io/interfaces.py", "_read_if_inet6"),  # the same
)
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # where an ordinary user's PATH does not look


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """`tool(name, package)`: the path of a program, or a skip naming the Debian package that has it.

    With CI=true a missing program is a failure: there nobody reads what was skipped.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))

    def find(name: str, package: str) -> str:
        found = shutil.which(name, path=path)
        if found is None:
            missing = f"{name} is missing: apt-get install {package}"
            if os.environ.get("CI") == "true":
                pytest.fail(missing)
            pytest.skip(missing)
        return found

    return find


@pytest.fixture(scope="session", autouse=True)
def no_router_is_asked() -> Iterator[None]:
    """What tests send stays on this machine: no interface that a node here sees has a gateway.

    Programs that tests start are told by PEERWAY_PORTMAP; in the lab routers are asked.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interfaces, "_way_out", lambda *_: (None, ""))
        yield


@pytest.fixture(scope="session", autouse=True)
def programs_can_be_stopped() -> None:
    """Programs that tests start take Ctrl-C, also when we run under nohup or in the background.

    There these signals are ignored, and whoever we start inherits that; a handler is not inherited.
    """
    for name in STOPS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def slowness_is_not_told() -> Iterator[None]:
    """In its debug mode asyncio warns of callbacks that took long: here that is the machine's doing."""

    def is_of_interest(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Executing <")

    logger = logging.getLogger("asyncio")
    logger.addFilter(is_of_interest)
    yield
    logger.removeFilter(is_of_interest)


@pytest.fixture(scope="session", autouse=True)
def nothing_blocks_the_loop() -> Iterator[None]:
    """Whatever peerway does that may block (files, locks, sleeping) is an error inside a running loop."""
    # the lab and the demo run programs and read files, one after the other: nobody else is on their loop
    with blockbuster_ctx("peerway", excluded_modules=["peerway.lab", "peerway.demo"]) as watch:
        for patched in watch.functions.values():
            for file, function in MAY_BLOCK:
                patched.can_block_in(file, function)
        yield
