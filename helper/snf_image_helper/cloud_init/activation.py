# SPDX-License-Identifier: GPL-2.0-or-later
"""What of an image keeps its cloud-init from running, from our seed or from our settings, and goes out of the way.

An image with CLOUD_INIT set is to be configured by cloud-init, also when its template was switched off after its own
first boot, as Ubuntu's installer does. Nothing is lost: files are renamed, lines become comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from snf_image_helper import cloud_init, fstab
from snf_image_helper.fstab import printable
from snf_image_helper.guest import Guest
from snf_image_helper.linux.services import has_systemd, is_enabled
from snf_image_helper.reporter import Reporter

_BACKUP = ".snf-image-bak"
_MARKER = "/etc/cloud/cloud-init.disabled"
_DS_IDENTIFY = "/etc/cloud/ds-identify.cfg"
_UNITS = "/etc/systemd/system"
_MASKABLE = (
    *(f"cloud-init{part}.service" for part in ("", "-main", "-local", "-network")),
    *("cloud-config.service", "cloud-final.service", "cloud-init.target", "cloud-config.target"),
)
_FIRST_UNIT = "cloud-init-local.service"  # of every release
_UNIT_PLACES = ("/usr/lib/systemd/system", "/lib/systemd/system")
_KERNEL_ARGUMENTS = ("/etc/default/grub", "/etc/kernel/cmdline", "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
_BOOT_ENTRIES = "/boot/loader/entries"
_RUNLEVELS = "/etc/runlevels"
_COMMENT = "# snf-image: "
_SEED_FROM = re.compile(r"""^[^#\n]{0,200}\bseedfrom["']?[ \t]*:""", re.MULTILINE)


def activate(guest: Guest, report: Reporter) -> None:
    """Remove what would keep cloud-init from running, each with a warning; what cannot be removed is told."""
    if guest.exists(_MARKER):
        _retire(guest, _MARKER, report, "it switches cloud-init off")
    if _misleads(guest.read_text(_DS_IDENTIFY, missing_ok=True) or ""):
        _retire(guest, _DS_IDENTIFY, report, "it switches cloud-init off, or names another data source")
    for unit in _MASKABLE:
        if guest.link_target(f"{_UNITS}/{unit}") == "/dev/null":
            guest.remove(f"{_UNITS}/{unit}")
            report.warning(f"{_UNITS}/{unit} masked a part of cloud-init and is removed: CLOUD_INIT is set")
    for problem in _problems(guest):
        report.warning(f"{problem}: the instance may come up without its name, users and network")


def pin_seed(guest: Guest, ours: str, report: Reporter) -> None:
    """Let no drop-in after `ours` name data sources, and no file another place of the seed."""
    files = cloud_init.image_settings(guest)
    override(
        guest, "datasource_list", [path for path in files if path.rpartition("/")[2] > ours and ".d/" in path], report
    )
    override(guest, "datasource", [path for path in files if _SEED_FROM.search(guest.read_text(path))], report)


def override(guest: Guest, key: str, paths: Iterable[str], report: Reporter) -> None:
    """Make comments of a top-level key in these files of the image's settings."""
    for path in paths:
        text = guest.read_text(path)
        changed = commented(text, key)
        if changed != text:
            guest.write_text(path, changed)
            report.warning(f"{printable(path)}: {key} is commented out, it would override what CLOUD_INIT asks for")


def commented(text: str, key: str) -> str:
    """A YAML document in which the lines of a top-level key, and of what belongs to it, have become comments."""
    lines, inside = [], False
    for line in text.split("\n"):
        if re.match(rf"['\"]?{key}['\"]?[ \t]*:", line):
            inside = True
        elif inside and re.match(r"['\"]?\w[\w .-]{0,100}['\"]?[ \t]*:|---|\.\.\.", line):
            inside = False
        lines.append(_COMMENT + line if inside and line and not line.startswith("#") else line)
    return "\n".join(lines)


def _misleads(text: str) -> bool:
    """Whether ds-identify.cfg turns cloud-init off, or away from NoCloud (tools/ds-identify, read_config)."""
    for line in text.split("\n"):
        key, _, value = line.partition("#")[0].partition(":")
        word = value.strip().strip("'\"")
        if key.strip() == "datasource" and word not in {"", "NoCloud"}:
            return True
        if key.strip() == "policy" and "disabled" in word.split(","):
            return True
    return False


def _problems(guest: Guest) -> Iterator[str]:
    entries = guest.list_directory(_BOOT_ENTRIES, missing_ok=True)
    for path in (*_KERNEL_ARGUMENTS, *(f"{_BOOT_ENTRIES}/{name}" for name in entries if name.endswith(".conf"))):
        if guest.is_file(path) and "cloud-init=disabled" in guest.read_text(path):
            yield f"{printable(path)} has the kernel argument cloud-init=disabled, remove it in the image"
    if _is_in_settings(guest, "cloud_final_modules") and not _is_in_settings(guest, "scripts[-_]per[-_]once"):
        yield "cloud-init's settings lack the module scripts-per-once, so passwords stay in /etc/cloud"
    levels = guest.list_directory(_RUNLEVELS, missing_ok=True)
    if has_systemd(guest):
        installed = any(guest.exists(f"{place}/{_FIRST_UNIT}") for place in _UNIT_PLACES)
        if installed and not is_enabled(guest, _FIRST_UNIT):
            yield f"systemd does not start {_FIRST_UNIT}, enable cloud-init's units in the image"
    elif levels and not any(guest.exists(f"{_RUNLEVELS}/{level}/cloud-init") for level in levels):
        yield "cloud-init is in no runlevel of OpenRC, run setup-cloud-init in the image"
    yield from _hidden_state(guest)


def _is_in_settings(guest: Guest, pattern: str) -> bool:
    return any(re.search(pattern, guest.read_text(path)) for path in cloud_init.image_settings(guest))


def _hidden_state(guest: Guest) -> Iterator[str]:
    """The seed lies on the root where /var is a file system of its own that could not be mounted here."""
    wanted, _ = fstab.local_mounts(fstab.parse(guest.read_text(fstab.FSTAB, missing_ok=True) or "")[0])
    state = cloud_init.state_directory(guest)
    for entry in wanted:
        place = "/" + "/".join(entry.place)
        if guest.mounts and place not in guest.mounts and f"{state}/".startswith(f"{place}/"):
            yield f"{printable(place)} is not mounted and will hide {state}, where cloud-init reads its seed"


def _retire(guest: Guest, path: str, report: Reporter, reason: str) -> None:
    guest.rename(path, path + _BACKUP)
    report.warning(f"{path} is renamed to {path}{_BACKUP}, {reason}: CLOUD_INIT is set")
