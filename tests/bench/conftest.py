"""What all benchmarks share: where their results go, and the loop their programs run on."""

import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("benchmarks")
    group.addoption(
        "--bench-to",
        type=Path,
        default=Path(tempfile.gettempdir()) / "peerway-bench",
        help="the folder that results are written to (default: %(default)s)",
    )
    group.addoption("--bench-loop", choices=("asyncio", "uvloop"), default="asyncio", help="the event loop")
    group.addoption("--bench-rounds", type=int, default=5, help="how often each is measured, in turn")
    group.addoption("--bench-seconds", type=float, default=2.0, help="how long each is measured")


class Results:
    """Writes what was measured, and says where."""

    def __init__(self, folder):
        self._folder = folder

    def write(self, name, record, **pictures):
        self._folder.mkdir(parents=True, exist_ok=True)
        packages = {package: version(package) for package in ("peerway", "qh3", *record.pop("packages", ()))}
        machine = {
            "python": platform.python_version(),
            "kernel": platform.release(),
            "processors": os.cpu_count(),
            "packages": packages,
        }
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(record | {"machine": machine}, indent=1) + "\n")
        print(f"{path}")
        for kind, text in pictures.items():
            path = self._folder / f"{name}.{kind}"
            path.write_text(text)
            print(f"{path}")


@pytest.fixture
def results(request):
    return Results(request.config.getoption("--bench-to"))


@pytest.fixture
def loop(request):
    return request.config.getoption("--bench-loop")


@pytest.fixture
def rounds(request):
    return request.config.getoption("--bench-rounds")


@pytest.fixture
def seconds(request):
    return request.config.getoption("--bench-seconds")
