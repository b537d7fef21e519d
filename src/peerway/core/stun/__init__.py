"""STUN: what address a packet of ours comes from (RFC 8489, RFC 3489's requests on the server)."""
