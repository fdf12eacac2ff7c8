# SPDX-License-Identifier: GPL-2.0-or-later
"""Which boot loader a guest from an archive gets, what of its former disk is forgotten, and what its tools are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.boot_loaders.former_disk import forget_former_disk, name_root
from snf_image_helper.boot_loaders.initial_ram_disk import _make as make_initial_ram_disk
from snf_image_helper.boot_loaders.initial_ram_disk import renew
from snf_image_helper.boot_loaders.install_grub import install_bios, install_uefi
from snf_image_helper.boot_loaders.install_grub_legacy import _fit_menus as fit_menus
from snf_image_helper.boot_loaders.installing import installer_for
from snf_image_helper.boot_loaders.starting import Kernel, Start, kernels_in, start_of
from snf_image_helper.chroot import Chroot, chroot
from snf_image_helper.disks.filesystems import FileSystem
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_shared.deployment import BootMode
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import Listener, private_mounts, sh
from unit.helper.guest_trees import guest_in, put, text

pytestmark = pytest.mark.root

ROOT = FileSystem("/dev/vda1", "ext4", "aaaaaaaa-0000-4000-8000-000000000001")
BOOT = FileSystem("/dev/vda2", "ext4", "bbbbbbbb-0000-4000-8000-000000000002")
SWAP = "cccccccc-0000-4000-8000-000000000003"
OLD = "dddddddd-0000-4000-8000-000000000004"
KERNEL = Kernel("/boot/vmlinuz-6.1", "6.1", "/boot/initrd.img-6.1")
START = Start(BootMode.BIOS, "/dev/vda", ROOT, ROOT, SWAP, None, (KERNEL,))
GRUB = {"/usr/sbin/grub-install": "", "/usr/sbin/grub-mkconfig": ""}
GRUB_BIOS = {**GRUB, "/usr/lib/grub/i386-pc/normal.mod": ""}
GRUB_UEFI = {**GRUB, "/usr/lib/grub/x86_64-efi/normal.mod": ""}
SUSE = {
    "/usr/sbin/grub2-install": "",
    "/usr/sbin/grub2-mkconfig": "",
    "/usr/share/grub2/i386-pc/normal.mod": "",
    "/usr/share/grub2/x86_64-efi/normal.mod": "",
}
FEDORA_UEFI = {"/usr/sbin/grub2-mkconfig": "", "/boot/efi/EFI/fedora/grubx64.efi": "MZ"}
EXTLINUX = {"/usr/bin/extlinux": "", "/usr/lib/EXTLINUX/mbr.bin": ""}
ALPINE = {"/sbin/extlinux": "", "/usr/share/syslinux/mbr.bin": ""}
LEGACY = {"/usr/sbin/grub": "", "/usr/lib/grub/x86_64-pc/stage1": "", "/usr/sbin/grub-install": ""}
CENTOS6 = {"/sbin/grub": "", "/usr/share/grub/x86_64-redhat/stage1": ""}
SYSTEMD_BOOT = {
    "/usr/bin/bootctl": "",
    "/usr/bin/kernel-install": "",
    "/usr/lib/systemd/boot/efi/systemd-bootx64.efi": "",
}

SYSTEMD_BOOT_OF_TRIXIE = {f"{path}{'.signed' * path.endswith('efi')}": "" for path in SYSTEMD_BOOT}


@pytest.mark.image_row(76, 77, 78)
@pytest.mark.parametrize(
    ("files", "firmware", "name"),
    [
        (GRUB_BIOS, BootMode.BIOS, "GRUB"),
        (SUSE, BootMode.BIOS, "GRUB"),
        ({**LEGACY, **EXTLINUX, **GRUB_BIOS}, BootMode.BIOS, "GRUB"),
        (EXTLINUX, BootMode.BIOS, "EXTLINUX"),
        (ALPINE, BootMode.BIOS, "EXTLINUX"),
        (LEGACY, BootMode.BIOS, "GRUB before 2"),
        (CENTOS6, BootMode.BIOS, "GRUB before 2"),
        (GRUB_UEFI, BootMode.UEFI, "GRUB"),
        (SUSE, BootMode.UEFI, "GRUB"),
        (FEDORA_UEFI, BootMode.UEFI, "GRUB"),
        ({**GRUB_UEFI, **SYSTEMD_BOOT}, BootMode.UEFI, "GRUB"),
        ({**GRUB_BIOS, **SYSTEMD_BOOT}, BootMode.UEFI, "systemd-boot"),
        (SYSTEMD_BOOT_OF_TRIXIE, BootMode.UEFI, "systemd-boot"),
    ],
)
def test_the_first_loader_of_the_table_that_the_guest_has_is_taken(
    tmp_path: Path, files: dict[str, str], firmware: BootMode, name: str
) -> None:
    with guest_in(tmp_path / "root", files) as guest:
        found = installer_for(guest, firmware)
        assert (found.name, found.firmware) == (name, firmware)


@pytest.mark.parametrize(
    ("files", "firmware", "packages"),
    [(SYSTEMD_BOOT, BootMode.BIOS, "BIOS.*grub-pc.*extlinux"), (GRUB_BIOS, BootMode.UEFI, "UEFI.*grub-efi-amd64")],
)
def test_a_guest_without_one_for_its_firmware_is_refused_with_the_packages_that_lack(
    tmp_path: Path, files: dict[str, str], firmware: BootMode, packages: str
) -> None:
    with guest_in(tmp_path / "root", files) as guest, pytest.raises(GuestError, match=packages):
        installer_for(guest, firmware)


def test_kernels_come_newest_first_with_their_initial_ram_disks_and_rescue_systems_last(tmp_path: Path) -> None:
    names = (
        *("vmlinuz-6.9.0", "initrd.img-6.9.0", "vmlinuz-6.10.1", "initramfs-6.10.1.img", "vmlinuz-0-rescue-7"),
        *("vmlinuz-virt", "initramfs-virt", "config-6.9.0", "vmlinuz-6 $(reboot)"),
    )
    with guest_in(tmp_path / "root", dict.fromkeys((f"/boot/{name}" for name in names), "")) as guest:
        found = kernels_in(guest)
    assert [(kernel.path, kernel.initrd) for kernel in found] == [
        ("/boot/vmlinuz-virt", "/boot/initramfs-virt"),
        ("/boot/vmlinuz-6.10.1", "/boot/initramfs-6.10.1.img"),
        ("/boot/vmlinuz-6.9.0", "/boot/initrd.img-6.9.0"),
        ("/boot/vmlinuz-0-rescue-7", None),
    ]


def test_a_guest_without_any_kernel_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(8 << 20)
    sh("mkfs.ext4", "-q", "-F", str(disk))
    with guest_in(tmp_path / "root", {"/boot/config": ""}) as guest:
        guest.mounts["/"] = str(disk)
        with pytest.raises(GuestError, match="no kernel in /boot"):
            start_of(guest, BootMode.BIOS)


ARGUMENTS = f"root=UUID={OLD} ro rootflags=subvol=@,discard resume=UUID={OLD} rd.lvm.lv=vg/root a='b c' quiet"
FORGOTTEN = f"root=UUID={ROOT.uuid} ro rootflags=discard resume=UUID={SWAP} a='b c' quiet"


@pytest.mark.image_row(76, 77, 78)
@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("/etc/default/grub", 'A=1\nGRUB_CMDLINE_LINUX="{}"\n', 'A=1\nGRUB_CMDLINE_LINUX="{}"\n'),
        ("/etc/default/grub.d/50-x.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="{}"\n', 'GRUB_CMDLINE_LINUX_DEFAULT="{}"\n'),
        ("/etc/kernel/cmdline", "{}\n", "{}\n"),
        ("/boot/extlinux.conf", "LABEL x\n  LINUX k\n  APPEND {}\n", "LABEL x\n  LINUX k\n  APPEND {}\n"),
        ("/boot/grub/menu.lst", "title x\n\tkernel /k {}\n", "title x\n\tkernel /k {}\n"),
        ("/boot/grub2/grub.cfg", "\tlinux16 /k {}\n", "\tlinux16 /k {}\n"),
        ("/boot/grub2/grub.cfg", '  set kernelopts="{}"\n', '  set kernelopts="{}"\n'),
        ("/efi/loader/entries/x.conf", "title x\noptions {}\n", "title x\noptions {}\n"),
    ],
)
def test_the_former_root_swap_and_volumes_go_from_every_command_line(
    tmp_path: Path, path: str, before: str, after: str
) -> None:
    with guest_in(tmp_path / "root", {path: before.format(ARGUMENTS)}) as guest:
        for _ in range(2):  # and a second run changes nothing
            edits = Edits(guest)
            assert not forget_former_disk(edits, START)
            edits.apply()
            assert text(guest, path) == after.format(FORGOTTEN)


@pytest.mark.parametrize(
    ("initrds", "partition", "root"),
    [
        ((None,), "0badcafe-03", "PARTUUID=0badcafe-03"),
        (("/boot/initrd.img-6.1", None), "0badcafe-03", f"UUID={ROOT.uuid}"),
        ((None,), "", f"UUID={ROOT.uuid}"),
    ],
)
def test_a_kernel_without_initial_ram_disk_gets_a_root_that_it_finds_by_itself(
    tmp_path: Path, initrds: tuple[str | None, ...], partition: str, root: str
) -> None:
    kernels = tuple(replace(KERNEL, initrd=initrd) for initrd in initrds)
    start = replace(START, kernels=kernels, partition=partition)
    menu = "\tlinux /k root=/dev/vda1 ro\n"
    files = {"/boot/grub/grub.cfg": menu, "/etc/default/grub": 'GRUB_CMDLINE_LINUX="root=/dev/sda3 quiet"\n'}
    with guest_in(tmp_path / "root", files) as guest:
        edits = Edits(guest)
        forget_former_disk(edits, start)
        name_root(edits, start)
        edits.apply()
        assert text(guest, "/boot/grub/grub.cfg") == f"\tlinux /k root={root} ro\n"
        assert text(guest, "/etc/default/grub") == f'GRUB_CMDLINE_LINUX="root={root} quiet"\n'


def test_a_guest_of_ubuntu_that_names_its_roots_partition_names_the_new_one(tmp_path: Path) -> None:
    settings, menu = "/etc/default/grub.d/40-force-partuuid.cfg", "/boot/grub/grub.cfg"
    files = {
        settings: f"# old\nGRUB_FORCE_PARTUUID={OLD}\n",
        menu: f"\tlinux /k root=PARTUUID=0badcafe-03 ro\n\tlinux /k root=PARTUUID={OLD} ro\n",
    }
    with guest_in(tmp_path / "root", files) as guest:
        edits = Edits(guest)
        forget_former_disk(edits, replace(START, partition="0badcafe-03"))
        edits.apply()
        assert text(guest, settings) == "# old\nGRUB_FORCE_PARTUUID=0badcafe-03\n"
        assert text(guest, menu) == f"\tlinux /k root=PARTUUID=0badcafe-03 ro\n\tlinux /k root=UUID={ROOT.uuid} ro\n"


def test_without_swap_nothing_is_resumed_from(tmp_path: Path) -> None:
    files = {
        "/etc/kernel/cmdline": f"root=/dev/sda1 resume=UUID={OLD} resume_offset=77 quiet\n",
        "/etc/initramfs-tools/conf.d/resume": f"RESUME=UUID={OLD}\n",
    }
    with guest_in(tmp_path / "root", files) as guest:
        edits = Edits(guest)
        assert forget_former_disk(edits, replace(START, swap=None))
        edits.apply()
        assert text(guest, "/etc/kernel/cmdline") == f"root=UUID={ROOT.uuid} quiet\n"
        assert text(guest, "/etc/initramfs-tools/conf.d/resume") == "RESUME=none\n"


@pytest.mark.image_row(78)
def test_an_environment_block_keeps_its_size_and_says_the_new_root(tmp_path: Path) -> None:
    block = f"# GRUB Environment Block\nsaved_entry=x\nkernelopts=root=UUID={OLD} ro\n".ljust(1024, "#")
    with guest_in(tmp_path / "root", {"/boot/grub2/grubenv": block, "/boot/grub2/device.map": "(hd0) x\n"}) as guest:
        edits = Edits(guest)
        forget_former_disk(edits, START)
        edits.apply()
        found = text(guest, "/boot/grub2/grubenv")
        assert not guest.exists("/boot/grub2/device.map")
    assert len(found) == 1024
    assert f"\nkernelopts=root=UUID={ROOT.uuid} ro\n" in found


@pytest.mark.image_row(78)
@pytest.mark.parametrize(("boot", "prefix"), [(ROOT, "/boot"), (BOOT, "")])
@pytest.mark.parametrize("written", ["/boot", ""])
def test_an_entry_names_its_kernel_as_the_new_layout_has_it(
    tmp_path: Path, boot: FileSystem, prefix: str, written: str
) -> None:
    entry = f"title x\nlinux {written}/vmlinuz-6.1\ninitrd {written}/initrd.img-6.1 $tuned_initrd\noptions ro\n"
    files = {"/boot/loader/entries/x.conf": entry, "/boot/vmlinuz-6.1": "", "/boot/initrd.img-6.1": ""}
    with guest_in(tmp_path / "root", files) as guest:
        edits = Edits(guest)
        forget_former_disk(edits, replace(START, boot=boot))
        edits.apply()
        assert text(guest, "/boot/loader/entries/x.conf") == (
            f"title x\nlinux {prefix}/vmlinuz-6.1\ninitrd {prefix}/initrd.img-6.1 $tuned_initrd\noptions ro\n"
        )


@pytest.mark.image_row(76)
def test_a_menu_of_grub_before_2_names_the_new_partition_and_layout(tmp_path: Path) -> None:
    menu = "# groot=(hd0,4)\ndefault 0\ntitle x\n\troot (hd0,4)\n\tkernel /boot/vmlinuz-6.1 ro\n"
    menu += "\tinitrd (hd0,4)/initrd.img-6.1\n"
    files = {"/boot/grub/menu.lst": menu, "/boot/vmlinuz-6.1": "", "/boot/initrd.img-6.1": ""}
    with guest_in(tmp_path / "root", files) as guest:
        fit_menus(guest, replace(START, boot=BOOT), "(hd0,0)")
        assert text(guest, "/boot/grub/menu.lst") == (
            "# groot=(hd0,0)\ndefault 0\ntitle x\n\troot (hd0,0)\n\tkernel /vmlinuz-6.1 ro\n\tinitrd /initrd.img-6.1\n"
        )


@pytest.fixture
def room(tmp_path: Path) -> Iterator[tuple[Guest, Chroot]]:
    """A guest with this machine's shell, whose /usr/sbin is its own."""
    root = tmp_path / "root"
    with private_mounts(), guest_in(root) as guest:
        for name in ("usr", *(f"usr/{name}" for name in ("bin", "lib", "lib64", "sbin"))):
            (root / name).mkdir()
        bound = [name for name in ("bin", "lib", "lib64") if Path("/usr", name).is_dir()]
        for name in ("bin", "lib", "lib64", "sbin"):
            (root / name).symlink_to(f"usr/{name}")
        for name in bound:
            sh("mount", "--bind", f"/usr/{name}", str(root / "usr" / name))
        try:
            with chroot(guest) as entered:
                yield guest, entered
        finally:
            for name in bound:
                sh("umount", str(root / "usr" / name))


def program(guest: Guest, path: str, script: str) -> None:
    put(Path(guest.root), {path: f'#!/bin/sh\nset -e\necho "$0 $*" >>/calls\n{script}\n'})
    Path(guest.root, path.lstrip("/")).chmod(0o755)


@pytest.mark.image_row(78)
def test_a_signed_grub_is_pointed_to_the_menu_and_never_replaced(room: tuple[Guest, Chroot]) -> None:
    guest, root = room
    put(
        Path(guest.root), {"/boot/efi/EFI/fedora/grubx64.efi": "MZ", "/boot/efi/EFI/fedora/grub.cfg": f"search {OLD}\n"}
    )
    put(Path(guest.root), {"/boot/loader/entries/x.conf": "linux /k\n"})
    program(guest, "/usr/sbin/grub2-mkconfig", 'echo "blscfg" >"$2"')
    start = replace(START, firmware=BootMode.UEFI, boot=BOOT, esp="/boot/efi")
    install_uefi(guest, root, start)
    assert text(guest, "/boot/efi/EFI/fedora/grub.cfg") == (
        f"search --no-floppy --fs-uuid --set=dev {BOOT.uuid}\nset prefix=($dev)/grub2\nexport $prefix\n"
        "configfile $prefix/grub.cfg\n"
    )
    assert text(guest, "/boot/efi/EFI/fedora/grubx64.efi") == "MZ"
    assert text(guest, "/calls") == "/usr/sbin/grub2-mkconfig -o /boot/grub2/grub.cfg\n"


@pytest.mark.image_row(77, 78)
@pytest.mark.parametrize(("prefix", "place"), [("grub2", "/boot/grub2"), ("grub", "/boot/grub")])
def test_grub_for_a_bios_goes_to_the_disk_and_its_menu_to_the_place_of_its_family(
    room: tuple[Guest, Chroot], prefix: str, place: str
) -> None:
    guest, root = room
    program(guest, f"/usr/sbin/{prefix}-install", '[ "$1" != --help ] || echo " --target=TARGET  "')
    program(guest, f"/usr/sbin/{prefix}-mkconfig", 'echo "menuentry x" >"$2"')
    install_bios(guest, root, START)
    assert text(guest, "/calls").split("\n")[1:] == [
        f"/usr/sbin/{prefix}-install --target=i386-pc /dev/vda",
        f"/usr/sbin/{prefix}-mkconfig -o {place}/grub.cfg",
        "",
    ]


def test_grub_of_debian_7_is_not_told_the_only_platform_that_it_has(room: tuple[Guest, Chroot]) -> None:
    guest, root = room
    program(guest, "/usr/sbin/grub-install", 'case "$*" in *--target*) exit 1 ;; esac')
    program(guest, "/usr/sbin/grub-mkconfig", 'echo "menuentry x" >"$2"')
    install_bios(guest, root, START)
    assert text(guest, "/calls").split("\n")[1] == "/usr/sbin/grub-install /dev/vda"


@pytest.mark.image_row(78)
@pytest.mark.parametrize(
    ("help_text", "flag"), [("--force-extra-removable", "--force-extra-removable"), ("--removable", "--removable")]
)
def test_grub_for_uefi_is_found_without_variables(room: tuple[Guest, Chroot], help_text: str, flag: str) -> None:
    guest, root = room
    program(guest, "/usr/sbin/grub-install", f'[ "$1" != --help ] || echo " {help_text}  "')
    program(guest, "/usr/sbin/grub-mkconfig", 'echo "menuentry x" >"$2"')
    install_uefi(guest, root, replace(START, firmware=BootMode.UEFI, esp="/boot/efi"))
    assert text(guest, "/calls").split("\n")[1] == (
        f"/usr/sbin/grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram {flag}"
    )


@pytest.mark.image_row(78)
def test_a_menu_of_entries_alone_gets_some_where_the_image_has_none(room: tuple[Guest, Chroot]) -> None:
    guest, root = room
    put(Path(guest.root), {"/boot/efi/EFI/redhat/grubx64.efi": "MZ"})
    program(guest, "/usr/sbin/grub2-mkconfig", 'echo "blscfg" >"$2"')
    install_uefi(guest, root, replace(START, firmware=BootMode.UEFI, esp="/boot/efi"))
    assert text(guest, "/boot/loader/entries/snf-image-6.1.conf").split("\n")[2:] == [
        "linux /boot/vmlinuz-6.1",
        "initrd /boot/initrd.img-6.1",
        f"options root=UUID={ROOT.uuid} ro",
        "",
    ]


@pytest.mark.image_row(78)
def test_the_words_that_only_a_bios_knows_are_others_for_uefi(room: tuple[Guest, Chroot]) -> None:
    guest, root = room
    put(Path(guest.root), {"/boot/efi/EFI/centos/grubx64.efi": "MZ"})
    program(guest, "/usr/sbin/grub2-mkconfig", 'printf "\\tlinux16 /k\\n\\tinitrd16 /i\\n" >"$2"')
    install_uefi(guest, root, replace(START, firmware=BootMode.UEFI, esp="/boot/efi"))
    assert text(guest, "/boot/grub2/grub.cfg") == "\tlinuxefi /k\n\tinitrdefi /i\n"


MODULES = "/etc/initramfs-tools"


@pytest.mark.parametrize(
    ("files", "stale", "called"),
    [
        ({f"{MODULES}/initramfs.conf": "MODULES=most\n"}, False, False),
        ({f"{MODULES}/initramfs.conf": "MODULES=most\n"}, True, True),
        ({f"{MODULES}/initramfs.conf": "MODULES=dep\n"}, False, True),
        ({f"{MODULES}/initramfs.conf": "MODULES=most\n", f"{MODULES}/conf.d/x": "MODULES=dep\n"}, False, True),
    ],
)
def test_debians_initial_ram_disk_is_made_anew_only_if_it_may_lack_something(
    tmp_path: Path, files: dict[str, str], stale: bool, called: bool
) -> None:
    # The guest has no /bin/sh: a tool that is called cannot be, which tells that it was.
    files = {**files, "/usr/sbin/update-initramfs": "", "/usr/bin/lsinitramfs": "", "/lib/modules/6.1/x": ""}
    with private_mounts(), guest_in(tmp_path / "root", files) as guest, chroot(guest) as root:
        listener = Listener()
        if called:
            with pytest.raises(Exception, match="update-initramfs failed"):
                renew(guest, root, START, listener.reporter, stale=stale)
            assert "virtio_blk\n" in text(guest, f"{MODULES}/modules")
        else:
            renew(guest, root, START, listener.reporter, stale=stale)
            assert listener.warnings == []


@pytest.mark.parametrize(
    ("help_text", "generic"), [("  --no-hostonly  Disable", " --no-hostonly"), ("-H, --hostonly", "")]
)
def test_dracut_is_told_to_think_of_every_host_where_it_can_be(
    room: tuple[Guest, Chroot], help_text: str, generic: str
) -> None:
    guest, root = room
    program(guest, "/usr/sbin/dracut", f'[ "$1" != --help ] || {{ echo "{help_text}"; exit 1; }}')
    assert make_initial_ram_disk(guest, root, START, KERNEL)
    assert text(guest, "/calls").split("\n")[1] == (f"/usr/sbin/dracut --force{generic} /boot/initrd.img-6.1 6.1")


def test_a_menu_names_the_root_by_what_stays_the_same_on_every_bus(tmp_path: Path) -> None:
    menu = "\tlinux /k root=/dev/vda1 ro\n\tlinux /k root=/dev/vda12 ro\n\tlinux /k root=/dev/mapper/vg-root ro\n"
    with guest_in(tmp_path / "root", {"/boot/grub/grub.cfg": menu}) as guest:
        edits = Edits(guest)
        name_root(edits, START)
        edits.apply()
        assert text(guest, "/boot/grub/grub.cfg") == menu.replace("/dev/vda1 ", f"UUID={ROOT.uuid} ")


def test_a_pointer_that_leads_to_the_menu_stays_as_its_vendor_wrote_it(room: tuple[Guest, Chroot]) -> None:
    guest, root = room
    pointer = f"search --no-floppy --root-dev-only --fs-uuid --set=dev {ROOT.uuid}\nset prefix=($dev)/@/boot/grub2\n"
    put(Path(guest.root), {"/boot/efi/EFI/fedora/grubx64.efi": "MZ", "/boot/efi/EFI/fedora/grub.cfg": pointer})
    program(guest, "/usr/sbin/grub2-mkconfig", 'echo "menuentry x" >"$2"')
    install_uefi(guest, root, replace(START, firmware=BootMode.UEFI, esp="/boot/efi"))
    assert text(guest, "/boot/efi/EFI/fedora/grub.cfg") == pointer


@pytest.mark.parametrize(
    "content", ["linux " * 100_000, "linux /k " + '"' * 300_001, 'GRUB_CMDLINE_LINUX="' + '" ' * 99_999]
)
def test_what_was_written_to_be_slow_is_read_in_one_go(tmp_path: Path, content: str) -> None:
    paths = (
        "/boot/grub/menu.lst",
        "/boot/grub2/grub.cfg",
        "/etc/default/grub",
        "/etc/kernel/cmdline",
        "/boot/extlinux.conf",
    )
    with guest_in(tmp_path / "root", dict.fromkeys(paths, content)) as guest:
        forget_former_disk(Edits(guest), START)
        fit_menus(guest, START, "(hd0,0)")


def test_of_more_kernels_than_anybody_has_some_are_looked_at(tmp_path: Path) -> None:
    with guest_in(tmp_path / "root", {f"/boot/vmlinuz-6.{number}": "" for number in range(100)}) as guest:
        found = kernels_in(guest)
    assert len(found) < 100
    assert found[0].version == "6.99"
