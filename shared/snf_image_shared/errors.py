# SPDX-License-Identifier: GPL-2.0-or-later
"""Every error that a person is meant to read, named by who must act.

The tree is this and no more:

    SnfImageError          exit code 1
    ├── RequestError       2  whoever typed the command: OS parameters, properties, personality
    ├── ConfigurationError 3  the administrator: settings, variants, missing programs, helper image
    ├── ImageError         4  whoever published the image
    ├── DiskError          5  the administrator: the instance's disk
    └── HelperError        6  the helper VM did not do its work; its own words are in the log
        └── GuestError     6  raised inside the helper: the guest cannot be customised

A message is one line that names the thing and the cure; some have several, a RequestError one for each fault.
Only cli.py and __main__.py catch the root.
"""

from __future__ import annotations


class SnfImageError(Exception):
    """Root of all errors that are shown without a traceback. `exit_code` is what the OS script ends with."""

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self._lines = lines

    @property
    def lines(self) -> tuple[str, ...]:
        """What a person reads; the last line says most."""
        return self._lines


class RequestError(SnfImageError):
    """OS parameters, properties or environment variables are missing or wrong: one line for each fault."""

    exit_code = 2


class ConfigurationError(SnfImageError):
    """The node is not set up: a setting, a variant, a program or the helper image."""

    exit_code = 3


class ImageError(SnfImageError):
    """The image is missing, unreadable, damaged, unsafe or larger than the disk."""

    exit_code = 4


class DiskError(SnfImageError):
    """The instance's disk is missing, busy, too small, read-only or failing."""

    exit_code = 5


class HelperError(SnfImageError):
    """The helper VM did not start, did not finish in time, or said that it failed."""

    exit_code = 6


class GuestError(HelperError):
    """The guest on the disk cannot be customised as asked."""
