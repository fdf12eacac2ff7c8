# SPDX-License-Identifier: GPL-2.0-or-later
"""One owner of the network: why it was chosen, what else starts, and how that is kept from the cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.guest import Guest
from snf_image_helper.linux.services import is_started
from snf_image_helper.network import Renderer, decide
from snf_image_helper.tasks.configure_network import TASK
from snf_image_shared.job import Ipv4Method, Nic
from unit.helper.guest_trees import JOB, guest_in, perform, seen, text

pytestmark = pytest.mark.root

MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
STATIC = Nic(MAC, ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")
NETWORKED = replace(JOB, nics=(STATIC, Nic(OTHER_MAC)))
WANTS = "/etc/systemd/system/multi-user.target.wants"
SYSTEMD = {"/usr/lib/systemd/systemd": ""}
NETWORKMANAGER = {"/usr/sbin/NetworkManager": "", f"{WANTS}/NetworkManager.service": ""}
NETWORKD = {f"{WANTS}/systemd-networkd.service": ""}
NETWORKD_FILES = {"/etc/systemd/network/20-wired.network": "[Match]\nName=en*\n[Network]\nDHCP=yes\n"}
NETPLAN = {"/usr/sbin/netplan": "", "/etc/netplan/50-cloud-init.yaml": "network: {version: 2}\n"}
LOOPBACK = "auto lo\niface lo inet loopback\n"
IFUPDOWN = {
    "/usr/sbin/ifup": "",
    "/etc/network/interfaces": LOOPBACK,
    "/usr/lib/systemd/system/networking.service": "",
    f"{WANTS}/networking.service": "",
}
CARDS = {"/etc/network/interfaces": f"{LOOPBACK}allow-hotplug ens3\niface ens3 inet dhcp\n"}
UNMANAGED = "/etc/NetworkManager/conf.d/99-snf-image.conf"
RHEL_6 = {
    "/etc/redhat-release": "CentOS release 6.10 (Final)\n",
    "/sbin/init": "",
    "/etc/sysconfig/network": "NETWORKING=yes\n",
    "/etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=dhcp\n",
    "/etc/rc.d/init.d/network": "",
    "/etc/rc.d/rc3.d/S10network": "",
}
WICKED = {
    "/usr/sbin/wicked": "",
    f"{WANTS}/wicked.service": "",
    "/etc/sysconfig/network/ifcfg-eth0": "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n",
}
ALPINE = {
    "/etc/os-release": "ID=alpine\nVERSION_ID=3.22.1\n",
    "/sbin/ifup": "",
    "/etc/network/interfaces": f"{LOOPBACK}auto eth0\niface eth0 inet dhcp\n",
    "/etc/init.d/networking": "",
    "/etc/runlevels/boot/networking": "",
}
GENTOO = {"/etc/os-release": "ID=gentoo\n", "/etc/init.d/net.lo": "", "/etc/runlevels/default/net.eth0": ""}
DHCPCD = {"/usr/sbin/dhcpcd": "", "/etc/dhcpcd.conf": "duid\npersistent\n"}
CLOUD_INIT = {"/etc/cloud/cloud.cfg": "", "/etc/cloud/cloud.cfg.d/05_logging.cfg": ""}


def picture(guest: Guest) -> dict[str, tuple[bytes | str, int]]:
    """Every file and link below /etc, and when it was last touched."""
    root = Path(guest.root)
    return {
        str(path.relative_to(root)): (
            str(path.readlink()) if path.is_symlink() else path.read_bytes(),
            path.lstat().st_mtime_ns,
        )
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


TREES: Mapping[str, tuple[dict[str, str], Renderer | None, tuple[Renderer, ...]]] = {
    "ubuntu server": ({**SYSTEMD, **NETPLAN, **NETWORKD}, Renderer.NETPLAN, ()),
    "ubuntu desktop": ({**SYSTEMD, **NETPLAN, **NETWORKMANAGER}, Renderer.NETPLAN, (Renderer.NETWORKMANAGER,)),
    "netplan beside old files of networkd": (
        {**SYSTEMD, **NETPLAN, **NETWORKD, **NETWORKD_FILES},
        Renderer.NETPLAN,
        (Renderer.NETWORKD,),
    ),
    "ifupdown and a desktop": (
        {**SYSTEMD, **IFUPDOWN, **CARDS, **NETWORKMANAGER},
        Renderer.IFUPDOWN,
        (Renderer.NETWORKMANAGER,),
    ),
    "a desktop with an empty ifupdown": ({**SYSTEMD, **IFUPDOWN, **NETWORKMANAGER}, Renderer.NETWORKMANAGER, ()),
    "networkd with files and ifupdown with cards": (
        {**SYSTEMD, **IFUPDOWN, **CARDS, **NETWORKD, **NETWORKD_FILES},
        Renderer.NETWORKD,
        (Renderer.IFUPDOWN,),
    ),
    "networkd without files beside NetworkManager": (
        {**SYSTEMD, **NETWORKD, **NETWORKMANAGER},
        Renderer.NETWORKMANAGER,
        (),
    ),
    "networkd with files beside NetworkManager": (
        {**SYSTEMD, **NETWORKD, **NETWORKD_FILES, **NETWORKMANAGER},
        Renderer.NETWORKD,
        (Renderer.NETWORKMANAGER,),
    ),
    "files of systemd itself": (
        {**SYSTEMD, **NETWORKD, **NETWORKMANAGER, "/usr/lib/systemd/network/80-container-host0.network": ""},
        Renderer.NETWORKMANAGER,
        (),
    ),
    "ifupdown that does not start": (
        {
            **SYSTEMD,
            "/usr/sbin/ifup": "",
            **CARDS,
            "/usr/lib/systemd/system/networking.service": "",
            **NETWORKMANAGER,
        },
        Renderer.NETWORKMANAGER,
        (),
    ),
    "Devuan with NetworkManager": (
        {
            **IFUPDOWN,
            "/sbin/init": "",
            "/usr/sbin/NetworkManager": "",
            "/etc/init.d/networking": "",
            "/etc/rcS.d/S12networking": "",
            "/etc/rc2.d/S03network-manager": "",
        },
        Renderer.NETWORKMANAGER,
        (),
    ),
    "RHEL 6": (RHEL_6, Renderer.IFCFG, ()),
    "SUSE with wicked": ({**SYSTEMD, **WICKED}, Renderer.WICKED, ()),
    "SUSE with an unused wicked": (
        {**SYSTEMD, "/usr/sbin/wicked": "", **NETWORKMANAGER, "/etc/sysconfig/network/config": ""},
        Renderer.NETWORKMANAGER,
        (),
    ),
    "Alpine": (ALPINE, Renderer.ALPINE, ()),
    "Gentoo with netifrc": (GENTOO, Renderer.NETIFRC, ()),
    "Gentoo with netifrc and dhcpcd": (
        {**GENTOO, **DHCPCD, "/etc/runlevels/default/dhcpcd": ""},
        Renderer.DHCPCD,
        (Renderer.NETIFRC,),
    ),
    "dhcpcd beside an empty ifupdown": (
        {**SYSTEMD, **IFUPDOWN, **DHCPCD, f"{WANTS}/dhcpcd.service": ""},
        Renderer.DHCPCD,
        (),
    ),
    "dhcpcd beside networkd with files": (
        {**SYSTEMD, **NETWORKD, **NETWORKD_FILES, **DHCPCD, f"{WANTS}/dhcpcd.service": ""},
        Renderer.NETWORKD,
        (Renderer.DHCPCD,),
    ),
    "wicked beside networkd with files": (
        {**SYSTEMD, **NETWORKD, **NETWORKD_FILES, **WICKED},
        Renderer.NETWORKD,
        (Renderer.WICKED,),
    ),
    "nothing": (SYSTEMD, None, ()),
}


@pytest.mark.parametrize(("files", "owner", "others"), TREES.values(), ids=list(TREES))
def test_the_owner_is_known_and_what_would_compete(
    tmp_path: Path, files: dict[str, str], owner: Renderer | None, others: tuple[Renderer, ...]
) -> None:
    with guest_in(tmp_path, files) as guest:
        found = decide(guest, JOB.wishes)
        assert (found.owner, found.others) == (owner, others)


@pytest.mark.parametrize(("files", "owner", "others"), TREES.values(), ids=list(TREES))
def test_a_second_run_decides_the_same_and_touches_nothing(
    tmp_path: Path, files: dict[str, str], owner: Renderer | None, others: tuple[Renderer, ...]
) -> None:
    with guest_in(tmp_path, {**files, **CLOUD_INIT}) as guest:
        perform(TASK, guest, NETWORKED)
        before = picture(guest)
        perform(TASK, guest, NETWORKED)
        assert picture(guest) == before
        assert decide(guest, JOB.wishes).owner is owner


def test_the_decision_and_the_cards_are_told_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **IFUPDOWN, **CARDS, **NETWORKMANAGER}) as guest:
        perform(TASK, guest, NETWORKED)
    assert capsys.readouterr().out.splitlines() == [
        "network: ifupdown owns it: it starts at boot and has cards in its interfaces; "
        "kept from the cards: networkmanager",
        f"network: NIC 0 ({MAC}): IPv4 static, IPv6 none, 192.0.2.7/24, 0.0.0.0/0 by 192.0.2.1",
        f"network: NIC 1 ({OTHER_MAC}): kept down",
    ]


def test_networkmanager_is_told_which_cards_are_not_its_own(tmp_path: Path) -> None:
    profile = "/etc/NetworkManager/system-connections/any"
    with guest_in(
        tmp_path, {**SYSTEMD, **IFUPDOWN, **CARDS, **NETWORKMANAGER, profile: "[connection]\ntype=ethernet\n"}
    ) as guest:
        perform(TASK, guest, NETWORKED)
        assert f"[keyfile]\nunmanaged-devices+=mac:{MAC};mac:{OTHER_MAC}\n" in text(guest, UNMANAGED)
        assert guest.exists(profile)


def test_networkmanager_gets_its_cards_back_when_it_becomes_the_owner(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **IFUPDOWN, **CARDS, **NETWORKMANAGER}) as guest:
        perform(TASK, guest, NETWORKED)
        perform(TASK, guest, replace(NETWORKED, nics=(STATIC,)), NM_NETWORKING="yes")
        assert not guest.exists(UNMANAGED)
        assert "iface ens3" not in text(guest, "/etc/network/interfaces")


def test_cards_of_ifupdown_are_taken_from_it_with_a_backup(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **IFUPDOWN, **CARDS, **NETWORKMANAGER}) as guest:
        perform(TASK, guest, NETWORKED, NM_NETWORKING="yes")
        assert text(guest, "/etc/network/interfaces").endswith(f"\n{LOOPBACK}")
        assert text(guest, "/etc/network/interfaces.snf-image-bak") == CARDS["/etc/network/interfaces"]


def test_networkd_is_told_to_leave_the_cards_alone(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **NETWORKD, **NETWORKD_FILES, **NETWORKMANAGER}) as guest:
        perform(TASK, guest, NETWORKED, NM_NETWORKING="yes")
        for number, mac in enumerate((MAC, OTHER_MAC)):
            told = text(guest, f"/etc/systemd/network/05-snf-image-{number}.network")
            assert f"[Match]\nMACAddress={mac}\n\n[Link]\nUnmanaged=yes\n" in told
        assert guest.exists("/etc/systemd/network/20-wired.network")


@pytest.mark.parametrize(
    ("tree", "directory", "name", "profile"),
    [
        (RHEL_6, "/etc/sysconfig/network-scripts", "ifcfg-eth0", "DEVICE=eth0\nHWADDR=52:54:00:12:34:56\nONBOOT=yes\n"),
        (
            {**SYSTEMD, **NETWORKMANAGER},
            "/etc/NetworkManager/system-connections",
            "Wired connection 1",
            "[connection]\ntype=ethernet\n[ethernet]\nmac-address=52:54:00:12:34:56\n",
        ),
    ],
)
def test_a_profile_for_the_templates_card_is_kept_when_ours_has_its_name(
    tmp_path: Path, tree: dict[str, str], directory: str, name: str, profile: str
) -> None:
    with guest_in(tmp_path, {**tree, f"{directory}/{name}": profile}) as guest:
        for _ in range(2):
            perform(TASK, guest, NETWORKED)
            assert MAC in text(guest, f"{directory}/{name}")
            assert text(guest, f"{directory}/.{name}.snf-image-bak") == profile


WAIT_ONLINE = {"/etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service": ""}
WAITS_FOR_NOTHING = "/etc/systemd/system/systemd-networkd-wait-online.service.d/50-snf-image.conf"
KEPT_DOWN, ONLY_MTU = Nic(MAC), Nic(MAC, mtu=1400)


@pytest.mark.parametrize("tree", [{**NETWORKD_FILES}, {**NETPLAN}])
@pytest.mark.parametrize("nic", [KEPT_DOWN, ONLY_MTU])
def test_a_boot_does_not_wait_for_a_card_where_none_is_to_come_up(
    tmp_path: Path, tree: dict[str, str], nic: Nic
) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **NETWORKD, **WAIT_ONLINE, **tree}) as guest:
        perform(TASK, guest, replace(NETWORKED, nics=(nic,)))
        assert text(guest, WAITS_FOR_NOTHING).endswith(f"[Unit]\nConditionPathExists=!{WAITS_FOR_NOTHING}\n")
        perform(TASK, guest, NETWORKED)
        assert not guest.exists(WAITS_FOR_NOTHING)


def test_a_boot_does_not_wait_for_cards_that_networkd_has_lost(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **NETPLAN, **NETWORKD, **WAIT_ONLINE, **NETWORKMANAGER}) as guest:
        perform(TASK, guest, NETWORKED, NM_NETWORKING="yes")
        assert guest.exists(WAITS_FOR_NOTHING)


def test_nothing_is_said_of_waiting_where_nobody_waits(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **NETWORKD, **NETWORKD_FILES}) as guest:
        perform(TASK, guest, replace(NETWORKED, nics=(KEPT_DOWN,)))
        assert not guest.exists(WAITS_FOR_NOTHING)


def test_yaml_of_netplan_is_retired_where_another_owns_the_network(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **NETPLAN, **NETWORKD, **NETWORKMANAGER}) as guest:
        perform(TASK, guest, NETWORKED, NM_NETWORKING="yes")
        assert guest.list_directory("/etc/netplan") == ("50-cloud-init.yaml.snf-image-bak",)


def test_dhcpcd_is_kept_from_cards_by_their_usual_names_and_keeps_its_settings(tmp_path: Path) -> None:
    with guest_in(
        tmp_path, {**SYSTEMD, **NETWORKD, **NETWORKD_FILES, **DHCPCD, f"{WANTS}/dhcpcd.service": ""}
    ) as guest:
        perform(TASK, guest, NETWORKED)
        assert text(guest, "/etc/dhcpcd.conf").endswith("denyinterfaces en* eth* nic*\nduid\npersistent\n")
        assert text(guest, "/etc/dhcpcd.conf.snf-image-bak") == DHCPCD["/etc/dhcpcd.conf"]


def test_cards_of_wicked_are_hidden_where_another_owns_the_network(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **NETWORKD, **NETWORKD_FILES, **WICKED}) as guest:
        perform(TASK, guest, NETWORKED)
        assert guest.list_directory("/etc/sysconfig/network") == (".ifcfg-eth0.snf-image-bak",)


def test_who_cannot_be_told_is_named_in_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**GENTOO, **DHCPCD, "/etc/runlevels/default/dhcpcd": ""}) as guest:
        (warning,) = perform(TASK, guest, NETWORKED).warnings
        assert warning == "netifrc starts at boot, too, and may take the cards from dhcpcd; turn one off"


MATCHES = {
    "[Match]\nName=en*\n": True,
    "[Match]\nName=eth0 wlan0\n": True,
    "[Match]\nName=*\n": True,
    "[Match]\nName=wlp* br0\n": False,
    "[Match]\nType=ether\nKind=!*\n": False,
    "[Match]\nType=wlan\n": False,
    "[Match]\nType=ether\n": True,
    f"[Match]\nMACAddress={MAC.upper()} 02:00:00:00:00:77\n": True,
    "[Match]\nMACAddress=02:00:00:00:00:77\n": False,
    "[Match]\n# MACAddress=02:00:00:00:00:77\nName=e*\n[Network]\nName=br0\n": True,
    "[Network]\nDHCP=yes\n": True,
}


@pytest.mark.parametrize(("content", "competes"), MATCHES.items())
def test_files_of_networkd_that_fit_a_card_are_retired_where_netplan_writes_them(
    tmp_path: Path, content: str, competes: bool
) -> None:
    path = "/etc/systemd/network/00-x.network"
    with guest_in(tmp_path, {**SYSTEMD, **NETPLAN, **NETWORKD, path: content}) as guest:
        perform(TASK, guest, NETWORKED)
        assert guest.exists(path) is not competes
        assert guest.exists(f"{path}.snf-image-bak") is competes


def test_netplan_keeps_networkmanager_from_the_cards_of_networkd(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **NETPLAN, **NETWORKD, **NETWORKMANAGER}) as guest:
        perform(TASK, guest, NETWORKED)
        assert 'renderer: "networkd"' in text(guest, "/etc/netplan/50-snf-image.yaml")
        assert MAC in text(guest, UNMANAGED)
        assert seen(guest, "/etc/netplan/50-snf-image.yaml")[2] == 0o600


@pytest.mark.parametrize(
    "owner", [IFUPDOWN, {**NETWORKD, **NETWORKD_FILES}, NETWORKMANAGER], ids=lambda tree: next(iter(tree))
)
def test_cloud_init_leaves_the_network_alone_also_where_it_was_not_asked_for(
    tmp_path: Path, owner: dict[str, str]
) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **owner, **CLOUD_INIT}) as guest:
        perform(TASK, guest, NETWORKED)
        told = json.loads(text(guest, "/etc/cloud/cloud.cfg.d/98_snf-image-50ConfigureNetwork.cfg"))
        assert told == {"network": {"config": "disabled"}}


def test_cloud_init_keeps_a_network_that_nobody_else_would_configure(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **CLOUD_INIT}) as guest:
        said = perform(TASK, guest, NETWORKED)
        assert guest.list_directory("/etc/cloud/cloud.cfg.d") == ("05_logging.cfg",)
        assert "its network is left as it is" in said.warnings[0]


SERVICES = {
    "wanted": ({**SYSTEMD, f"{WANTS}/x.service": ""}, True),
    "wanted by the distribution": ({**SYSTEMD, "/usr/lib/systemd/system/a.target.wants/x.service": ""}, True),
    "installed": ({**SYSTEMD, "/usr/lib/systemd/system/x.service": ""}, False),
    "a script without a unit": ({**SYSTEMD, "/etc/rc3.d/S10x": ""}, True),
    "a script beside a unit that is not wanted": (
        {**SYSTEMD, "/etc/rc3.d/S10x": "", "/usr/lib/systemd/system/x.service": ""},
        False,
    ),
    # Debian's openssh-server has its link for runit there also under sysvinit.
    "sysvinit with a link for runit": ({"/etc/runit/runsvdir/default/ssh": "", "/etc/rcS.d/S10x": ""}, True),
    "systemd beside another init": ({**SYSTEMD, "/sbin/init": "", "/etc/rc2.d/S01x": ""}, True),
    "another init that does not start it": (
        {**SYSTEMD, "/sbin/init": "", f"{WANTS}/x.service": "", "/etc/rc2.d/K01x": ""},
        False,
    ),
    "OpenRC": ({"/etc/runlevels/default/x": ""}, True),
    "OpenRC without it": ({"/etc/runlevels/default/y": ""}, False),
    "runit": ({"/etc/runit/runsvdir/default/x": ""}, True),
    "nobody knows": ({}, True),
}


@pytest.mark.parametrize(("files", "starts"), SERVICES.values(), ids=list(SERVICES))
def test_what_starts_is_read_from_the_links_of_each_init(tmp_path: Path, files: dict[str, str], starts: bool) -> None:
    with guest_in(tmp_path, files) as guest:
        assert is_started(guest, "x") is starts


@pytest.mark.parametrize("directory", ["/etc/systemd/system", "/usr/lib/systemd/system"])
def test_a_masked_service_does_not_start(tmp_path: Path, directory: str) -> None:
    with guest_in(tmp_path, {**SYSTEMD, f"{WANTS}/x.service": "", "/etc/rc3.d/S10x": ""}) as guest:
        guest.make_directory(directory)
        guest.symlink("/dev/null", f"{directory}/x.service")
        assert not is_started(guest, "x")
