"""What every test of the command line needs."""

import logging

import pytest

from peerway.cli.logs import CHATTY


@pytest.fixture(autouse=True)
def logging_as_before():
    """Commands that run in our process set the logs up for themselves: other tests must not notice."""
    loggers = [logging.getLogger(name) for name in ("", *CHATTY)]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
