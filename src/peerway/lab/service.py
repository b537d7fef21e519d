"""A program that a machine of the lab runs beside what it is: a gateway's UPnP daemon, say.

Its files and its rules are data and name no machine: every router's outer device is `wan`, its
inner one `lan`, and the program starts in a directory of its own that holds the files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """`Laboratory.provide` loads `rules` (nftables), writes `files` (name and text), starts `argv`.

    The program must stay in the foreground; `package` is what to install where it is missing.
    """

    name: str
    argv: tuple[str, ...]
    package: str = ""
    files: tuple[tuple[str, str], ...] = ()
    rules: str = ""
