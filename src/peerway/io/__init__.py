"""The half that touches the operating system: sockets, names, interfaces, the clock. It decides nothing."""
