"""What README and docs say still holds: examples run, every command and setting is there."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peerway.cli.app import COMMANDS
from peerway.cli.settings import NODE, SETTINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference" / "commands.md").read_text()
SIMULATOR = (ROOT / "docs" / "how-to" / "use-the-simulator.md").read_text()
TIMEOUT_S = 60
# What tests send stays on this machine: to the example, no interface has a router.
NO_ROUTER = "from peerway.io import interfaces\ninterfaces._way_out = lambda *_: (None, '')\n"


def example(name, page=README):
    """The program in a page that begins with a comment of this name."""
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        if block.startswith(f"# {name}\n"):
            return block
    raise LookupError(name)


@pytest.fixture
def start(tmp_path):
    processes = []
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PEERWAY_")}

    def begin(*arguments):
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "PEERWAY_HOME": str(tmp_path), "PEERWAY_PORTMAP": "no"},
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_the_readmes_programs_talk_to_each_other(start):
    served = ("serve", "--plain", "--host", "127.0.0.1", "--port", "0", "--stun-port", "0")
    server = start("-m", "peerway", *served)
    listener = start("-c", example("listen.py"), server.stdout.readline().strip())
    dialler = start("-c", NO_ROUTER + example("connect.py"), listener.stdout.readline().strip())
    out, _ = dialler.communicate(timeout=TIMEOUT_S)
    assert re.fullmatch(r"b'and good day to you'\n\d+\.\d ms, (direct|relay), \S+\n", out)
    assert re.fullmatch(r"[a-z2-7]{52} b'good day'\n", listener.stdout.readline())
    listener.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("name", ["test_office.py", "test_cut.py"])
def test_the_simulators_examples_pass(name):
    words = {}
    exec(compile(example(name, SIMULATOR), name, "exec"), words)
    (test,) = (words[word] for word in words if word.startswith("test_"))
    test()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_in_the_reference(setting):
    key = f"`{setting.name}`" if setting.scope == NODE else f"`{setting.name}` in `[{setting.scope}]`"
    commands = ", ".join(setting.commands)
    assert f"| `{setting.flag}` | `{setting.variable}` | {key} | {commands} |" in REFERENCE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_reference(command):
    assert re.search(rf"\| `{command}\b", REFERENCE)


def test_links_between_documents_lead_somewhere():
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for page in [*pages, *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def named_tests():
    """Every test that a page names, as file and function, "" where a whole file is named."""
    for page in (ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for path, _, function in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", page.read_text()):
            yield pytest.param(path, function, id=f"{page.name}: {path}::{function}")


@pytest.mark.parametrize(("path", "function"), list(named_tests()))
def test_every_test_that_a_page_names_is_there(path, function):
    assert f"def {function}(" in (ROOT / path).read_text() if function else (ROOT / path).exists()


LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)")


@pytest.mark.parametrize(
    "page", [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_every_link_to_a_page_leads_somewhere(page):
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []
