"""The demonstration: two homes behind NATs meet, and a transfer moves from the relay to a direct path.

`end` is the program that runs at each end, `report` what it says while it runs, `stage` the
places it can run in, `story` what all reports come to, `lines` and `picture` two ways to
show it.
"""
