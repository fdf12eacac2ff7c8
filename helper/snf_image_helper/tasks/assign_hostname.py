# SPDX-License-Identifier: GPL-2.0-or-later
"""AssignHostname: the guest gets the instance's name, in the files its distribution reads and in /etc/hosts.

/etc/hostname where it exists; /etc/sysconfig/network (HOSTNAME=) on Red Hat, /etc/HOSTNAME on SUSE and Slackware,
/etc/conf.d/hostname on Gentoo, /etc/rc.conf on Arch of old. The template's name goes from /etc/hosts, /etc/mailname and
/etc/machine-info. Under CLOUD_INIT the name is in the seed's meta-data; without it cloud-init is told to leave the
guest's name alone, for one without a seed would cut the domain off (DataSource.get_hostname, cc_set_hostname).
"""

from __future__ import annotations

import re

from snf_image_helper import cloud_init
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux import host_names
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.linux.host_names import CAPITALS, CONF_D, HOSTNAME, HOSTS, LONGEST, RC_CONF, SYSCONFIG, Renaming
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

PROPERTY = "HOSTNAME_POLICY"
_POLICIES = ("fqdn", "short", "family")
# What instance-image called by its short name: the others are told the whole of it.
_SHORT = frozenset({Family.DEBIAN, Family.GENTOO})
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_DROP_IN = "50AssignHostname"
# Without systemd nothing but /etc/hosts knows a guest's own name: their manuals put it on the loopback line.
_NAMED_BY_HOSTS = frozenset({Family.ARCH, Family.ALPINE, Family.GENTOO, Family.SLACKWARE, Family.VOID})
_MACHINE_INFO = "/etc/machine-info"


def assign_hostname(guest: Guest, job: Job, report: Reporter) -> None:
    """A fully qualified name stays one, unless HOSTNAME_POLICY takes the domain off or Linux could not hold it.

    All files are written or none. Raises GuestError when no file takes the name.
    """
    full = full_name(job)
    distro, edits = Distro.of(guest), Edits(guest)
    if job.wishes.flag("CLOUD_INIT"):
        _leave_to_cloud_init(guest, full, hostname_policy(job))
        # Unless manage_etc_hosts is set, cloud-init leaves the template's name there.
        _forget_template(edits, distro.family, full)
        _put_hosts(edits, distro.family, full)
        edits.apply()
        return
    name = host_name(job, report, distro.family)
    if distro.name == "nixos":
        report.warning("NixOS makes /etc anew at every boot: set networking.hostName in its configuration")
        return
    _forget_template(edits, distro.family, full)
    _put_name(edits, distro.family, name)
    _put_hosts(edits, distro.family, full)
    edits.apply()
    if guest.is_dir("/etc/cloud/cloud.cfg.d"):
        cloud_init.write_configuration(guest, _DROP_IN, {"preserve_hostname": True})


def host_name(job: Job, report: Reporter, family: Family | None = None) -> str:
    """What Linux is to be told as its name. Raises GuestError for what is no host name."""
    full, policy = full_name(job), hostname_policy(job)
    is_short = policy == "short" or (policy == "family" and family in _SHORT)
    name = host_names.short(full) if is_short else full
    if len(name) > LONGEST:
        name = host_names.short(full)
        report.warning(f"The instance name is longer than {LONGEST} characters; the guest is called {name}")
    return name


def change_hosts(hosts: str, name: str) -> str:
    """The file with each existing 127.0.1.1 line naming the host; none is added."""
    line = f"127.0.1.1\t{' '.join(host_names.names(name))}"
    return re.sub(r"^127\.0\.1\.1(?=\s).*$", line, hosts, flags=re.MULTILINE)


def add_to_loopback(hosts: str, name: str) -> str:
    """The file with the name among those of 127.0.0.1, unless another line has it."""
    lines = hosts.split("\n")
    words = [line.partition("#")[0].split() for line in lines]
    missing = [word for word in host_names.names(name) if not any(word in found[1:] for found in words)]
    number = next((number for number, found in enumerate(words) if found[:1] == ["127.0.0.1"]), None)
    if number is not None and missing:
        lines[number] = "127.0.0.1\t" + " ".join((*words[number][1:], *missing))
    return "\n".join(lines)


def change_assignment(text: str, variable: str, value: str) -> str:
    """The shell-style file with every assignment of `variable` replaced; none is added."""
    return re.sub(rf"^([ \t]*){variable}=.*$", rf'\g<1>{variable}="{value}"', text, flags=re.MULTILINE)


def full_name(job: Job) -> str:
    """The instance's name. Raises GuestError for what is no host name."""
    full = job.hostname.removesuffix(".")
    if not host_names.is_host_name(full):
        raise GuestError(f"the host name {full[:80]!r} is no host name; use letters, digits, dots and inner hyphens")
    return full


def hostname_policy(job: Job) -> str | None:
    """None when it is not given. Raises GuestError for a word that nobody knows."""
    word = (job.wishes.text(PROPERTY) or "").strip().lower()
    if word and word not in _POLICIES:
        raise GuestError(f"property {PROPERTY}: {word[:40]!r} is none of {', '.join(_POLICIES)}")
    return word or None


def _leave_to_cloud_init(guest: Guest, name: str, policy: str | None) -> None:
    cloud_init.add_meta_data(guest, {cloud_init.NAME: name})
    members: dict[str, cloud_init.Json] = {"preserve_hostname": False}
    if policy in {"fqdn", "short"}:  # each distribution has its own default
        members["prefer_fqdn_over_hostname"] = policy == "fqdn"
    cloud_init.write_configuration(guest, _DROP_IN, members)


def _forget_template(edits: Edits, family: Family, new: str) -> None:
    """Exchange the name that the template tells, wherever it is told besides."""
    told = [place.name(edits.text(place.path) or "") for place in host_names.places(family)]
    old = next((name for name in told if not host_names.is_unnamed(name)), "")
    if old:
        renaming = Renaming(old, new)
        for path, changed in (
            (HOSTS, host_names.without_template(edits.text(HOSTS) or "", renaming)),
            (host_names.MAILNAME, host_names.MAIL.renamed(edits.text(host_names.MAILNAME) or "", renaming)),
        ):
            if edits.text(path) is not None:
                edits.put(path, changed)
    described = edits.text(_MACHINE_INFO)
    if described is not None:
        edits.put(_MACHINE_INFO, re.sub(r"^[ \t]*PRETTY_HOSTNAME=.*\n?", "", described, flags=re.MULTILINE))


def _put_name(edits: Edits, family: Family, name: str) -> None:
    guest = edits.guest
    written = _replace_assignments(edits, family, name)
    suse = family is Family.SUSE and (guest.exists(CAPITALS) or not guest.exists(HOSTNAME))
    if suse or family is Family.SLACKWARE:
        edits.put(CAPITALS, f"{name}\n")
        written = True
    missing = suse or not written
    if guest.exists(HOSTNAME) or family is Family.COREOS or (missing and _reads_hostname(guest, family)):
        edits.put(HOSTNAME, f"{name}\n")
        written = True
    if not written:
        raise GuestError(f"nothing in the guest says where its host name belongs; create {HOSTNAME} in the image")


def _put_hosts(edits: Edits, family: Family, name: str) -> None:
    hosts = edits.text(HOSTS)
    if hosts is not None:
        changed = change_hosts(hosts, name)
        edits.put(HOSTS, add_to_loopback(changed, name) if family in _NAMED_BY_HOSTS else changed)


def _reads_hostname(guest: Guest, family: Family) -> bool:
    return family in {Family.DEBIAN, Family.ALPINE, Family.ARCH} or any(guest.exists(path) for path in _SYSTEMD)


def _replace_assignments(edits: Edits, family: Family, name: str) -> bool:
    """Whether one of the older files had a line for the name."""
    found = False
    for where, path, variable in (
        (Family.REDHAT, SYSCONFIG, "HOSTNAME"),
        (Family.GENTOO, CONF_D, "hostname"),
        (Family.ARCH, RC_CONF, "HOSTNAME"),
    ):
        text = edits.text(path) if where is family else None
        if text is not None and re.search(rf"^[ \t]*{variable}=", text, re.MULTILINE):
            edits.put(path, change_assignment(text, variable, name))
            found = True
    return found


def _skip(job: Job) -> str | None:
    hostname_policy(job)
    return None


TASK: Task[Guest] = Task(
    "AssignHostname",
    assign_hostname,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "InitializeDatasource"),
    skip=_skip,
    decides="in the files of its distribution",
)
