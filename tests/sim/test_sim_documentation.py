"""The programs on the pages about the simulator do what the pages say."""

import re
from pathlib import Path

import pytest

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = ("simulate-a-network.md", "use-the-simulator.md")
PROGRAMS = {
    program.split()[1]: program  # it begins with a comment, which is its name
    for page in PAGES
    for program in re.findall(r"```python\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL)
}


def run(name):
    """Run the program, and every test in it; how many those were."""
    names = {"__name__": name.removesuffix(".py")}
    exec(compile(PROGRAMS[name], name, "exec"), names)
    tests = [value for key, value in names.items() if key.startswith("test_")]
    for test in tests:
        test()
    return len(tests)


def test_all_programs_of_the_pages_are_here():
    assert list(PROGRAMS) == ["simulate.py", "test_office.py", "test_cut.py"]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name.startswith("test_")])
def test_a_test_on_the_page_passes(name):
    assert run(name) == 1


def test_the_network_on_the_page_is_told_as_the_page_says(capsys):
    run("simulate.py")
    outcome, addresses, *story = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"direct after \d\.\d{3} s", outcome)
    assert "NAT mapping endpoint-independent" in addresses
    assert "both directions proven: 192.0.2.1:49152" in " ".join(story)
