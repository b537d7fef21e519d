"""Port mapping: asking the router for a port that the outside can reach us at (NAT-PMP, PCP, UPnP)."""
