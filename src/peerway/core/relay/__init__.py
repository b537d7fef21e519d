"""Relaying packets between keys: DERP version 2, its client machine and its server machine."""
