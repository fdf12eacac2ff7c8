# SPDX-License-Identifier: GPL-2.0-or-later
"""What configurations still say of the disk that an archive was made from: its root, its swap, its volumes.

Only arguments of kernels are looked at, word by word: before the guest's tools make a menu of them, and in what they
have made, because they name the root by its device where no udev runs.
"""

from __future__ import annotations

import re

from snf_image_helper.boot_loaders.starting import Start
from snf_image_helper.files.edits import Edits, assign, assigned
from snf_image_helper.linux.kernel_arguments import bare, split

_MENUS = (
    *("/boot/grub/menu.lst", "/boot/grub/grub.conf"),
    *("/boot/extlinux.conf", "/boot/extlinux/extlinux.conf", "/boot/extlinux/linux.cfg", "/extlinux.conf"),
    *("/boot/syslinux/syslinux.cfg", "/boot/syslinux/extlinux.conf"),
)
_ENTRIES = ("/boot/loader/entries", "/boot/efi/loader/entries", "/efi/loader/entries")
_COMMAND_LINES = ("/etc/kernel/cmdline", "/etc/cmdline")
_SETTINGS = "/etc/default/grub"
_SETTINGS_FOLDER = "/etc/default/grub.d"
_ASSIGNMENTS = re.compile(r"""^(GRUB_CMDLINE_LINUX\w*=)(["'])(.*)\2[ \t]*$""")
_ROOT_PARTITION = "GRUB_FORCE_PARTUUID"  # Ubuntu's cloud images, which first try to start without initial RAM disk
_ALPINE = "/etc/update-extlinux.conf"
_DEBIANS_EXTLINUX = "/etc/default/extlinux"
_RESUMES = ("/etc/initramfs-tools/conf.d/resume", "/etc/initramfs-tools/initramfs.conf")
_GRUB_MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
_OPTIONS = re.compile(r"""^([ \t]*set kernelopts=")(.*)"[ \t]*$""")
_DEVICE_MAPS = ("/boot/grub/device.map", "/boot/grub2/device.map")
_ENVIRONMENTS = ("/boot/grub/grubenv", "/boot/grub2/grubenv")
_BLOCK = 1024  # bytes of an environment block: grub/lib/envblk.h
# Volumes, arrays and encryption that are not on this disk: dracut would wait for each of them.
_GONE = ("rd.lvm.lv=", "rd.lvm.vg=", "rd.luks.uuid=", "rd.luks.name=", "luks.uuid=", "rd.md.uuid=", "cryptdevice=")
_NO_RESUME = "none"
_MOST = 64


def rewritten(tokens: list[str], start: Start) -> list[str]:
    """Words of a kernel's command line, with the root and the swap of this disk in the place of another's."""
    found = []
    for token in tokens:
        word = bare(token)
        key, _, value = word.partition("=")
        if key == "root" and value and not value.startswith("$"):
            is_right = start.partition and value == f"PARTUUID={start.partition}"
            found.append(token if is_right else start.root_argument)
        elif key == "rootfstype" and value:
            found.append(f"rootfstype={start.root.type}")
        elif key in {"resume", "resume_offset"} and value:
            found += [f"resume=UUID={start.swap}"] if key == "resume" and start.swap else []
        elif key == "rootflags":
            found += _without_subvolumes(value)
        elif not word.startswith(_GONE):
            found.append(token)
    return found


def forget_former_disk(edits: Edits, start: Start) -> bool:
    """Change what names it; whether the initial RAM disks were made to wait for its swap. Raises GuestError."""
    guest = edits.guest
    for path in _COMMAND_LINES:
        _change_lines(edits, path, start, ("",))
    for path in _MENUS:
        if not guest.is_link(path):
            _change_lines(edits, path, start, ("kernel", "append", "options", "# kopt="))
    for directory in _ENTRIES:
        names = [name for name in guest.list_directory(directory, missing_ok=True) if name.endswith(".conf")]
        for name in names[:_MOST]:
            _change_entry(edits, f"{directory}/{name}", start)
    folder = [f"{_SETTINGS_FOLDER}/{name}" for name in guest.list_directory(_SETTINGS_FOLDER, missing_ok=True)[:_MOST]]
    for path in (_SETTINGS, *folder):
        _change_settings(edits, path, start)
    for path in _ENVIRONMENTS:
        _change_environment(edits, path, start)
    for path in _GRUB_MENUS:
        _change_lines(edits, path, start, ("linux",))
    _change_assigned(edits, start)
    for path in _DEVICE_MAPS:
        guest.remove(path, missing_ok=True)
    return _change_resume(edits, start)


def name_root(edits: Edits, start: Start) -> None:
    """Let GRUB's menus name the root by its UUID where they have its device, which the guest may call otherwise."""
    for path in _GRUB_MENUS:
        text = _text(edits, path)
        if text is not None:
            edits.put(path, re.sub(rf"(?<=\s)root={re.escape(start.root.device)}(?=\s)", start.root_argument, text))


def _without_subvolumes(flags: str) -> list[str]:
    """The new file systems have no subvolumes; journal options and the like are kept."""
    kept = [flag for flag in flags.split(",") if flag and not flag.startswith(("subvol=", "subvolid="))]
    return [f"rootflags={','.join(kept)}"] if kept else []


def _text(edits: Edits, path: str) -> str | None:
    return edits.text(path) if edits.guest.is_file(path) else None


def _change_lines(edits: Edits, path: str, start: Start, keys: tuple[str, ...]) -> None:
    """Lines that begin with one of the keys, in whatever case; with "" all of them."""
    text = _text(edits, path)
    if text is None:
        return
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if options := _OPTIONS.match(line):
            lines[number] = f'{options[1]}{_joined("", options[2], start)}"'
        elif line.strip().lower().startswith(keys):
            indent = line[: len(line) - len(line.lstrip())]
            lines[number] = _joined(indent, line.strip(), start)
    edits.put(path, "\n".join(lines))


def _joined(head: str, text: str, start: Start) -> str:
    tokens = split(text)
    found = rewritten(tokens, start)
    return head + (text if found == tokens else " ".join(found))


def _change_entry(edits: Edits, path: str, start: Start) -> None:
    """An entry of the Boot Loader Specification; its kernel's path begins at the top of the file system it is on."""
    lines = (_text(edits, path) or "").split("\n")
    for number, line in enumerate(lines):
        key, _, value = line.strip().partition(" ")
        value = value.strip()
        if key == "options":
            lines[number] = _joined("options ", value, start)
        elif key in {"linux", "initrd"} and path.startswith("/boot/loader/"):
            file, blank, rest = value.partition(" ")
            inside = f"/boot{file}" if not file.startswith("/boot/") else file
            if edits.guest.is_file(inside):
                lines[number] = f"{key} {start.in_boot(inside)}{blank}{rest}"
    if lines != [""]:
        edits.put(path, "\n".join(lines))


def _change_settings(edits: Edits, path: str, start: Start) -> None:
    text = _text(edits, path)
    if text is None:
        return
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if match := _ASSIGNMENTS.match(line):
            lines[number] = f"{match[1]}{match[2]}{_joined('', match[3], start)}{match[2]}"
        elif line.startswith(f"{_ROOT_PARTITION}="):
            lines[number] = f"{_ROOT_PARTITION}={start.partition}"
    edits.put(path, "\n".join(lines))


def _change_environment(edits: Edits, path: str, start: Start) -> None:
    text = _text(edits, path)
    if text is None or "\nkernelopts=" not in text:
        return
    lines = text.rstrip("#").split("\n")
    for number, line in enumerate(lines):
        if line.startswith("kernelopts="):
            lines[number] = _joined("kernelopts=", line.removeprefix("kernelopts="), start)
    block = "\n".join(lines)
    if len(block.encode("utf-8", "surrogateescape")) <= _BLOCK:
        edits.put(path, block.ljust(_BLOCK, "#"))


def _change_assigned(edits: Edits, start: Start) -> None:
    for path, name in ((_ALPINE, "default_kernel_opts"), (_DEBIANS_EXTLINUX, "EXTLINUX_PARAMETERS")):
        text = _text(edits, path)
        value = assigned(text or "", name)
        if text is not None and value is not None and not set(value) & set("$`\\"):
            edits.put(path, assign(text, name, _joined("", value, start)))
    text = _text(edits, _ALPINE)
    if text is not None:
        text = assign(text, "root", f"UUID={start.root.uuid}")
        modules = [word for word in (assigned(text, "modules") or "").split(",") if word]
        if modules and start.root.type not in modules:
            text = assign(text, "modules", ",".join((*modules, start.root.type)))
        edits.put(_ALPINE, text)


def _change_resume(edits: Edits, start: Start) -> bool:
    changed = False
    wanted = f"UUID={start.swap}" if start.swap else _NO_RESUME
    for path in _RESUMES:
        text = _text(edits, path)
        named = assigned(text or "", "RESUME")
        if text is not None and named not in {None, "", "auto", _NO_RESUME, wanted}:
            edits.put(path, assign(text, "RESUME", wanted))
            changed = True
    return changed
