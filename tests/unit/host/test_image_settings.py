# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of ganeti-instance-image: which one counts, what is accepted of a shell, and that nothing in them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_host.instance_image.manual import defaults_file, table
from snf_image_host.instance_image.settings import ImageSettings, ImageType, image_setting_fields
from snf_image_shared.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[3]
DEFAULTS = "etc/default/ganeti-instance-image"
LIST = "etc/ganeti/instance-image/variants.list"
VARIANT = "etc/ganeti/instance-image/variants/default.conf"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def load(root: Path, files: dict[str, str], variant: str = "default", **env: str) -> ImageSettings:
    return ImageSettings.load(variant, write(root, files), env)


def refusal(root: Path, files: dict[str, str], variant: str = "default") -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(root, files, variant)
    return str(caught.value)


@pytest.mark.image_row(1, 99)
def test_the_defaults_file_wins_over_our_defaults_and_the_variant_over_that(tmp_path: Path) -> None:
    files = {DEFAULTS: "FILESYSTEM=ext4\nARCH=x86\nIMAGE_TYPE=\n", VARIANT: "ARCH=x86_64\nSWAP=no\n"}
    found = load(tmp_path, files)
    assert (found.filesystem, found.arch, found.image_type, found.swap, found.boot_size) == (
        "ext4",
        "x86_64",
        ImageType.DUMP,
        False,
        100,
    )
    assert found.image_dir == tmp_path / "var/cache/ganeti-instance-image"
    assert found.warnings == ()


@pytest.mark.image_row(2)
def test_an_empty_value_of_a_variant_is_the_default(tmp_path: Path) -> None:
    files = {DEFAULTS: "CDINSTALL=no\nSWAP_SIZE=512", VARIANT: 'CDINSTALL=""\nNOMOUNT=""\nSWAP_SIZE=""\nKERNEL_ARGS='}
    found = load(tmp_path, files)
    assert (found.cdinstall, found.nomount, found.swap_size) == (False, False, None)


@pytest.mark.image_row(3)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("IMAGE_NAME=$(touch {trace})", "'$' in the value of IMAGE_NAME is shell syntax that is not understood"),
        ('IMAGE_NAME="$(touch {trace})"', "'$' inside double quotes would run or expand something"),
        ("IMAGE_NAME=`touch {trace}`", "'`' in the value of IMAGE_NAME is shell syntax that is not understood"),
        ("if true; then touch {trace}; fi", "not an assignment; only lines KEY=value"),
        ("IMAGE_NAME=${{ARCH:-x}}", "'$' in the value of IMAGE_NAME is shell syntax that is not understood"),
        ("IMAGE_NAME=$UNKNOWN", "$UNKNOWN is not set before this line; write what it is to stand for"),
        ("touch {trace}", "not an assignment"),
        ("export -f x", "not an assignment"),
    ],
)
def test_what_a_shell_would_run_is_refused_with_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    trace = tmp_path / "trace"
    found = refusal(tmp_path, {DEFAULTS: "ARCH=x\n" + line.format(trace=trace), VARIANT: ""})
    assert found.startswith(f"{tmp_path / DEFAULTS}, line 2: {said}")
    assert not trace.exists()


def test_a_line_may_refer_to_what_was_set_before_to_defaults_and_to_what_ganeti_passes(tmp_path: Path) -> None:
    files = {
        DEFAULTS: "SUITE=bookworm; export SUITE\nexport IMAGE_NAME='debian'-$SUITE\nARCH=${SUITE}\n",
        VARIANT: 'OVERLAY="$INSTANCE_NAME"\nCUSTOMIZE_DIR="$CUSTOMIZE_DIR/web"\n'
        'KERNEL_ARGS="a=\\$b ${NIC_0_IP}"\nARCH=$ARCH-2',
    }
    found = load(tmp_path, files, INSTANCE_NAME="web1.example.com", PATH="/bin")
    assert (found.image_name, found.arch, found.overlay) == ("debian-bookworm", "bookworm-2", "web1.example.com")
    assert found.customize_dir == tmp_path / "etc/ganeti/instance-image/hooks/web"
    assert found.kernel_args == "a=$b "
    assert found.variables["SUITE"] == "bookworm"


def test_what_is_not_ganeti_s_is_not_taken_from_the_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\$LD_PRELOAD is not set"):
        load(tmp_path, {VARIANT: "ARCH=$LD_PRELOAD"}, LD_PRELOAD="x")


@pytest.mark.image_row(4)
def test_a_variant_without_a_file_is_refused_whether_it_is_offered_or_not(tmp_path: Path) -> None:
    files = {LIST: "default\nweb\n", VARIANT: ""}
    path = tmp_path / "etc/ganeti/instance-image/variants"
    assert refusal(tmp_path, files, "web").startswith(f"instance-image configuration error: {path}/web.conf does not")
    told = refusal(tmp_path, files, "nobody")
    assert told.startswith("Unofficial variant nobody is unsupported; use one of default, web, or create ")
    assert f"{path}/nobody.conf" in told


def test_a_variant_that_is_not_offered_is_taken_if_it_has_a_file(tmp_path: Path) -> None:
    files = {LIST: "default\n", VARIANT.replace("default", "mine"): "ARCH=arm64"}
    assert load(tmp_path, files, "mine").arch == "arm64"


@pytest.mark.image_row(4)
def test_a_directory_of_variants_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = refusal(tmp_path, {DEFAULTS: "VARIANTS_DIR=/nowhere/at/all"})
    assert told.startswith("OS Variants directory /nowhere/at/all doesn't exist")


@pytest.mark.parametrize("name", ["../default", "a/b", ".hidden", "a b"])
def test_the_name_of_a_variant_is_never_a_path(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, {VARIANT: ""}, name).startswith("variant ")


@pytest.mark.image_row(5)
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SWAP=perhaps", "SWAP: 'perhaps' is neither yes nor no"),
        ("FDISK=fdisk", "FDISK: Input should be 'sfdisk' or 'parted'"),
        ("IMAGE_TYPE=iso", "IMAGE_TYPE: Input should be 'tarball', 'dump', 'qemu', 'raw' or 'qcow2'"),
        ("FILESYSTEM=ntfs", "FILESYSTEM: 'ntfs' is not one of ext2, ext3, ext4, xfs, btrfs"),
        ("SWAP_SIZE=1G", "SWAP_SIZE: Input should be a valid integer"),
        ("BOOT_SIZE=0", "BOOT_SIZE: Input should be greater than or equal to 1"),
        ("IMAGE_DIR=images", "IMAGE_DIR: 'images' is not an absolute path"),
        ("IMAGE_URL=file:///srv", "IMAGE_URL: not a URL that begins with one of http://"),
        ("OVERLAY=../../etc", "OVERLAY: '../../etc' is no name of a directory in OVERLAYS_DIR"),
        ("CDINSTALL=No", "CDINSTALL: 'No' was always taken for yes; write no"),
        ("PARTITION_TABLE=bsd", "PARTITION_TABLE: Input should be 'msdos' or 'gpt'"),
    ],
)
def test_a_wrong_value_is_told_with_its_line_and_a_cure(tmp_path: Path, line: str, said: str) -> None:
    told = refusal(tmp_path, {DEFAULTS: "\n" + line, VARIANT: ""})
    assert told.startswith(f"{tmp_path / DEFAULTS}, line 2: {said}")
    assert "; correct it, or remove it" in told


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, {DEFAULTS: "SWAP=x\nFILESYSTEM=y", VARIANT: "ARCH=`id`"})
    assert all(name in told for name in ("line 1: SWAP: ", "line 2: FILESYSTEM: ", "line 1: '`' in the value of ARCH"))


@pytest.mark.image_row(42)
@pytest.mark.parametrize(("text", "is_on"), [("no", False), ("", False), ("yes", True), ("1", True), ("cd", True)])
def test_cdinstall_is_everything_but_no(tmp_path: Path, text: str, is_on: bool) -> None:
    assert load(tmp_path, {VARIANT: f"CDINSTALL={text}"}).cdinstall is is_on


def test_a_name_that_is_no_setting_is_worth_a_warning_with_what_may_be_meant(tmp_path: Path) -> None:
    found = load(tmp_path, {DEFAULTS: "KERNEL_ARG=x\nQEMU_IMG=/bin/qemu-img\nSITE=a", VARIANT: ""})
    about = f"{tmp_path / DEFAULTS}, line"
    assert found.warnings == (
        f"{about} 1: KERNEL_ARG is not a setting of instance-image; did you mean KERNEL_ARGS?",
        f"{about} 2: QEMU_IMG has no effect any more; remove it; no program of the node's is used for that any more",
        f"{about} 3: SITE is not a setting of instance-image; only hooks and other lines see it",
    )


def test_an_os_parameter_may_be_preset(tmp_path: Path) -> None:
    found = load(tmp_path, {VARIANT: 'IMG_PROPERTIES=\'{"TIMEZONE": "UTC"}\''})
    assert found.parameters == {"IMG_PROPERTIES": '{"TIMEZONE": "UTC"}'}
    assert found.warnings == ()


@pytest.mark.image_row(99)
def test_every_setting_of_instance_image_0_7_3_is_known() -> None:
    # Its README, its defaults file, common.sh, and the hook cloud-init.
    old = (
        "CDINSTALL SWAP SWAP_SIZE BOOT_SIZE FILESYSTEM FDISK KERNEL_ARGS IMAGE_NAME IMAGE_TYPE ARCH IMAGE_DIR NOMOUNT "
        "OVERLAY CUSTOMIZE_DIR VARIANTS_DIR NETWORKS_DIR OVERLAYS_DIR EXPORT_DIR IMAGE_DEBUG IMAGE_URL CACHE_DIR "
        "IMAGE_VERIFY IMAGE_CLEANUP CINIT_USER CINIT_SSH_KEY CINIT_SSH_PWAUTH CINIT_DISABLE_ROOT "
        "CINIT_MANAGE_RESOLV_CONF DNS_SERVERS DNS_SEARCH DNS_DOMAIN"
    )
    assert set(old.split()) <= set(image_setting_fields())


def test_the_shipped_defaults_file_and_the_manual_are_up_to_date_and_set_nothing(tmp_path: Path) -> None:
    shipped = (PROJECT / "host/ganeti/image" / DEFAULTS).read_text()
    assert shipped == defaults_file()
    assert table() in (PROJECT / "docs/instance-image.md").read_text()
    assert load(tmp_path, {DEFAULTS: shipped, VARIANT: ""}) == load(tmp_path, {DEFAULTS: ""})
