"""A program that a machine of the lab runs beside what it is: a gateway's UPnP daemon, say.

Its files and its rules are data and name no machine: every router's outer device is `wan`, its
inner one `lan`, and the program starts in a directory of its own that holds the files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """A router has it from the start (`plan.Router`), any machine later (`Laboratory.provide`).

    `rules` (nftables) are loaded, `files` (name and text) written, then `argv` is started. It must
    stay in the foreground; `package` is what to install where the program is missing.
    """

    name: str
    argv: tuple[str, ...]
    package: str = ""
    files: tuple[tuple[str, str], ...] = ()
    rules: str = ""
