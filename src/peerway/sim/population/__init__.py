"""How the real internet would meet: who stands behind what, pairs of nodes, and what came of them."""
