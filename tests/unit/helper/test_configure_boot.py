# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureBoot on trees with each boot loader's files; what is for GRUB is read again by GRUB's own parser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.tasks.configure_boot import TASK
from snf_image_shared.deployment import Deployment, Form, Layout
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import job, sh
from unit.helper.guest_trees import JOB, guest_in, perform, put, text

pytestmark = pytest.mark.root

SERIAL = "console=tty0 console=ttyS0,115200"
SYSTEMD = {"/usr/lib/systemd/systemd": ""}
# As grub-mkconfig 2.06 of Debian 12 writes it, shortened.
GRUB_CFG = """### BEGIN /etc/grub.d/00_header ###
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
terminal_output gfxterm
### END /etc/grub.d/00_header ###
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
\tload_video
\tinsmod gzio
\tif [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
\tsearch --no-floppy --fs-uuid --set=root 0c5d2f8e
\techo\t'Loading Linux 6.1.0-28-amd64 ...'
\tlinux\t/boot/vmlinuz-6.1.0-28-amd64 root=UUID=0c5d2f8e ro  quiet $vt_handoff
\techo\t'Loading initial ramdisk ...'
\tinitrd\t/boot/initrd.img-6.1.0-28-amd64
}
menuentry 'Memory test' {
\tlinux16\t/boot/memtest86+.bin
}
### END /etc/grub.d/10_linux ###
"""
# What Debian's grub-mkconfig has and upstream's has not.
DEBIANS_MAKER = 'for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n  if [ -e "${x}" ]; then . "${x}"; fi\ndone\n'
DEBIAN = {
    "/etc/os-release": "ID=debian\n",
    "/boot/grub/grub.cfg": GRUB_CFG,
    "/etc/default/grub": 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n',
    "/etc/default/grub.d/10_cloud.cfg": 'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200 earlyprintk=ttyS0"\n',
    "/usr/sbin/grub-mkconfig": DEBIANS_MAKER,
    **SYSTEMD,
}
RHEL8 = {
    "/etc/os-release": "ID=rhel\n",
    "/boot/grub2/grub.cfg": 'if [ -z "${kernelopts}" ]; then\n  set kernelopts="root=UUID=1 ro crashkernel=auto "\n'
    "fi\nblscfg\n",
    "/boot/grub2/grubenv": (
        "# GRUB Environment Block\nsaved_entry=x\nkernelopts=root=UUID=1 ro\nboot_success=0\n"
    ).ljust(1024, "#"),
    "/boot/loader/entries/x.conf": "title RHEL\nlinux /vmlinuz-4.18\ninitrd /i $tuned_initrd\n"
    "options $kernelopts $tuned_params\n",
    "/etc/default/grub": 'GRUB_TERMINAL_OUTPUT="console"\nGRUB_CMDLINE_LINUX="crashkernel=auto"\n'
    "GRUB_ENABLE_BLSCFG=true\n",
    "/usr/sbin/grub2-mkconfig": "",
    **SYSTEMD,
}
FEDORA = {
    "/etc/os-release": "ID=fedora\n",
    "/boot/grub2/grub.cfg": "insmod blscfg\nblscfg\n",
    "/boot/grub2/grubenv": "# GRUB Environment Block\nsaved_entry=x\n".ljust(1024, "#"),
    "/boot/loader/entries/x.conf": "title Fedora\nlinux /vmlinuz-6.11\ninitrd /i\noptions root=UUID=1 ro\n",
    "/etc/kernel/cmdline": "root=UUID=1 ro\n",
    **SYSTEMD,
}
ARCH = {
    "/etc/os-release": "ID=arch\n",
    "/efi/loader/loader.conf": "default arch\n",
    "/efi/loader/entries/arch.conf": "title Arch\nlinux /vmlinuz\noptions root=UUID=1\noptions rw quiet\n",
    "/efi/loader/entries/shell.conf": "title Shell\nefi /shell.efi\n",
    **SYSTEMD,
}
INITTAB = "::sysinit:/sbin/openrc sysinit\ntty1::respawn:/sbin/getty 38400 tty1\n"
INITTAB += "#ttyS0::respawn:/sbin/getty -L 0 ttyS0 vt100\n"
ALPINE = {
    "/etc/os-release": "ID=alpine\n",
    "/boot/extlinux.conf": "DEFAULT menu.c32\nPROMPT 0\nLABEL virt\n  MENU LABEL L\n  LINUX vmlinuz-virt\n  INITRD i\n"
    "  APPEND root=UUID=1 modules=ext4 quiet\nLABEL menu\n  KERNEL menu.c32\n",
    "/etc/update-extlinux.conf": 'default_kernel_opts="quiet rootfstype=ext4"\nserial_port=\nserial_baud=115200\n',
    "/etc/inittab": INITTAB,
    "/etc/securetty": "console\ntty1\n",
}
MENU_LST = """default=0
splashimage=(hd0,0)/grub/splash.xpm.gz
title CentOS (2.6.32)
\troot (hd0,0)
\tkernel /vmlinuz-2.6.32 ro root=UUID=1 rhgb quiet
\tinitrd /i
title memtest
\tkernel /memtest86+
"""
CENTOS6 = {
    "/etc/redhat-release": "CentOS release 6.10\n",
    "/boot/grub/grub.conf": MENU_LST,
    "/etc/init/serial.conf": "",
    "/etc/inittab": "id:3:initdefault:\n",
}


def picture(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in root.rglob("*")}


def configured(root: Path, files: dict[str, str], *paths: str, **properties: str) -> list[str]:
    """What these files say after the task, which ran twice and changed nothing the second time."""
    with guest_in(root, files) as guest:
        assert perform(TASK, guest, JOB, **properties).warnings == []
        once = picture(root)
        perform(TASK, guest, JOB, **properties)
        assert picture(root) == once
        for path in (*root.glob("boot/grub*/grub.cfg"), *root.glob("boot/efi/EFI/*/grub.cfg")):
            sh("grub-script-check", str(path))
        return [text(guest, path) for path in paths]


def settings(root: Path) -> dict[str, str]:
    """What a shell makes of GRUB's settings, read in the order of grub-mkconfig."""
    script = (
        'set -e; . "$1/etc/default/grub"; for x in "$1"/etc/default/grub.d/*.cfg; do [ ! -e "$x" ] || . "$x"; done; set'
    )
    said = sh("env", "-i", "sh", "-c", script, "sh", str(root))
    return dict(line.split("=", 1) for line in said.splitlines() if line.startswith("GRUB"))


def test_a_debian_starts_its_kernels_on_the_serial_port_now_and_after_the_next_update(tmp_path: Path) -> None:
    (menu,) = configured(tmp_path, DEBIAN, "/boot/grub/grub.cfg", CONSOLE="serial")
    assert f"\tlinux\t/boot/vmlinuz-6.1.0-28-amd64 root=UUID=0c5d2f8e ro quiet $vt_handoff {SERIAL}\n" in menu
    assert "\tlinux16\t/boot/memtest86+.bin\n" in menu
    assert menu.index("terminal_output gfxterm") < menu.index("serial --speed=115200 --unit=0\nterminal_input --append")
    # Without a screen GRUB would wait for it as long as its menu is a picture.
    assert re.findall(r"^terminal_output (.*)", menu, re.MULTILINE)[-1] == "console serial"
    found = settings(tmp_path)
    assert found["GRUB_CMDLINE_LINUX_DEFAULT"] == f"'quiet {SERIAL}'"
    assert found["GRUB_TERMINAL"] == "'console serial'"
    assert found["GRUB_SERIAL_COMMAND"] == "'serial --speed=115200 --unit=0'"


HARD = 'nosmt memmap=1G$4G dyndbg="file x.c +p; func y +p" a=b|c d=`e`'


@pytest.mark.image_row(79)
@pytest.mark.parametrize("drop_ins", [True, False])
def test_hard_words_reach_the_kernel_through_every_file_of_grub(tmp_path: Path, drop_ins: bool) -> None:
    files = {**DEBIAN, "/etc/default/grub": "GRUB_CMDLINE_LINUX_DEFAULT='quiet b=$x'\n"}
    if not drop_ins:
        files = {
            path: content
            for path, content in files.items()
            if not path.startswith(("/usr/sbin", "/etc/default/grub.d"))
        }
    (menu,) = configured(tmp_path, files, "/boot/grub/grub.cfg", KERNEL_ARGS=HARD)
    line = next(line for line in menu.split("\n") if line.startswith("\tlinux\t"))
    wanted = 'nosmt \'memmap=1G$4G\' "dyndbg=file x.c +p; func y +p" "a=b|c" "d=`e`"'
    assert line.endswith(f"ro quiet $vt_handoff {wanted}")
    script = '. "$1/etc/default/grub"; for x in "$1"/etc/default/grub.d/*.cfg; do [ ! -e "$x" ] || . "$x"; done; '
    said = sh("env", "-i", "sh", "-c", f'{script} printf %s "$GRUB_CMDLINE_LINUX_DEFAULT"', "sh", str(tmp_path))
    assert said == f"quiet b=$x {wanted}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('GRUB_CMDLINE_LINUX="a"\n', 'GRUB_CMDLINE_LINUX="a n=1"\n'),
        ("GRUB_CMDLINE_LINUX='a $b'\n", 'GRUB_CMDLINE_LINUX="a \\$b n=1"\n'),
        ('GRUB_CMDLINE_LINUX="n=0 b"', 'GRUB_CMDLINE_LINUX="n=1 b"'),
        ("GRUB_CMDLINE_LINUX=a\n", 'GRUB_CMDLINE_LINUX=a\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX n=1"\n'),
        (
            'GRUB_CMDLINE_LINUX="$(echo "a")"\n',
            'GRUB_CMDLINE_LINUX="$(echo "a")"\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX n=1"\n',
        ),
        ('# x\n#GRUB_CMDLINE_LINUX="a"\n', '# x\n#GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX="n=1"\n'),
        (
            'GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX_DEFAULT="b"\n',
            'GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX_DEFAULT="b n=1"\n',
        ),
    ],
)
def test_settings_without_drop_ins_are_changed_in_their_place(tmp_path: Path, before: str, after: str) -> None:
    files = {"/boot/grub2/grub.cfg": GRUB_CFG, "/etc/default/grub": before, "/usr/sbin/grub2-mkconfig": ""}
    assert configured(tmp_path, files, "/etc/default/grub", KERNEL_ARGS="n=1") == [after]


@pytest.mark.image_row(78)
def test_the_entries_of_rhel_8_get_their_arguments_where_they_refer_to(tmp_path: Path) -> None:
    block, entry, menu, defaults = configured(
        tmp_path,
        RHEL8,
        *("/boot/grub2/grubenv", "/boot/loader/entries/x.conf", "/boot/grub2/grub.cfg", "/etc/default/grub"),
        CONSOLE="serial",
        KERNEL_ARGS="crashkernel=256M",
    )
    assert len(block) == 1024
    assert entry == RHEL8["/boot/loader/entries/x.conf"]
    assert f'  set kernelopts="root=UUID=1 ro crashkernel=256M {SERIAL}"\n' in menu
    assert f'GRUB_CMDLINE_LINUX="crashkernel=256M {SERIAL}"\n' in defaults
    # GRUB's own program reads the block, and can still write it.
    path = str(tmp_path / "boot/grub2/grubenv")
    listed = sh("grub-editenv", path, "list").splitlines()
    assert listed == ["saved_entry=x", f"kernelopts=root=UUID=1 ro crashkernel=256M {SERIAL}", "boot_success=0"]
    sh("grub-editenv", path, "set", "boot_success=1")


def test_an_environment_block_without_room_is_an_error_and_nothing_is_changed(tmp_path: Path) -> None:
    with guest_in(tmp_path, RHEL8) as guest:
        with pytest.raises(GuestError, match=r"/boot/grub2/grubenv: has no room .* 1024 bytes"):
            perform(TASK, guest, KERNEL_ARGS="a=" + "b" * 1000)
        assert not guest.changed


def test_an_environment_block_keeps_its_size_in_bytes(tmp_path: Path) -> None:
    block = "# GRUB Environment Block\nsaved_entry=αβγ\nkernelopts=root=UUID=1 ro\n"
    block += "#" * (1024 - len(block.encode()))
    with guest_in(tmp_path, {**RHEL8, "/boot/grub2/grubenv": block}) as guest:
        perform(TASK, guest, KERNEL_ARGS="nosmt")
    assert (tmp_path / "boot/grub2/grubenv").stat().st_size == 1024


@pytest.mark.image_row(78)
def test_the_entries_of_fedora_have_their_own_arguments(tmp_path: Path) -> None:
    paths = ("/boot/loader/entries/x.conf", "/etc/kernel/cmdline", "/boot/grub2/grubenv")
    entry, following, block = configured(tmp_path, FEDORA, *paths, KERNEL_ARGS='a="b c"', CONSOLE="serial")
    assert entry.endswith(f'\noptions root=UUID=1 ro "a=b c" {SERIAL}\n')
    assert following == f'root=UUID=1 ro "a=b c" {SERIAL}\n'
    assert block == FEDORA["/boot/grub2/grubenv"]


def test_a_dollar_sign_in_an_entry_of_grub_is_refused(tmp_path: Path) -> None:
    with guest_in(tmp_path, FEDORA) as guest:
        with pytest.raises(GuestError, match=r"has a \$, which GRUB cannot have"):
            perform(TASK, guest, KERNEL_ARGS="memmap=1G$4G")
        assert not guest.changed


def test_systemd_boot_starts_kernels_with_the_last_options_line(tmp_path: Path) -> None:
    paths = ("/efi/loader/entries/arch.conf", "/efi/loader/entries/shell.conf")
    entry, shell = configured(tmp_path, ARCH, *paths, KERNEL_ARGS="memmap=1G$4G", CONSOLE="SERIAL")
    assert entry == f"title Arch\nlinux /vmlinuz\noptions root=UUID=1\noptions rw quiet memmap=1G$4G {SERIAL}\n"
    assert shell == "title Shell\nefi /shell.efi\n"


def test_an_alpine_with_extlinux_has_menu_kernel_and_login_on_the_serial_port(tmp_path: Path) -> None:
    paths = ("/boot/extlinux.conf", "/etc/update-extlinux.conf", "/etc/inittab", "/etc/securetty")
    menu, settings, inittab, secure = configured(tmp_path, ALPINE, *paths, CONSOLE="serial")
    assert menu.startswith("SERIAL 0 115200\nDEFAULT")
    assert f"  APPEND root=UUID=1 modules=ext4 quiet {SERIAL}\nLABEL menu\n  KERNEL menu.c32\n" in menu
    assert settings == (f'default_kernel_opts="quiet rootfstype=ext4 {SERIAL}"\nserial_port=0\nserial_baud=115200\n')
    assert inittab == INITTAB + "ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n"
    assert secure == "console\ntty1\nttyS0\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LABEL a\nLINUX k\n", "LABEL a\nLINUX k\n  APPEND n\n"),
        ("LABEL a\nAPPEND r\nKERNEL k\n", "LABEL a\nAPPEND r n\nKERNEL k\n"),
        (
            "append r\nlabel a\nlinux k\nlabel b\nlinux k\nappend s\n",
            "append r n\nlabel a\nlinux k\nlabel b\nlinux k\nappend s n\n",
        ),
        ("LABEL a\nLINUX k\nAPPEND -\n", "LABEL a\nLINUX k\nAPPEND n\n"),
        (
            "LABEL m\nKERNEL memtest\nAPPEND x\nLABEL a\nLINUX k\n",
            "LABEL m\nKERNEL memtest\nAPPEND x\nLABEL a\nLINUX k\n  APPEND n\n",
        ),
    ],
)
def test_every_label_of_a_kernel_gets_the_arguments_once(tmp_path: Path, before: str, after: str) -> None:
    files = {"/boot/syslinux/syslinux.cfg": before, **SYSTEMD}
    assert configured(tmp_path, files, "/boot/syslinux/syslinux.cfg", KERNEL_ARGS="n") == [after]


@pytest.mark.image_row(76)
def test_grub_of_old_is_changed_in_its_menu(tmp_path: Path) -> None:
    (menu,) = configured(tmp_path, CENTOS6, "/boot/grub/grub.conf", CONSOLE="serial")
    assert f"\tkernel /vmlinuz-2.6.32 ro root=UUID=1 rhgb quiet {SERIAL}\n" in menu
    assert "serial --unit=0 --speed=115200\nterminal --timeout=5 serial console\ntitle CentOS" in menu
    assert menu.endswith("\tkernel /memtest86+\n")


@pytest.mark.parametrize(
    ("files", "path", "line"),
    [
        (
            {"/sbin/init": "", "/sbin/getty": "", "/etc/inittab": "1:2345:respawn:/sbin/getty 38400 tty1\n"},
            "/etc/inittab",
            "S0:2345:respawn:/sbin/getty -L ttyS0 115200 vt100",
        ),
        (
            {"/sbin/getty": "", "/etc/inittab": "c1:12345:respawn:/sbin/agetty 38400 tty1 linux"},
            "/etc/inittab",
            "S0:2345:respawn:/sbin/agetty -L ttyS0 115200 vt100",
        ),
        (
            {"/sbin/agetty": "", "/etc/inittab": "1:2345:respawn:/sbin/mingetty tty1\n"},
            "/etc/inittab",
            "S0:2345:respawn:/sbin/agetty -L ttyS0 115200 vt100",
        ),
        (
            {"/sbin/getty": "", "/etc/init/tty1.conf": "", "/sbin/init": ""},
            "/etc/init/ttyS0.conf",
            "exec /sbin/getty -L ttyS0 115200 vt102",
        ),
        (
            {"/sbin/getty": "", "/etc/event.d/tty1": "", "/sbin/init": ""},
            "/etc/event.d/ttyS0",
            "exec /sbin/getty -L ttyS0 115200 vt102",
        ),
        (
            {"/sbin/init": "", "/etc/init.d/agetty": "", "/etc/runlevels/default/x": ""},
            "/etc/conf.d/agetty.ttyS0",
            'baud="115200"',
        ),
    ],
)
@pytest.mark.image_row(80)
def test_every_init_starts_a_login_on_the_serial_port(
    tmp_path: Path, files: dict[str, str], path: str, line: str
) -> None:
    (found,) = configured(tmp_path, {"/boot/grub/grub.cfg": GRUB_CFG, **files}, path, CONSOLE="serial")
    assert found.split("\n").count(line) == 1


def test_a_login_that_is_there_is_enough(tmp_path: Path) -> None:
    inittab = "T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100\n"
    files = {"/boot/grub/grub.cfg": GRUB_CFG, "/etc/inittab": inittab, "/etc/securetty": ""}
    assert configured(tmp_path, files, "/etc/inittab", "/etc/securetty", CONSOLE="serial") == [inittab, ""]


@pytest.mark.image_row(80)
@pytest.mark.parametrize("line", ["T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100", "#T0:respawn:/sbin/getty ttyS0"])
def test_a_speed_that_is_asked_for_is_that_of_loader_kernel_and_login(tmp_path: Path, line: str) -> None:
    inittab = f"1:2345:respawn:/sbin/getty 38400 tty1\n{line}\n"
    menu = GRUB_CFG.replace("ro  quiet", "ro console=tty0 console=ttyS0,115200n8")
    files = {**DEBIAN, "/boot/grub/grub.cfg": menu, "/etc/inittab": inittab, "/sbin/getty": ""}
    del files["/usr/lib/systemd/systemd"]
    paths = ("/boot/grub/grub.cfg", "/etc/default/grub.d/zz-snf-image.cfg", "/etc/inittab")
    menu, settings, inittab = configured(tmp_path, files, *paths, CONSOLE="serial,19200")
    assert "console=ttyS0,115200" not in menu
    assert "ro console=tty0 $vt_handoff console=ttyS0,19200\n" in menu
    assert "serial --speed=19200 --unit=0\n" in menu
    assert 'GRUB_SERIAL_COMMAND="serial --speed=19200 --unit=0"\n' in settings
    assert inittab.count(":respawn:/sbin/getty -L ttyS0 19200 vt100\n") == 1
    assert "9600 vt100" not in inittab.replace("19200", "")


@pytest.mark.parametrize("speed", ["serial,", "serial,fast", "serial,1200", "serial,38400,n8", "vga"])
def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: str) -> None:
    with guest_in(tmp_path, DEBIAN) as guest, pytest.raises(GuestError, match=r"CONSOLE: .* ask for serial"):
        perform(TASK, guest, JOB, CONSOLE=speed)


def test_where_the_hypervisor_brings_the_kernel_only_the_login_is_made(tmp_path: Path) -> None:
    layout = Layout(has_loader=False)
    job = replace(JOB, deployment=Deployment(Form.TARBALL, layout))
    inittab = "1:2345:respawn:/sbin/getty 38400 tty1\n"
    with guest_in(tmp_path, {"/etc/inittab": inittab, "/sbin/getty": ""}) as guest:
        (warning,) = perform(TASK, guest, job, CONSOLE="serial", KERNEL_ARGS="quiet").warnings
        assert text(guest, "/etc/inittab") == inittab + "S0:2345:respawn:/sbin/getty -L ttyS0 115200 vt100\n"
    assert "kernel_args" in warning


def test_voids_service_is_enabled_by_its_link(tmp_path: Path) -> None:
    files = {"/boot/grub/grub.cfg": GRUB_CFG, "/etc/sv/agetty-ttyS0/run": "", "/etc/runit/runsvdir/default/x": ""}
    configured(tmp_path, files, CONSOLE="serial")
    assert (tmp_path / "etc/runit/runsvdir/default/agetty-ttyS0").readlink() == Path("/etc/sv/agetty-ttyS0")


def test_systemd_needs_no_login_of_ours(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/inittab": "1:2345:respawn:/sbin/getty 38400 tty1\n"}
    put(tmp_path, SYSTEMD)
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/init").symlink_to("/usr/lib/systemd/systemd")
    assert configured(tmp_path, files, "/etc/inittab", CONSOLE="serial") == [files["/etc/inittab"]]


def test_an_unknown_init_is_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/boot/grub/grub.cfg": GRUB_CFG, "/sbin/init": ""}) as guest:
        assert "no login on ttyS0" in perform(TASK, guest, CONSOLE="serial").warnings[0]


@pytest.mark.parametrize("name", ["CONSOLE", "KERNEL_ARGS"])
def test_a_guest_without_a_boot_loader_is_an_error_that_names_the_property(tmp_path: Path, name: str) -> None:
    files = {"/etc/default/grub": "", "/boot/grub/grub.cfg": "insmod linux\n"}
    with guest_in(tmp_path, files) as guest:
        with pytest.raises(GuestError, match=f"property {name}: no configuration of a boot loader"):
            perform(TASK, guest, JOB, **{name: "serial"})
        assert not guest.changed


def test_a_guest_without_a_boot_loader_is_a_warning_where_unknown_guests_are_delivered(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/inittab": "1:2345:respawn:/sbin/getty 38400 tty1\n"}) as guest:
        report = perform(TASK, guest, CONSOLE="serial", UNKNOWN_GUEST="deliver")
        assert report.warnings[0].startswith("The kernel's arguments stay as they are: no configuration of a boot")
        assert "ttyS0" in text(guest, "/etc/inittab")


def test_an_unknown_console_is_refused_while_planning() -> None:
    with pytest.raises(GuestError, match="property CONSOLE: 'ttyS1' is unknown"):
        TASK.skip(job(CONSOLE="ttyS1"))


def test_bad_arguments_are_refused_while_planning() -> None:
    with pytest.raises(GuestError, match="property KERNEL_ARGS"):
        TASK.skip(job(KERNEL_ARGS="a'b"))


@pytest.mark.parametrize(
    "content", ["\n" * 400_000, "linux " * 100_000, "linux /k " + '"' * 300_001, "set\n" * 100_000]
)
def test_a_menu_that_was_written_to_be_slow_is_read_in_one_go(tmp_path: Path, content: str) -> None:
    with guest_in(tmp_path, {**DEBIAN, "/boot/grub/menu.lst": content, "/boot/grub2/grub.cfg": content}) as guest:
        perform(TASK, guest, KERNEL_ARGS="n")


PROGRAM = "MZ of "


def esp(*names: str, at: str = "/boot/efi") -> dict[str, str]:
    return {f"{at}/EFI/{name}": f"{PROGRAM}{name}" for name in names}


@pytest.mark.parametrize("at", ["/boot/efi", "/efi", "/boot"])
def test_a_vendors_loader_becomes_one_that_needs_no_variables(tmp_path: Path, at: str) -> None:
    loaders = esp("debian/shimx64.efi", "debian/grubx64.efi", "debian/mmx64.efi", "debian/fbx64.efi", at=at)
    with guest_in(tmp_path, loaders) as guest:
        said = perform(TASK, guest)
        assert len(said.warnings) == 1
        assert guest.list_directory(f"{at}/EFI/BOOT") == ("BOOTX64.EFI", "grubx64.efi", "mmx64.efi")
        assert text(guest, f"{at}/EFI/BOOT/BOOTX64.EFI") == "MZ of debian/shimx64.efi"
        assert text(guest, f"{at}/EFI/BOOT/grubx64.efi") == "MZ of debian/grubx64.efi"
        once = picture(tmp_path)
        assert perform(TASK, guest).warnings == []
        assert picture(tmp_path) == once


@pytest.mark.parametrize(
    ("names", "loader", "source"),
    [
        (("Ubuntu/grubx64.efi",), "BOOT/BOOTX64.EFI", "Ubuntu/grubx64.efi"),
        (("systemd/systemd-bootx64.efi",), "BOOT/BOOTX64.EFI", "systemd/systemd-bootx64.efi"),
        (("debian/shimaa64.efi", "debian/grubaa64.efi"), "BOOT/BOOTAA64.EFI", "debian/shimaa64.efi"),
        (("Boot/other.efi", "a/GRUBX64.EFI"), "Boot/BOOTX64.EFI", "a/GRUBX64.EFI"),
        (("a/grubx64.efi", "fedora/grubx64.efi"), "BOOT/BOOTX64.EFI", "fedora/grubx64.efi"),
    ],
)
def test_the_loader_of_the_guests_own_distribution_is_taken(
    tmp_path: Path, names: tuple[str, ...], loader: str, source: str
) -> None:
    with guest_in(tmp_path, {**esp(*names), "/etc/os-release": "ID=fedora\n"}) as guest:
        perform(TASK, guest)
        assert text(guest, f"/boot/efi/EFI/{loader}") == PROGRAM + source


@pytest.mark.parametrize(
    "names", [("Boot/bootx64.efi", "debian/grubx64.efi"), ("debian/readme.txt",), ("debian/shimx64.efi",), ()]
)
def test_an_esp_that_boots_or_has_nothing_to_boot_stays_as_it_is(tmp_path: Path, names: tuple[str, ...]) -> None:
    with guest_in(tmp_path, esp(*names)) as guest:
        assert perform(TASK, guest).warnings == []
        assert not guest.changed


def test_what_is_no_program_is_not_copied(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/boot/efi/EFI/debian/grubx64.efi": "#!/bin/sh\n"}) as guest:
        perform(TASK, guest)
        assert not guest.changed


def test_a_loader_that_cannot_be_copied_does_not_end_the_deployment(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**esp("debian/grubx64.efi"), "/boot/efi/EFI/BOOT": "no directory"}) as guest:
        (warning,) = perform(TASK, guest).warnings
        assert "/boot/efi/EFI/BOOT" in warning
