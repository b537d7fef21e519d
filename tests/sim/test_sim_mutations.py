"""Ten mistakes that a tired programmer might make, each of which the simulator notices."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sim.mutations import BY_NAME, MUTATIONS, SOURCES, Change, Mutation, MutationError, check, scenarios

from peerway.sim.soundness import problem_of

ROOT = Path(__file__).parents[2]
AT_ONCE = 2
NO_MISTAKE = ()


def outcome_of(*arguments):
    """What an interpreter of its own says of that mutation's scenario; without one, of all scenarios."""
    command = [sys.executable, "-m", "tests.sim.mutations", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCES), str(ROOT)))}
    finished = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.fixture(scope="module")
def outcomes(request):
    """What each run that is asked for comes to, two at a time."""
    asked_for = [item.name for item in request.session.items if item.path == Path(__file__)]
    names = [name for name in BY_NAME if f"test_a_mistake_is_noticed[{name}]" in asked_for]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [NO_MISTAKE, *((name,) for name in names)]
        yield {arguments: pool.submit(outcome_of, *arguments) for arguments in runs}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_mistake_is_noticed(name, outcomes):
    check(BY_NAME[name])
    assert re.search(BY_NAME[name].violation, outcomes[name,].result())


def test_without_a_mistake_there_is_nothing_to_notice(outcomes):
    assert outcomes[NO_MISTAKE].result() == dict.fromkeys(BY_NAME, "")


def test_each_mistake_has_a_sound_scenario():
    assert {name: problem_of(scenario) for name, scenario in scenarios().items()} == dict.fromkeys(
        BY_NAME, ""
    )
    assert len(BY_NAME) == len(MUTATIONS)


def test_a_mutation_that_no_longer_applies_says_where_to_look():
    first, *_ = MUTATIONS
    (change,) = first.changes
    renamed = replace(first, changes=(replace(change, old=change.old.replace("age", "distance")),))
    line = (SOURCES / change.file).read_text().split(change.old)[0].count("\n") + 1
    with pytest.raises(MutationError) as caught:
        check(renamed)
    message = str(caught.value)
    assert message.startswith(f'the mutation "{first.name}" of tests/sim/mutations.py no longer applies: ')
    assert f"its text is 0 times in src/{change.file}:{line}, not once" in message


def test_neither_does_one_whose_text_stands_there_twice():
    twice = Mutation("twice", (Change("peerway/core/path/pair.py", "import", "export"),), "")
    with pytest.raises(MutationError, match=r"times in src/peerway/core/path/pair\.py"):
        check(twice)
