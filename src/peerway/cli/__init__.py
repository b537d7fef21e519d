"""The command line: what a person types, turned into calls of the library. Nothing imports it."""

from peerway.cli.app import main

__all__ = ["main"]
