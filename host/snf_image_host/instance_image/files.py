# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of ganeti-instance-image in their order, merged: nothing in them is ever executed, as it was there.

Lowest to highest: the defaults file, our defaults for what it leaves empty, the variant. Source: instance-image 0.7.3,
common.sh; the difference is that an empty value of a variant is the default as well.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_host.configuration.assignments import read_assignments
from snf_image_host.configuration.setting_files import Given, is_variant_name, published_variants, variants
from snf_image_shared.errors import ConfigurationError

DEFAULTS_FILE = "etc/default/ganeti-instance-image"
CONFIGURATION = "etc/ganeti/instance-image"
VARIANTS_LIST = f"{CONFIGURATION}/variants.list"

_OWN = "remove it; no program of the node's is used for that any more"
# What old files may set of common.sh's own variables, each with what to do about it.
OBSOLETE = {
    "AWK": _OWN,
    "CURL": "remove it; CURL in snf-image.conf says how images are fetched",
    "DUMP": _OWN,
    "KPARTX": _OWN,
    "LOSETUP": _OWN,
    "MKDIR_P": _OWN,
    "PARTED": _OWN,
    "QEMU_IMG": _OWN,
    "SFDISK": _OWN,
    "SHA1SUM": _OWN,
}
# What Ganeti had put into the environment of these files when they were shell.
_OF_GANETI = re.compile(r"(?:INSTANCE|DISK|NIC|OS|OSP)_\w+|HYPERVISOR|DEBUG_LEVEL", re.ASCII)


@dataclass
class ImageFiles:
    """What the files below `root` say of one `variant` ("" is none); `defaults` by the settings' names.

    `env` is what Ganeti passes, {} where no instance is asked for.
    """

    root: Path
    variant: str
    defaults: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)
    values: dict[str, Given] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def read(self) -> None:
        """Read all of them; faults are noted."""
        self._take(self.root / DEFAULTS_FILE)
        if self.variant:
            self._read_variant(self.variant)

    @property
    def variants_dir(self) -> Path:
        """Where the variants lie; a variant cannot change it any more."""
        given = self.values.get("VARIANTS_DIR")
        return Path(given.value if given and given.value else self.defaults["VARIANTS_DIR"])

    @property
    def variables(self) -> dict[str, str]:
        """Everything that a file read next may refer to, and that a hook finds after sourcing common.sh."""
        return {**self.defaults, **{name: given.value for name, given in self.values.items() if given.value}}

    def doubts(self) -> list[str]:
        """A warning for each name that means nothing, or not any more."""
        found = []
        for name, where in self.values.items():
            if name in OBSOLETE:
                found.append(f"{where}: {name} has no effect any more; {OBSOLETE[name]}")
            elif name not in self.defaults:
                similar = difflib.get_close_matches(name.upper(), sorted(self.defaults), 1, 0.8)
                question = f"did you mean {similar[0]}?" if similar else "only hooks and other lines see it"
                found.append(f"{where}: {name} is not a setting of instance-image; {question}")
        return found

    def _read_variant(self, variant: str) -> None:
        directory = self.variants_dir
        if not is_variant_name(variant):
            self.faults.append(f"variant {variant!r}: only letters, digits and _ . + - may be in a variant's name")
            return
        path = directory / f"{variant}.conf"
        if self._take(path):
            return
        if not os.access(directory, os.F_OK):
            self.faults.append(f"OS Variants directory {directory} doesn't exist; create it, with {path.name} in it")
        elif variant in published_variants(self.root, VARIANTS_LIST):
            self.faults.append(
                f"instance-image configuration error: {path} does not exist, though {self.root / VARIANTS_LIST} "
                f"offers the variant {variant}; create it (it may be empty)"
            )
        else:
            known = ", ".join(variants(self.root, directory, VARIANTS_LIST)) or "none"
            self.faults.append(
                f"Unofficial variant {variant} is unsupported; use one of {known}, or create {path}: it does not exist"
            )

    def _take(self, path: Path) -> bool:
        """Add what the file says; whether there is such a file."""
        ganeti = {name: value for name, value in self.env.items() if _OF_GANETI.fullmatch(name)}
        try:
            found = read_assignments(path, variables=_Known({**ganeti, **self.variables}))
        except FileNotFoundError:
            return False
        except ConfigurationError as error:
            self.faults.append(str(error))
        else:
            self.values |= {each.name: Given(each.value, path, each.line) for each in found}
        return True


class _Known(dict[str, str]):
    """What a file may refer to. Ganeti's variables are all known, and empty where it passes none, as in a shell."""

    def __missing__(self, name: str) -> str:
        if _OF_GANETI.fullmatch(name):
            return ""
        raise KeyError(name)
