# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator sees of the log of a command's run."""

from __future__ import annotations

import io
import sys
from typing import TextIO


def log_of(*, verbose: bool) -> TextIO:
    """All of it on standard error, or only what is warned of."""
    return sys.stderr if verbose else _Warnings()


class _Warnings(io.StringIO):
    """A log of which only the warnings are seen."""

    def write(self, text: str) -> int:
        """As io.StringIO says; whole lines come, as Progress writes them."""
        for line in text.splitlines(keepends=True):
            if line.startswith("[WARNING] "):
                sys.stderr.write(line)
        return len(text)
