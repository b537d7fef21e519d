"""Every input in the corpus goes through its target: seeds that reach much code, and what once broke it."""

import pytest
from tests.fuzz.__main__ import CORPUS
from tests.fuzz.targets import TARGETS

MAX_CORPUS_BYTES = 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_the_corpus_breaks_its_target(name):
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[name](path.read_bytes())
        except Exception as error:
            error.add_note(f"the input is {path}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_the_smallest_inputs_break_no_target(name):
    TARGETS[name](b"")
    for byte in range(256):
        TARGETS[name](bytes([byte]))


def test_the_corpus_belongs_to_targets_and_stays_small():
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MAX_CORPUS_BYTES
