import subprocess
import sys

import pytest

PROGRAM = """
import resource
from peerway.io.descriptors import have_all_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 150))
have_all_descriptors()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_process_takes_all_the_descriptors_it_may_have():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "150 150\n"
