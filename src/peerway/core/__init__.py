"""The pure half: protocol machines without sockets, clocks or chance."""
