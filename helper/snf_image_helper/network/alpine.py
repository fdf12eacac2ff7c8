# SPDX-License-Identifier: GPL-2.0-or-later
"""ifupdown-ng and busybox's ifup of Alpine, interfaces(5)."""

from __future__ import annotations

from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import Facts, Rendered


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Nothing yet."""
    return Rendered({})
