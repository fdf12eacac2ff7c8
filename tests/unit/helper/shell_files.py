# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that a guest's programs source: what a real shell gets from them."""

from __future__ import annotations

import re
import subprocess

_SHELLS_OWN = {"BASHPID", "COMP_WORDBREAKS", "OPTERR", "IFS", "_"}


def sourced(content: str) -> dict[str, str]:
    """The variables in upper case of a file; one that fails, or uses what is not set, is an error."""
    done = subprocess.run(
        ["/bin/bash", "--noprofile", "--norc", "-euc", '. /dev/stdin; declare -p | sed -n "s/^declare -- //p"'],
        input=content,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r'^([A-Z][A-Z0-9_]*)="(.*)"$', done.stdout, re.MULTILINE)
    return {name: value for name, value in found if name not in _SHELLS_OWN}
