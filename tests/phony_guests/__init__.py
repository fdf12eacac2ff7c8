# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that cannot be had here: trees as the published images have them, with a source for each fact.

`PHONY["phony-rocky-9"].make(tmp_path / "guest")` lays one out. MUTABLE are those whose files the tasks change.
"""

from __future__ import annotations

from collections.abc import Mapping

from phony_guests import bsd, debian, enterprise, fedora, immutable, independent, suse
from phony_guests.tree import Entry, Kind, Phony, Sourced, named

__all__ = ["BSD", "IMMUTABLE", "MUTABLE", "PHONY", "Entry", "Kind", "Phony", "Sourced"]

MUTABLE: Mapping[str, Phony] = named(
    guest for family in (debian, fedora, enterprise, suse, independent) for guest in family.GUESTS
)
IMMUTABLE: Mapping[str, Phony] = named(guest for guest in immutable.GUESTS)
BSD: Mapping[str, Phony] = named(guest for guest in bsd.GUESTS)
PHONY: Mapping[str, Phony] = {**MUTABLE, **IMMUTABLE, **BSD}
