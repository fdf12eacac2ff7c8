# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's files in their order, merged: each name's last value, and the file and line it comes from.

Lowest to highest: snf-image.conf, the files of sources and targets, the variant. Nothing is judged here but names.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from snf_image_host.configuration.assignments import Assignment, read_assignments
from snf_image_host.configuration.obsolete import OBSOLETE
from snf_image_host.parameters.spec import SPEC, with_spec
from snf_image_shared.errors import ConfigurationError

MAIN_FILE = "etc/snf-image/snf-image.conf"
OLD_MAIN_FILE = "etc/default/snf-image"
BACKENDS = "etc/snf-image/backends"
VARIANTS = "etc/ganeti/snf-image/variants"
VARIANTS_LIST = "etc/ganeti/snf-image/variants.list"
# What each of these files may set, and which setting that is: the source or target it belongs to uses nothing else.
BACKEND_FILES: dict[str, Mapping[str, str]] = {
    "src/local.conf": {"IMAGE_DIR": "IMAGE_DIR", "VERIFY": "VERIFY_LOCAL"},
    "src/network.conf": {"VERIFY": "VERIFY_NETWORK"},
    "src/null.conf": {},
    "src/pithos.conf": {},
    "dst/local.conf": {},
    "dst/uri.conf": {},
    "dst/rbd.conf": {},
}


@dataclass(frozen=True)
class Given:
    """A value and where it was given."""

    value: str = field(repr=False)
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


@dataclass
class SettingFiles:
    """What the files below `root` say; `known` are the names that mean something. Each fault names file and cure."""

    root: Path
    known: Collection[str]
    values: dict[str, Given] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, root: Path, known: Collection[str], variant: str) -> SettingFiles:
        """Read all of them; `variant` "" is none."""
        files = cls(root, known)
        files._read_main()
        for name, allowed in BACKEND_FILES.items():
            files._read_backend(root / BACKENDS / name, allowed)
        if variant:
            files._read_variant(variant)
        return files

    @property
    def variants_dir(self) -> Path:
        """Where the main file, whatever its faults, says that the variants lie."""
        given = self.values.get("VARIANTS_DIR")
        return Path(given.value) if given and given.value else self.root / VARIANTS

    def _read_main(self) -> None:
        new, old = self.root / MAIN_FILE, self.root / OLD_MAIN_FILE
        if self._take(new):
            if os.access(old, os.F_OK):
                self.warnings.append(f"{old}: ignored, because {new} exists; move what you need into that, remove this")
        elif self._take(old):
            self.warnings.append(f"{old}: this is where old versions had their settings; move the file to {new}")

    def _read_backend(self, path: Path, allowed: Mapping[str, str]) -> None:
        # What the main file says of these names holds unless this file says otherwise (contract 2.2).
        own = SettingFiles(self.root, allowed)
        if not own._take(path):
            return
        self.faults += own.faults
        self.values.update({allowed[name]: given for name, given in own.values.items() if name in allowed})
        for name, given in own.values.items():
            if name in self.known and name not in allowed:
                self.warnings.append(f"{given}: {name} has no effect in this file; set it in {self.root / MAIN_FILE}")
        self.warnings += [warning for name in own.values if name not in self.known for warning in own._doubts(name)]

    def _read_variant(self, variant: str) -> None:
        if not is_variant_name(variant):
            self.faults.append(f"variant {variant!r}: only letters, digits and _ . + - may be in a variant's name")
            return
        directory = self.variants_dir
        path = directory / f"{variant}.conf"
        if self._take(path) or (self.faults and "VARIANTS_DIR" not in self.values):
            return  # a main file that could not be read may name another directory
        is_listed = variant in published_variants(self.root)
        if not os.access(directory, os.F_OK):
            fault = f"VARIANTS_DIR {directory} does not exist; create it, with a file {path.name} in it"
        elif is_listed:
            fault = f"{path} does not exist, though {self.root / VARIANTS_LIST} offers it; create it (it may be empty)"
        else:
            fault = f"there is no such variant; use one of {', '.join(variants(self.root, directory)) or 'none'}, "
            fault += f"or create {path}: it does not exist"
        self.faults.append(f"variant {variant!r}: {fault}")

    def doubts(self) -> list[str]:
        """A warning for each name, in the order of the files, that means nothing or not any more."""
        return [warning for name in self.values for warning in self._doubts(name)]

    def _doubts(self, name: str) -> list[str]:
        if name in self.known:
            return []
        if name in OBSOLETE:
            return [f"{self.values[name]}: {name} has no effect any more; {OBSOLETE[name]}"]
        similar = difflib.get_close_matches(name.upper(), sorted(self.known), 1, 0.8)
        question = f"did you mean {similar[0]}?" if similar else "remove it"
        return [f"{self.values[name]}: {name} is not a setting of snf-image; {question}"]

    def _take(self, path: Path) -> bool:
        """Add what the file says; whether there is such a file."""
        before_fault: list[Assignment] = []
        try:
            found = read_assignments(path, before_fault)
        except FileNotFoundError:
            return False
        except ConfigurationError as error:
            self.faults.append(str(error))
            # Whoever follows the deployment is to hear of the fault.
            monitors = [each for each in before_fault if each.name == "PROGRESS_MONITOR"]
            self.values |= {each.name: Given(each.value, path, each.line) for each in monitors}
        else:
            given = {each.name: Given(each.value, path, each.line) for each in found}
            if spec := given.get(SPEC):
                # Its members count as given in its place.
                members = with_spec({SPEC: spec.value})
                given = {name: replace(spec, value=value) for name, value in members.items()} | given
            self.values |= given
        return True


def is_variant_name(text: str) -> bool:
    """Whether `text` can name a variant: it becomes the name of a file, and must not become a path."""
    return bool(re.fullmatch(r"[A-Za-z0-9_.+-]+", text)) and not text.startswith(".")


def published_variants(root: Path, published: str = VARIANTS_LIST) -> list[str]:
    """The names in variants.list, which are those that Ganeti offers. An unreadable list is empty, as for Ganeti."""
    try:
        text = (root / published).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if is_variant_name(line.strip())]


def variants(root: Path, directory: Path, published: str = VARIANTS_LIST) -> list[str]:
    """Published variants and those with a file, sorted."""
    try:
        found = {path.stem for path in directory.glob("*.conf")}
    except OSError:
        found = set()
    return sorted(set(filter(is_variant_name, found)) | set(published_variants(root, published)))
