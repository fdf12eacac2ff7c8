# SPDX-License-Identifier: GPL-2.0-or-later
"""Every input brought up by each network software that Debian has: what the kernel says then is what was asked for.

The rooms of one software are brought up side by side: most of their time is waiting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from network_inputs import INPUTS
from snf_image_helper.network import RENDERERS
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import Facts
from unit.helper.guest_tools import GuestTools
from unit.helper.network_rooms import PROGRAMS, Room, bring_up, expected

pytestmark = [pytest.mark.root, pytest.mark.row(179, 181, 182, 185)]

_SIDE_BY_SIDE = 12


@pytest.fixture(scope="module")
def rooms(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Future[Room]]:
    """All of them, begun."""
    tools = GuestTools.unpack(cache)
    directory = tmp_path_factory.mktemp("rooms")

    def begin(software: str, name: str) -> Room:
        renderer, program = PROGRAMS[software]
        script = program.format(
            root=tools.root, networkd=tools.networkd, networkmanager=tools.networkmanager, netplan=tools.netplan
        )
        rendered = RENDERERS[renderer](cards_of(INPUTS[name]), Facts())
        return bring_up(tools, script, rendered, INPUTS[name], directory / software / name)

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return {(software, name): pool.submit(begin, software, name) for software in PROGRAMS for name in INPUTS}


@pytest.mark.image_row(73, 74)
@pytest.mark.guest(family="Debian", version="12, 13", stack="ifupdown", boot="not started", proven="tool")
@pytest.mark.guest(family="Debian", version="12, 13", stack="netplan", boot="not started", proven="tool")
@pytest.mark.guest(family="Debian", version="12, 13", stack="networkd", boot="not started", proven="tool")
@pytest.mark.guest(family="Debian", version="12, 13", stack="networkmanager", boot="not started", proven="tool")
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("software", PROGRAMS)
def test_the_kernel_has_what_was_asked_for(
    rooms: Mapping[tuple[str, str], Future[Room]], software: str, name: str
) -> None:
    room, wanted = rooms[software, name].result(), expected(INPUTS[name])
    print(room.log)
    # A word that netplan itself adds.
    said = room.log.replace("Scope= is specified for IPv6 route. It will be ignored.", "")
    assert not re.search("Unknown (key|section|lvalue)|Failed to parse|be ignored|ignoring", said)
    assert room.cards == wanted.cards
    assert room.defaults == wanted.defaults
    for place, metric in wanted.routes.items():
        assert room.routes[place] == metric or metric is None
    # Nobody learns a way out on a card that was not to ask, and whoever was told none learns one.
    assert room.routers <= wanted.routers
    told = {6 if ":" in str(gateway) else 4 for _, gateway, _ in wanted.defaults}
    assert {family for family, _ in room.routers} | told == {family for family, _ in wanted.routers} | told
