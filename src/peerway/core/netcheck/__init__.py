"""Finding out what a node sits behind: what to probe, what it shows, and in what words to say it."""
