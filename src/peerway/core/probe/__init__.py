"""Probes: authenticated, encrypted pings and pongs that find out which paths work."""
