"""The network and its time: clock and trace, links, routers in a tree, NATs, hosts, byte streams."""
