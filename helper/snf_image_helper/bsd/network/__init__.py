# SPDX-License-Identifier: GPL-2.0-or-later
"""From the job's network cards to the files of a BSD guest: a renderer for each system, and what it has to know.

A renderer is pure: cards with their names and facts in, files out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from snf_image_helper.bsd.network import freebsd, netbsd, openbsd
from snf_image_helper.bsd.network.ports import Facts, Files, Port
from snf_image_helper.system import OsFamily

RENDERERS: Mapping[OsFamily, Callable[[tuple[Port, ...], Facts], Files]] = {
    OsFamily.FREEBSD: freebsd.render,
    OsFamily.NETBSD: netbsd.render,
    OsFamily.OPENBSD: openbsd.render,
}
