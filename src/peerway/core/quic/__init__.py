"""Streams between two nodes over QUIC, whatever path carries its datagrams."""
