"""`python -m peerway` is the command `peerway`."""

from peerway.cli import main

if __name__ == "__main__":
    main()
