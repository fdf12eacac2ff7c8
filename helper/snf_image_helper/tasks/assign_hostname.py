# SPDX-License-Identifier: GPL-2.0-or-later
"""AssignHostname: the guest gets the instance's name, in the file its distribution reads and in /etc/hosts.

/etc/hostname where it exists; /etc/sysconfig/network (HOSTNAME=) on Red Hat, /etc/HOSTNAME on SUSE and Slackware,
/etc/conf.d/hostname on Gentoo, /etc/rc.conf and the 127.0.0.1 line on Arch. Under CLOUD_INIT: the seed's meta-data.
"""

from __future__ import annotations

import re

from snf_image_helper import cloud_init
from snf_image_helper.distros import Distro, Family
from snf_image_helper.guest import Guest
from snf_image_helper.host_names import (
    CAPITALS,
    CONF_D,
    HOSTNAME,
    HOSTS,
    LONGEST,
    RC_CONF,
    SYSCONFIG,
    is_host_name,
    names,
)
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")


def assign_hostname(guest: Guest, job: Job, report: Reporter) -> None:
    """A fully qualified name stays one, unless Linux could not hold it. Raises GuestError when no file takes it."""
    name = job.hostname.removesuffix(".")
    if not is_host_name(name):
        raise GuestError(f"the host name {name[:80]!r} is no host name; use letters, digits, dots and inner hyphens")
    if job.wishes.flag("CLOUD_INIT"):
        cloud_init.add_meta_data(guest, {cloud_init.NAME: name})
        return
    if len(name) > LONGEST:
        name = name.partition(".")[0]
        report.warning(f"The instance name is longer than {LONGEST} characters; the guest is called {name}")
    family = Distro.of(guest).family
    _write_name(guest, family, name)
    hosts = guest.read_text(HOSTS, missing_ok=True)
    if hosts is not None:
        changed = change_hosts(hosts, name)
        if family is Family.ARCH:
            changed = add_to_loopback(changed, name)
        if changed != hosts:
            guest.write_text(HOSTS, changed)


def change_hosts(hosts: str, name: str) -> str:
    """The file with each existing 127.0.1.1 line naming the host; none is added."""
    return re.sub(r"^127\.0\.1\.1(?=\s).*$", f"127.0.1.1\t{' '.join(names(name))}", hosts, flags=re.MULTILINE)


def add_to_loopback(hosts: str, name: str) -> str:
    """The file with the name among those of 127.0.0.1, as Arch wants it."""
    lines = hosts.split("\n")
    for number, line in enumerate(lines):
        words = line.partition("#")[0].split()
        if words and words[0] == "127.0.0.1":
            missing = [word for word in names(name) if word not in words]
            if missing:
                lines[number] = "127.0.0.1\t" + " ".join((*words[1:], *missing))
            break
    return "\n".join(lines)


def change_assignment(text: str, variable: str, value: str) -> str:
    """The shell-style file with every assignment of `variable` replaced; none is added."""
    return re.sub(rf"^([ \t]*){variable}=.*$", rf'\g<1>{variable}="{value}"', text, flags=re.MULTILINE)


def _write_name(guest: Guest, family: Family, name: str) -> None:
    written = _replace_assignments(guest, family, name)
    suse = family is Family.SUSE and (guest.exists(CAPITALS) or not guest.exists(HOSTNAME))
    if suse or family is Family.SLACKWARE:
        guest.write_text(CAPITALS, f"{name}\n")
        written = True
    missing = suse or not written
    if guest.exists(HOSTNAME) or family is Family.COREOS or (missing and _reads_hostname(guest, family)):
        guest.write_text(HOSTNAME, f"{name}\n")
        written = True
    if not written:
        raise GuestError(f"nothing in the guest says where its host name belongs; create {HOSTNAME} in the image")


def _reads_hostname(guest: Guest, family: Family) -> bool:
    return family in {Family.DEBIAN, Family.ALPINE, Family.ARCH} or any(guest.exists(path) for path in _SYSTEMD)


def _replace_assignments(guest: Guest, family: Family, name: str) -> bool:
    """Whether one of the older files had a line for the name."""
    found = False
    for where, path, variable in (
        (Family.REDHAT, SYSCONFIG, "HOSTNAME"),
        (Family.GENTOO, CONF_D, "hostname"),
        (Family.ARCH, RC_CONF, "HOSTNAME"),
    ):
        text = guest.read_text(path, missing_ok=True) if where is family else None
        if text is not None and re.search(rf"^[ \t]*{variable}=", text, re.MULTILINE):
            guest.write_text(path, change_assignment(text, variable, name))
            found = True
    return found


TASK: Task[Guest] = Task(
    "AssignHostname",
    assign_hostname,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "InitializeDatasource"),
    decides="in the files of its distribution",
)
