# SPDX-License-Identifier: GPL-2.0-or-later
"""What ganeti-instance-image's files, its hooks' directory and the hypervisor's parameters are to our own stories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_host.configuration.setting_types import Verify
from snf_image_host.configuration.settings import Settings
from snf_image_host.ganeti import Request
from snf_image_host.hooks.switches import SWITCH_FILE, HookSet, read_hook_set
from snf_image_host.images.cache_directory import cache_directory
from snf_image_host.images.names import WantedImage
from snf_image_host.instance_image.create import _request
from snf_image_host.instance_image.mapping import (
    first_card_asks,
    kept_off,
    kernel_path,
    properties_for,
    settings_for,
    trusting_source,
)
from snf_image_host.instance_image.names import boot_image, image_id, type_of
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.vm.hook_orders import cloud_config
from snf_image_host.vm.jobs import job_for
from snf_image_shared.deployment import CloudConfig
from snf_image_shared.errors import ConfigurationError, ImageError, RequestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic

DEFAULTS = "etc/default/ganeti-instance-image"
NO_CARD = '{"nics": []}'
KVM = {"INSTANCE_BE_maxmem": "768", "INSTANCE_HV_kernel_path": "", "INSTANCE_HV_serial_console": "False"}


def image(root: Path, text: str) -> ImageSettings:
    path = root / DEFAULTS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return ImageSettings.load("", root, KVM)


def properties(root: Path, text: str, env: Mapping[str, str] = KVM, hooks: HookSet | None = None) -> dict[str, str]:
    found: dict[str, str] = json.loads(properties_for(image(root, text), {**KVM, **env}, hooks or HookSet(root)))
    return found


def switched_on(root: Path, *names: str) -> HookSet:
    for name in ("cloud-init", "cron_randomize", "grub", "interfaces", "overlays", "ssh", "zz_ddns"):
        (root / name).write_bytes(SWITCH_FILE)
        (root / name).chmod(0o755 if name in names else 0o644)
    return read_hook_set(root)


def request(root: Path, text: str, switches: tuple[str, ...], **parameters: str) -> Request:
    """What an instance with two cards asks for, of which Ganeti knows nothing."""
    wanted = image(root, f"IMAGE_TYPE=raw\nCUSTOMIZE_DIR={root}\n{text}")
    env = KVM | {"OS_API_VERSION": "20", "INSTANCE_NAME": "web.example.com", "HYPERVISOR": "kvm", "DISK_COUNT": "1"}
    env |= {"DISK_0_PATH": "/dev/x", "DISK_0_ACCESS": "rw", "NIC_COUNT": "2"}
    env |= {"NIC_0_MAC": "aa:00:00:12:34:56", "NIC_1_MAC": "aa:00:00:12:34:57"}
    given = {"IMG_ID": "x", "IMG_FORMAT": "diskdump", **parameters}
    return _request(env, (wanted, switched_on(root, *switches)), settings_for(wanted, env, root), given)


@pytest.mark.image_row(32)
def test_no_size_for_a_swap_partition_that_is_wanted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"SWAP_SIZE: 0 MiB.*set SWAP=no"):
        properties(tmp_path, "SWAP_SIZE=0")


@pytest.mark.image_row(26, 27, 31)
@pytest.mark.parametrize(
    ("text", "env", "boot", "swap"),
    [
        ("", {}, "100", "768"),
        ("SWAP=no\nBOOT_SIZE=300", {}, "300", "0"),
        ("", {"INSTANCE_HV_kernel_path": "/boot/vmlinuz"}, "0", "768"),
        ("SWAP=no", {"INSTANCE_HV_kernel_path": "/bin/false"}, "0", "0"),
        ("SWAP_SIZE=512", {}, "100", "512"),
        ("SWAP=no\nSWAP_SIZE=0", {}, "100", "0"),
        ("", {"INSTANCE_BE_memory": "640"}, "100", "640"),
        ("KERNEL_PATH=/boot/mine", {}, "0", "768"),
    ],
)
def test_swap_and_the_kernel_make_the_four_layouts(
    tmp_path: Path, text: str, env: dict[str, str], boot: str, swap: str
) -> None:
    found = properties(tmp_path, text, env)
    assert (found["BOOT_SIZE"], found["SWAP_SIZE"], found["FILESYSTEM"]) == (boot, swap, "ext3")


def test_a_disk_has_no_layout_of_ours(tmp_path: Path) -> None:
    assert not {"FILESYSTEM", "BOOT_SIZE", "SWAP_SIZE"} & set(properties(tmp_path, "IMAGE_TYPE=raw"))


@pytest.mark.image_row(32)
@pytest.mark.parametrize("memory", ["", "0", "lots"])
def test_swap_without_a_size_and_without_a_memory_is_refused(tmp_path: Path, memory: str) -> None:
    with pytest.raises(RequestError, match="SWAP_SIZE not set however SWAP is enabled"):
        properties(tmp_path, "", {"INSTANCE_BE_maxmem": memory})


@pytest.mark.image_row(80)
@pytest.mark.parametrize(
    ("env", "console"),
    [
        ({"INSTANCE_HV_serial_console": "True", "INSTANCE_HV_serial_speed": "38400"}, "serial,38400"),
        ({"INSTANCE_HV_serial_console": "True", "INSTANCE_HV_serial_speed": "460800"}, "serial"),
        ({"INSTANCE_HV_serial_console": "True"}, "serial"),
        ({"INSTANCE_HV_serial_console": "False", "INSTANCE_HV_serial_speed": "38400"}, None),
        ({}, None),
    ],
)
def test_the_console_is_as_the_hypervisor_has_it(tmp_path: Path, env: dict[str, str], console: str | None) -> None:
    assert properties(tmp_path, "", env).get("CONSOLE") == console


def test_kernel_arguments_come_with_the_hook_grub_alone(tmp_path: Path) -> None:
    text = "KERNEL_ARGS='a=/dev/x&y'"
    assert "KERNEL_ARGS" not in properties(tmp_path, text, hooks=switched_on(tmp_path, "ssh"))
    assert properties(tmp_path, text, hooks=switched_on(tmp_path, "grub"))["KERNEL_ARGS"] == "a=/dev/x&y"


@pytest.mark.image_row(85)
@pytest.mark.parametrize(
    ("switch", "given", "wanted"),
    [
        ("grub", "{}", None),
        ("cron_randomize", "{}", "yes"),
        ("cron_randomize", '{"CRON_RANDOMIZE": "no"}', "no"),
    ],
)
def test_minutes_of_cron_come_with_the_hook_cron_randomize_unless_somebody_says_no(
    tmp_path: Path, switch: str, given: str, wanted: str | None
) -> None:
    asked = request(tmp_path, "", (switch,), IMG_PROPERTIES=given)
    assert job_for(asked, Settings()).properties.get("CRON_RANDOMIZE") == wanted


@pytest.mark.parametrize(
    ("switches", "text", "parameters", "runs"),
    [
        ((), "IMAGE_TYPE=qcow2", {}, set()),
        ((), "", {}, {"ChangeMachineId"}),
        (("ssh",), "IMAGE_TYPE=qcow2", {}, {"DeleteSSHKeys"}),
        (("interfaces",), "IMAGE_TYPE=qcow2", {}, {"AssignHostname", "ConfigureNetwork", "ChangeMachineId"}),
        (("overlays",), "IMAGE_TYPE=qcow2", {}, {"ApplyOverlay"}),
        ((), "IMAGE_TYPE=qcow2\nGROW=yes", {}, {"FixPartitionTable", "FilesystemResizeMounted"}),
        ((), "IMAGE_TYPE=qcow2", {"HOSTNAME": "a", "NETWORK": "{}"}, {"AssignHostname", "ConfigureNetwork"}),
        ((), "IMAGE_TYPE=qcow2", {"OS_ANSWER_FILE": "http://x"}, {"InstallUnattend"}),
    ],
)
def test_only_what_is_switched_on_or_asked_for_runs(
    tmp_path: Path, switches: tuple[str, ...], text: str, parameters: dict[str, str], runs: set[str]
) -> None:
    every = {
        *("AssignHostname", "ConfigureNetwork", "DeleteSSHKeys", "ApplyOverlay", "ChangeMachineId", "InstallUnattend"),
        *("FixPartitionTable", "FilesystemResizeMounted"),
    }
    off = kept_off(image(tmp_path, text), switched_on(tmp_path, *switches), parameters)
    assert every - set(off) == runs


@pytest.mark.image_row(13)
@pytest.mark.parametrize("extension", [".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar.lz4", ".tar"])
def test_a_tarball_may_have_the_extension_of_any_compression(tmp_path: Path, extension: str) -> None:
    wanted = image(tmp_path, "IMAGE_TYPE=tarball\nIMAGE_NAME=a\nARCH=b")
    wanted.image_dir.mkdir(parents=True)
    (wanted.image_dir / f"a-b{extension}").touch()
    assert image_id(wanted) == f"local://a-b{extension}"
    (wanted.image_dir / "a-b.tar.gz").touch()
    assert image_id(wanted) == "local://a-b.tar.gz"


def test_a_name_does_not_lead_out_of_the_directory(tmp_path: Path) -> None:
    wanted = image(tmp_path, "IMAGE_TYPE=raw\nIMAGE_NAME=../secret\nARCH=x")
    wanted.image_dir.mkdir(parents=True)
    (wanted.image_dir.parent / "secret-x.raw").touch()
    with pytest.raises(RequestError, match="leaves"):
        image_id(wanted)


@pytest.mark.image_row(99)
@pytest.mark.parametrize("target", ["a-2026.tar.gz", "old/a-2026.tar.gz", "/images/a-2026.tar.gz"])
def test_a_link_that_the_files_name_leads_to_another_image_in_the_directory(tmp_path: Path, target: str) -> None:
    images = tmp_path / "images"
    (images / "old").mkdir(parents=True)
    place = tmp_path / target.lstrip("/") if target.startswith("/") else images / target
    place.write_bytes(b"")
    (images / "a-b.tar.gz").symlink_to(place if target.startswith("/") else target)
    wanted = image(tmp_path, f"IMAGE_TYPE=tarball\nIMAGE_NAME=a\nARCH=b\nIMAGE_DIR={images}\n")
    assert image_id(wanted) == f"local://{target.removeprefix('/images/')}"


def test_a_link_that_leads_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "images/a-b.tar.gz").symlink_to("../elsewhere")
    wanted = image(tmp_path, f"IMAGE_TYPE=tarball\nIMAGE_NAME=a\nARCH=b\nIMAGE_DIR={tmp_path}/images\n")
    with pytest.raises(ImageError, match="symbolic link"):
        image_id(wanted)


@pytest.mark.image_row(17, 86)
def test_the_dump_of_boot_is_known_by_that_of_the_root(tmp_path: Path) -> None:
    wanted = image(tmp_path, "IMAGE_NAME=a\nARCH=b\nIMAGE_URL=https://example.com/images/")
    root = image_id(wanted)
    assert root == "https://example.com/images/a-b-root.dump"
    assert boot_image(WantedImage(root, "dump"), wanted) == WantedImage(
        "https://example.com/images/a-b-boot.dump", "dump"
    )
    assert boot_image(WantedImage("mine.dump", "dump"), wanted) is None
    wanted.image_dir.mkdir(parents=True)
    with pytest.raises(ImageError, match=r"Can't find image file: .*/a-b-boot\.dump; "):
        boot_image(WantedImage("local://a-b-root.dump", "dump"), wanted)


def test_a_user_may_name_the_dump_of_boot_himself(tmp_path: Path) -> None:
    given = {"IMG_ID": "a-root.dump", "IMG_FORMAT": "dump", "IMG_PROPERTIES": '{"BOOT_IMAGE": "kernels.dump"}'}
    assert request(tmp_path, "", (), **given).boot_image == WantedImage("kernels.dump", "dump")


def test_the_node_s_own_settings_say_how_and_the_files_of_image_what(tmp_path: Path) -> None:
    main = tmp_path / "etc/snf-image/snf-image.conf"
    main.parent.mkdir(parents=True)
    main.write_text('HELPER_MEMORY=1024\nDEFAULT_PROPERTIES=\'{"SWAP": "b"}\'\nIMG_PASSWD=x\nIMAGE_ALLOW=10.0.0.0/8\n')
    wanted = image(tmp_path, "IMAGE_DIR=/srv/images\nIMAGE_URL=http://mirror.example.com/x\nIMG_ID=mine\n")
    found = settings_for(wanted, KVM, tmp_path)
    assert (found.helper_memory, str(found.image_dir)) == (1024, "/srv/images")
    assert (found.default_properties, found.parameters) == ("", {"IMG_FORMAT": "dump", "IMG_ID": "mine"})
    assert (found.image_allow, found.verify_network) == ("10.0.0.0/8", Verify.CHECKSUM)
    assert trusting_source(wanted, found).image_allow == "10.0.0.0/8 mirror.example.com"


@pytest.mark.parametrize(
    ("img_format", "kind"), [("tarball", "tarball"), ("dump", "dump"), ("diskdump", "raw"), ("vmdk", "qemu")]
)
def test_the_format_that_a_user_gives_is_the_type(img_format: str, kind: str) -> None:
    assert type_of(img_format) == kind


@pytest.mark.image_row(71)
def test_the_first_of_several_cards_has_dhcp_where_nothing_is_known_of_it() -> None:
    unknown, told = Nic("aa:00:00:12:34:56"), Nic("aa:00:00:12:34:57", ipv6=Ipv6Method.SLAAC)
    assert first_card_asks((unknown, unknown)) == (replace(unknown, ipv4=Ipv4Method.DHCP), unknown)
    assert first_card_asks((told, unknown)) == (told, unknown)
    assert first_card_asks(()) == ()


@pytest.mark.image_row(71)
@pytest.mark.parametrize(
    ("switches", "network", "method"),
    [(("interfaces",), "", Ipv4Method.DHCP), ((), "", Ipv4Method.NONE), (("interfaces",), NO_CARD, Ipv4Method.NONE)],
)
def test_only_the_hook_interfaces_asks_and_no_document_is_overridden(
    tmp_path: Path, switches: tuple[str, ...], network: str, method: Ipv4Method
) -> None:
    found = request(tmp_path, "", switches, NETWORK=network)
    assert [nic.ipv4 for nic in found.nics] == [method, Ipv4Method.NONE]


@pytest.mark.image_row(84)
def test_cloud_init_is_told_what_the_files_say_with_its_hook_alone(tmp_path: Path) -> None:
    text = "CINIT_USER=ops\nCINIT_SSH_KEY='ssh-ed25519 AAAA ops'\nCINIT_SSH_PWAUTH=True\nCINIT_DISABLE_ROOT=no\n"
    text += "CINIT_MANAGE_RESOLV_CONF=yes\nDNS_SERVERS='192.0.2.54 192.0.2.53'\nDNS_SEARCH='b.example a.example'\n"
    assert cloud_config(request(tmp_path, text, ("cloud-init",))) == CloudConfig(
        user="ops",
        ssh_key="ssh-ed25519 AAAA ops",
        disable_root=False,
        ssh_pwauth=True,
        manage_resolv_conf=True,
        nameservers=("192.0.2.54", "192.0.2.53"),
        search=("b.example", "a.example"),
    )
    assert cloud_config(request(tmp_path, text, ("interfaces",))) is None


@pytest.mark.image_row(84)
def test_name_servers_of_cloud_init_have_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CINIT_MANAGE_RESOLV_CONF: yes needs DNS_SERVERS and DNS_SEARCH"):
        cloud_config(request(tmp_path, "CINIT_MANAGE_RESOLV_CONF=1\nDNS_SEARCH=a.example\n", ("cloud-init",)))


@pytest.mark.image_row(99)
def test_the_cache_may_be_a_link_to_where_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir(mode=0o755)
    (tmp_path / "cache").symlink_to("large")
    found = settings_for(image(tmp_path, f"CACHE_DIR={tmp_path}/cache\n"), KVM, tmp_path)
    assert found.cache_dir == tmp_path / "large/snf-image"
    with cache_directory(found.cache_dir):
        assert (tmp_path / "large/snf-image").is_dir()


@pytest.mark.image_row(87)
@pytest.mark.parametrize(
    ("node", "text", "policy"),
    [
        ("", "IMAGE_VERIFY=no", Verify.NO),
        ("VERIFY=checksum", "IMAGE_VERIFY=no", Verify.CHECKSUM),
        ("", "", Verify.CHECKSUM),
    ],
)
def test_what_the_node_wants_of_images_is_wanted_of_these_too(
    tmp_path: Path, node: str, text: str, policy: Verify
) -> None:
    main = tmp_path / "etc/snf-image/snf-image.conf"
    main.parent.mkdir(parents=True)
    main.write_text(node)
    wanted = image(tmp_path, f"IMAGE_URL=http://mirror.example.com/x\n{text}")
    assert settings_for(wanted, KVM, tmp_path).verify_network is policy


@pytest.mark.image_row(18)
def test_the_kernel_is_the_instance_s_unless_the_files_name_one(tmp_path: Path) -> None:
    env = {"INSTANCE_HV_kernel_path": "/boot/k"}
    assert kernel_path(image(tmp_path, ""), env) == "/boot/k"
    assert kernel_path(image(tmp_path, "KERNEL_PATH=/boot/other"), env) == "/boot/other"
