"""The program in docs/how-to/simulate-a-network.md runs, and finds a direct path."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "simulate-a-network.md"


def test_the_program_on_the_page_runs(capsys):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(program, "simulate.py", "exec"), {})
    outcome, *story = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"direct after \d\.\d{3} s", outcome)
    assert "both directions proven: 192.0.2.1:49152" in " ".join(story)
