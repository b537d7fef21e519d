"""The self-hosted side: a relay and a STUN server in one process."""

from peerway.server.serve import Server

__all__ = ["Server"]
