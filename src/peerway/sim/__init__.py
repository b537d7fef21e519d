"""The simulated internet: the real machines, with addresses, links, NATs and time made up."""
