# SPDX-License-Identifier: GPL-2.0-or-later
"""The property LOCALE: the language of the system, in the file that its distribution reads."""

from __future__ import annotations

import re
import struct

from snf_image_helper.files.edits import Edits, assigned
from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

PROPERTY = "LOCALE"
_NAME = re.compile(r"(?:C|POSIX|[a-z]{2,3}_[A-Z]{2})(?:\.([A-Za-z0-9-]{1,20}))?(?:@[a-z]{1,20})?")
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_LOCALE_CONF = "/etc/locale.conf"  # locale.conf(5)
_DEBIAN = "/etc/default/locale"
_I18N = "/etc/sysconfig/i18n"  # Red Hat up to 6
_SUSE = "/etc/sysconfig/language"
_GENTOO, _GENTOO_PROFILE = "/etc/env.d/02locale", "/etc/profile.env"  # env-update(1) makes the second from the first
_SLACKWARE = "/etc/profile.d/lang.sh"
_ALPINE = "/etc/profile.d/00-snf-image-locale.sh"  # its own 20locale.sh only sets what is not set
_GENERATED = "/usr/lib/locale"
_TO_GENERATE = "/etc/locale.gen"
# struct locarhead of glibc's locarchive.h: magic, serial, three words of the name hash, offset and length of the names
_ARCHIVE_HEAD = struct.Struct("<7I")
_ARCHIVE_MAGIC = 0xDE020109
_ARCHIVE_LOOK = 1 << 20  # bytes of the archive in which the names are: it begins with them, and may be very large


def check(name: str) -> None:
    """Raises GuestError for what cannot be a locale's name."""
    if not _NAME.fullmatch(name):
        raise GuestError(f"property {PROPERTY}: {name[:80]!r} is no locale; write one like el_GR.UTF-8 or C.UTF-8")


def configure(edits: Edits, name: str, report: Reporter) -> None:
    """Raises GuestError when nothing in the guest says where its language belongs."""
    guest = edits.guest
    family = Distro.of(guest).family
    if family is Family.ALPINE:
        edits.put(_ALPINE, f"# Written by snf-image.\nexport LANG={name}\n")
        return
    path = _place(guest, family)
    if path == _SLACKWARE and assigned(edits.text(path) or "", "LANG") is None:
        edits.put(path, f"{edits.text(path) or '#!/bin/sh'}\nexport LANG={name}\n")
    edits.assign(path, "LANG", name)
    if assigned(edits.text(_SUSE) or "", "RC_LANG") is not None:
        edits.assign(_SUSE, "RC_LANG", name)
    if path == _GENTOO and (profile := edits.text(_GENTOO_PROFILE)) is not None:
        others = [line for line in profile.split("\n") if line and not line.startswith("export LANG=")]
        edits.put(_GENTOO_PROFILE, "\n".join((*others, f"export LANG='{name}'", "")))
    if not _is_generated(guest, name):
        _let_generate(edits, name)
        report.warning(
            f"The guest has not generated the locale {name}: until locale-gen, or what its system has for that, is run "
            "in it, programs speak English"
        )


def _place(guest: Guest, family: Family) -> str:
    has_systemd = any(guest.is_file(path) for path in _SYSTEMD)
    if family is Family.DEBIAN or (family is Family.UNKNOWN and guest.exists(_DEBIAN)):
        return _DEBIAN
    if has_systemd or guest.exists(_LOCALE_CONF):
        return _LOCALE_CONF
    old = {
        Family.REDHAT: _I18N,
        Family.SUSE: _SUSE,
        Family.GENTOO: _GENTOO,
        Family.SLACKWARE: _SLACKWARE,
    }
    if family not in old:
        raise GuestError(
            f"property {PROPERTY}: nothing in the guest says where its language belongs; create {_LOCALE_CONF} in the "
            "image or leave the property away"
        )
    return old[family]


def _is_generated(guest: Guest, name: str) -> bool:
    """Whether glibc will find the locale; its names have codesets in small letters and without hyphens."""
    codeset = _codeset(name)
    if name.startswith(("C", "POSIX")):
        return True
    wanted = name if codeset is None else name.replace(f".{codeset}", "." + codeset.lower().replace("-", ""))
    if guest.is_dir(f"{_GENERATED}/{wanted}") or guest.is_dir(f"{_GENERATED}/{name}"):
        return True
    archive = f"{_GENERATED}/locale-archive"
    return guest.is_file(archive) and wanted.encode() in _names(guest.head(archive, _ARCHIVE_LOOK))


def _names(archive: bytes) -> frozenset[bytes]:
    if len(archive) < _ARCHIVE_HEAD.size:
        return frozenset()
    magic, _, _, _, _, offset, used = _ARCHIVE_HEAD.unpack_from(archive)
    return frozenset(archive[offset : offset + used].split(b"\0")) if magic == _ARCHIVE_MAGIC else frozenset()


def _let_generate(edits: Edits, name: str) -> None:
    """Debian, Arch and Gentoo list in a file what locale-gen(8) makes."""
    text = edits.text(_TO_GENERATE)
    codeset = _codeset(name)
    if text is None or codeset is None:
        return
    wanted = f"{name} {codeset}"
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.removeprefix("#").strip() == wanted:
            lines[number] = wanted
            break
    else:
        lines[-1:] = [*filter(None, lines[-1:]), wanted, ""]
    edits.put(_TO_GENERATE, "\n".join(lines))


def _codeset(name: str) -> str | None:
    found = _NAME.fullmatch(name)
    return found[1] if found else None
