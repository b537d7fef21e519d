"""What carries streams in QUIC's place, byte for byte the same for the same seed."""
