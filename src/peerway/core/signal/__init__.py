"""Signals: the sealed messages two nodes exchange over the side channel to find each other."""
