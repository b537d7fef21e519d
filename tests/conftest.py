"""What tests of every folder may need: programs that others wrote."""

import os
import shutil
from collections.abc import Callable

import pytest

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
