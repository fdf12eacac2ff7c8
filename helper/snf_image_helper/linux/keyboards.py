# SPDX-License-Identifier: GPL-2.0-or-later
"""The property KEYMAP: the keyboard of the console, in the file that its distribution reads."""

from __future__ import annotations

import re

from snf_image_helper.files.edits import Edits, assigned
from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

PROPERTY = "KEYMAP"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,39}")
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_VCONSOLE = "/etc/vconsole.conf"  # vconsole.conf(5)
_DEBIAN = "/etc/default/keyboard"  # keyboard(5)
_SETUP = ("/bin/setupcon", "/usr/bin/setupcon")
_LAYOUTS = "/usr/share/X11/xkb/symbols"
_OPENRC = "/etc/conf.d/keymaps"
_ALPINE, _ALPINE_MAPS = "/etc/conf.d/loadkmap", "/usr/share/bkeymaps"
_SYSCONFIG = "/etc/sysconfig/keyboard"  # Red Hat up to 6, SUSE up to 11
_RC_CONF = "/etc/rc.conf"  # Void
_MAPS = ("/usr/share/kbd/keymaps", "/usr/lib/kbd/keymaps", "/usr/share/keymaps", "/lib/kbd/keymaps")
_MOST_DIRECTORIES = 128
_SUFFIXES = ("", ".map", ".map.gz", ".map.xz", ".map.zst")
# Names of console keymaps whose layout in X is called otherwise. Source: systemd, src/locale/kbd-model-map.
_LAYOUT = {"uk": "gb", "cf": "ca", "sg": "ch", "sf": "ch", "la": "latam", "slovene": "si", "croat": "hr", "trq": "tr"}
_VARIANTS = {"dvorak": ("us", "dvorak"), "us-acentos": ("us", "intl"), "sf": ("ch", "fr"), "colemak": ("us", "colemak")}
_ENCODINGS = frozenset({"latin1", "latin2", "latin9", "lat2", "utf8", "utf", "pc", "qwerty", "qwertz", "mac"})


def check(name: str) -> None:
    """Raises GuestError for what cannot be a keymap's name."""
    if not _NAME.fullmatch(name):
        raise GuestError(f"property {PROPERTY}: {name[:80]!r} is no keymap; write a name like us, gr or de-latin1")


def configure(edits: Edits, name: str, report: Reporter) -> None:
    """Raises GuestError when the guest does not have the keymap, or nothing in it says where its name belongs."""
    guest = edits.guest
    family = Distro.of(guest).family
    if family is Family.DEBIAN:
        _let_console_setup(edits, name, report)
    elif any(guest.is_file(path) for path in _SYSTEMD):
        _require(guest, name)
        edits.assign(_VCONSOLE, "KEYMAP", name)
    elif family is Family.ALPINE:
        _load_binary(edits, name)
    elif guest.exists(_OPENRC):
        _require(guest, name)
        edits.assign(_OPENRC, "keymap", name)
    elif family in {Family.REDHAT, Family.SUSE}:
        _require(guest, name)
        edits.assign(_SYSCONFIG, "KEYTABLE", f"{name}.map.gz" if family is Family.SUSE else name)
    elif assigned(edits.text(_RC_CONF) or "", "HARDWARECLOCK") is not None or guest.exists("/etc/runit"):
        _require(guest, name)
        edits.assign(_RC_CONF, "KEYMAP", name)
    else:
        raise GuestError(
            f"property {PROPERTY}: nothing in the guest says where its keymap belongs; create {_OPENRC} in the image "
            "or leave the property away"
        )


def layout(name: str) -> tuple[str, str]:
    """X's layout and variant for the name of a console keymap: ("de", "nodeadkeys") for de-latin1-nodeadkeys."""
    if name in _VARIANTS:
        return _VARIANTS[name]
    first, *rest = name.split("-")
    return _LAYOUT.get(first, first), "".join([word for word in rest if word not in _ENCODINGS][:1])


def _let_console_setup(edits: Edits, name: str, report: Reporter) -> None:
    guest = edits.guest
    found, variant = layout(name)
    if guest.is_dir(_LAYOUTS) and not guest.is_file(f"{_LAYOUTS}/{found}"):
        raise GuestError(f"property {PROPERTY}: the guest has no {_LAYOUTS}/{found}; correct the name")
    if not any(guest.exists(path) for path in _SETUP):
        report.warning(f"The guest has no console-setup: nothing in it reads the keymap from {_DEBIAN}")
    for variable, value in (("XKBLAYOUT", found), ("XKBVARIANT", variant)):
        edits.assign(_DEBIAN, variable, value)


def _load_binary(edits: Edits, name: str) -> None:
    """Alpine's OpenRC script loads one binary keymap, as its setup-keymap(8) puts it in place."""
    guest = edits.guest
    layouts = guest.list_directory(_ALPINE_MAPS, missing_ok=True)
    paths = [f"{_ALPINE_MAPS}/{directory}/{name}.bmap.gz" for directory in layouts[:_MOST_DIRECTORIES]]
    path = next((path for path in paths if guest.is_file(path)), None)
    if path is None:
        raise GuestError(
            f"property {PROPERTY}: the guest has no {_ALPINE_MAPS}/*/{name}.bmap.gz; install kbd-bkeymaps in it, "
            "or correct the name"
        )
    copy = f"/etc/keymap/{name}.bmap.gz"
    edits.put(copy, guest.read_text(path))
    edits.assign(_ALPINE, "KEYMAP", copy)


def _require(guest: Guest, name: str) -> None:
    """Look for the keymap where the guest has some."""
    wanted = {f"{name}{suffix}" for suffix in _SUFFIXES}
    waiting = [path for path in _MAPS if guest.is_dir(path)]
    if not waiting:
        raise GuestError(f"property {PROPERTY}: the guest has no keymaps; install kbd in the image")
    looked = 0
    while waiting and looked < _MOST_DIRECTORIES:
        directory = waiting.pop(0)
        looked += 1
        names = guest.list_directory(directory, missing_ok=True)
        if any(guest.is_file(f"{directory}/{found}") for found in wanted.intersection(names)):
            return
        # What has a dot in its name is a keymap, and asking the kernel about each of a thousand takes time.
        waiting += [
            f"{directory}/{found}" for found in names if "." not in found and guest.is_dir(f"{directory}/{found}")
        ]
    raise GuestError(f"property {PROPERTY}: the guest has no keymap {name}; correct the name")
