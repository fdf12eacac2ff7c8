# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB 2: the settings that grub-mkconfig reads, the grub.cfg it made of them, and the environment block."""

from __future__ import annotations

from snf_image_helper.boot_loaders.places import vendor_directories
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.kernel_arguments import (
    Arguments,
    changed,
    changed_value,
    for_grub,
    for_grub_entry,
)
from snf_image_shared.errors import GuestError

_SETTINGS = "/etc/default/grub"
_DROP_IN = "/etc/default/grub.d/zz-snf-image.cfg"
_MAKERS = ("/usr/sbin/grub-mkconfig", "/usr/sbin/grub2-mkconfig")
_READS_DROP_INS = "/default/grub.d"  # Debian's patch to grub-mkconfig
_DEFAULT, _ALL = "GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_CMDLINE_LINUX"
_DIRECTORIES = ("/boot/grub", "/boot/grub2")
_KERNELS = frozenset({"linux", "linux16", "linuxefi"})
_HEADER_END = "### END /etc/grub.d/00_header ###"
# As grub-mkconfig 2.12 makes of GRUB_TERMINAL="console serial", but every keyboard stays. The menu's picture goes:
# where there is no screen GRUB waits for the next one for ever (grub-core/video/i386/pc/vga.c).
_TERMINALS = ("terminal_input --append serial", "terminal_output console serial")
_NO_PICTURE = "GRUB_GFXPAYLOAD_LINUX=text"
# grub/lib/envblk.h: a block of this size, filled up with #, that GRUB writes back in its place
_BLOCK, _BLOCK_HEAD = 1024, "# GRUB Environment Block\n"
_OPTIONS = "kernelopts="  # Red Hat's from 8 on: what the entries of the Boot Loader Specification refer to


def edit(edits: Edits, wanted: Arguments) -> bool:
    """Whether there is a menu with kernels, or an environment with their arguments. Raises GuestError."""
    found = False
    for directory in directories(edits.guest):
        found |= _edit_menu(edits, f"{directory}/grub.cfg", wanted)
        found |= _edit_environment(edits, f"{directory}/grubenv", wanted)
    _edit_settings(edits, wanted)
    return found


def directories(guest: Guest) -> tuple[str, ...]:
    """Where a grub.cfg may be."""
    return (*_DIRECTORIES, *vendor_directories(guest))


def has_options(edits: Edits) -> bool:
    """Whether $kernelopts means something."""
    menus = ((edits.text(f"{directory}/grub.cfg") or "") for directory in directories(edits.guest))
    blocks = ((edits.text(f"{directory}/grubenv") or "") for directory in directories(edits.guest))
    return any(f"set {_OPTIONS}" in menu for menu in menus) or any(f"\n{_OPTIONS}" in block for block in blocks)


def _edit_menu(edits: Edits, path: str, wanted: Arguments) -> bool:
    text = edits.text(path)
    if text is None:
        return False
    lines = text.split("\n")
    found = False
    for number, line in enumerate(lines):
        words = line.split(None, 2)
        if len(words) > 1 and words[0] in _KERNELS and "memtest" not in words[1]:
            lines[number] = changed(line, 2, wanted, for_grub)
            found = True
        elif (
            len(words) > 1 and words[0] == "set" and words[1].startswith(f'{_OPTIONS}"') and line.rstrip().endswith('"')
        ):
            head, _, value = line.rstrip().removesuffix('"').partition('"')
            lines[number] = f'{head}"{_quoted(changed_value(value, wanted, for_grub_entry))}"'
            found = True
    if wanted.serial and _HEADER_END in lines and not any(line.startswith("serial ") for line in lines):
        lines[lines.index(_HEADER_END) : lines.index(_HEADER_END)] = (_serial(wanted), *_TERMINALS)
    edits.put(path, "\n".join(lines))
    return found


def _quoted(text: str) -> str:
    return text.replace('"', "'")


def _edit_environment(edits: Edits, path: str, wanted: Arguments) -> bool:
    text = edits.text(path)
    if text is None or not text.startswith(_BLOCK_HEAD):
        return False
    lines = text.rstrip("#").split("\n")
    numbers = [number for number, line in enumerate(lines) if line.startswith(_OPTIONS)]
    for number in numbers:
        value = changed_value(lines[number].removeprefix(_OPTIONS), wanted, for_grub_entry)
        lines[number] = _OPTIONS + value
    if not numbers:
        return False
    block = "\n".join(lines)
    length = len(block.encode("utf-8", "surrogateescape"))
    if length > _BLOCK:
        raise GuestError(f"{path}: has no room for more kernel arguments, it can hold {_BLOCK} bytes; ask for less")
    edits.put(path, block + "#" * (_BLOCK - length))
    return True


def _edit_settings(edits: Edits, wanted: Arguments) -> None:
    """What is generated later is to have the same. The arguments of the default come last, so the console is there."""
    text = edits.text(_SETTINGS)
    if text is None:
        return
    if _reads_drop_ins(edits.guest):
        lines = [f'{_DEFAULT}="${_DEFAULT} {_merged_in_shell("", wanted)}"']
        lines += _terminal_settings(edits.guest, wanted) if wanted.serial else []
        edits.put(_DROP_IN, "\n".join(("# Written by snf-image.", *lines, "")))
        return
    lines = text.split("\n")
    name = _DEFAULT if any(line.startswith(f"{_DEFAULT}=") for line in lines) else _ALL
    last = max((number for number, line in enumerate(lines) if line.startswith(f"{name}=")), default=None)
    if last is None:
        lines[-1:] = [*filter(None, lines[-1:]), f'{name}=""', ""]
        last = len(lines) - 2
    lines[last] = _changed_assignment(lines[last], name, wanted)
    if wanted.serial:
        missing = [line for line in _terminal_settings(edits.guest, wanted) if line not in lines]
        lines[-1:] = [*filter(None, lines[-1:]), *missing, ""]
    edits.put(_SETTINGS, "\n".join(lines))


def _terminal_settings(guest: Guest, wanted: Arguments) -> tuple[str, ...]:
    picture = () if any(place in guest.mounts for place in ("/boot/efi", "/efi")) else (_NO_PICTURE,)
    return ('GRUB_TERMINAL="console serial"', f'GRUB_SERIAL_COMMAND="{_serial(wanted)}"', *picture)


def _serial(wanted: Arguments) -> str:
    return f"serial --speed={wanted.baud} --unit=0"


def _reads_drop_ins(guest: Guest) -> bool:
    makers = [path for path in _MAKERS if guest.is_file(path)]
    if not makers:
        return guest.is_dir("/etc/default/grub.d")
    return any(_READS_DROP_INS in (guest.read_text(path, missing_ok=True) or "") for path in makers)


def _changed_assignment(line: str, name: str, wanted: Arguments) -> str:
    """An assignment in double quotes is changed inside them; any other gets what is wanted added at its end."""
    inner = line.removeprefix(f"{name}=").rstrip()
    if len(inner) > 1 and inner[0] == inner[-1] == '"' and '"' not in inner[1:-1].replace('\\"', ""):
        return f'{name}="{_merged_in_shell(inner[1:-1], wanted)}"'
    if len(inner) > 1 and inner[0] == inner[-1] == "'" and "'" not in inner[1:-1]:
        return f'{name}="{_merged_in_shell(_for_shell(inner[1:-1]), wanted)}"'
    return f"{line}\n" + f'{name}="${name} {_merged_in_shell("", wanted)}"'


def _merged_in_shell(value: str, wanted: Arguments) -> str:
    return changed_value(value, wanted, lambda word: _for_shell(for_grub(word)))


def _for_shell(text: str) -> str:
    """Text inside double quotes of a shell."""
    return "".join(f"\\{char}" if char in '"$`\\' else char for char in text)
