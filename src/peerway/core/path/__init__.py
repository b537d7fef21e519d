"""Paths: where we can be reached, which pairs of addresses work, and which one carries the data."""
