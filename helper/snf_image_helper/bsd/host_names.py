# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a BSD keeps its host name: `hostname` of rc.conf(5) on FreeBSD and, before /etc/myname, on NetBSD.

OpenBSD reads myname(5) alone. None of the three has Linux's limit of 64 characters (MAXHOSTNAMELEN is 256).
"""

from __future__ import annotations

from snf_image_helper.bsd.rc_conf import RcConf
from snf_image_helper.files.edits import Edits
from snf_image_helper.files.guest_errors import shown
from snf_image_helper.linux import host_names
from snf_image_helper.linux.host_names import HOSTS, Renaming
from snf_image_helper.system import OsFamily

MYNAME = "/etc/myname"
_VARIABLE = "hostname"


def told(edits: Edits) -> str:
    """The name that the guest takes at boot, "" when there is none."""
    family = edits.guest.system.family
    assigned = None if family is OsFamily.OPENBSD else RcConf(edits).value(_VARIABLE)
    if assigned or family is OsFamily.FREEBSD:
        return assigned or ""
    lines = (line.partition("#")[0].split() for line in (edits.text(MYNAME) or "").split("\n"))
    return next((words[0] for words in lines if words), "")


def put(edits: Edits, name: str) -> None:
    """Write the name wherever the guest reads it."""
    family = edits.guest.system.family
    if family is not OsFamily.OPENBSD:
        configuration = RcConf(edits)
        if family is OsFamily.FREEBSD or configuration.value(_VARIABLE) is not None:
            configuration.set(_VARIABLE, name)
    if family is not OsFamily.FREEBSD:
        edits.put(MYNAME, f"{name}\n")


def forget_template(edits: Edits, new: str) -> None:
    """Exchange the template's name in /etc/hosts, its longest if it has several. To be called before put()."""
    assigned = () if edits.guest.system.family is OsFamily.OPENBSD else RcConf(edits).values(_VARIABLE)
    old, hosts = max((told(edits), *assigned), key=len), edits.text(HOSTS)
    if hosts is not None and not host_names.is_unnamed(old):
        edits.put(HOSTS, host_names.without_template(hosts, Renaming(old, new)))


def rename(edits: Edits, renaming: Renaming) -> str | None:
    """Exchange the instance's old name for the new one; otherwise the answer is why the guest is left alone."""
    name = told(edits)
    if host_names.is_unnamed(name):
        return f"it has no name of its own ({shown(name) or 'nothing'} in {_place(edits)})"
    new = renaming.translated(name)
    if new is None and not renaming.is_new(name):
        return (
            f"it is called {shown(name)}, which is not the instance's old name {renaming.old}: "
            "somebody has changed that by hand"
        )
    if new is not None:
        put(edits, renaming.new if name.lower() == renaming.old.lower() else new)
    hosts = edits.text(HOSTS)
    if hosts is not None:
        edits.put(HOSTS, host_names.renamed_hosts(hosts, renaming))
    return None


def _place(edits: Edits) -> str:
    return MYNAME if edits.guest.system.family is OsFamily.OPENBSD else RcConf(edits).main
