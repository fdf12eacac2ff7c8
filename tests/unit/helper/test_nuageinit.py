# SPDX-License-Identifier: GPL-2.0-or-later
"""Seeds for FreeBSD's nuageinit, read as nuageinit reads them; nothing is booted here.

The model below is written from freebsd-src libexec/nuageinit of 2025 (nuageinit, nuage.lua) and nuageinit.7: what it
does with a key, in which order, and what it does not look at. Shell scripts are run by a real shell.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from network_inputs import INPUTS, mac
from phony_guests.bsd import GUESTS
from snf_image_helper.cloud_init import Json, nuageinit, seed_orders
from snf_image_helper.cloud_init.documents import Orders
from snf_image_helper.cloud_init.user_data import keys_of, merged
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.bsd.initialize_datasource import TASK
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Nic, PersonalityFile, Secrets
from unit.helper.bsd_network_readers import freebsd, shell_variables
from unit.helper.disk_images import Listener, filled, image, private_mounts, sh
from unit.helper.guest_trees import JOB, guest_in, perform, put, text
from unit.helper.test_bsd_network import expected
from unit.helper.test_cloud_init_partition import files_on
from unit.helper.test_passwords import verifies

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me@home"
EXISTING = {"root": "/root", "admin": "/home/admin"}


@dataclass
class System15:
    """A FreeBSD after its first boot."""

    root: Path
    names: Mapping[str, str]  # of cards by hardware address
    hostname: str = ""
    users: dict[str, str] = field(default_factory=dict)  # those that are made, and their passwords
    keys: dict[str, list[str]] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    timezone: str = ""

    def boot(self, seed: Mapping[str, bytes]) -> None:
        """rc.d/nuageinit, nuageinit_post_net, and the start of nuageinit_user_data_script."""
        meta = yaml.safe_load(seed["meta-data"])
        data = seed["user-data"].decode()
        first, _, rest = data.partition("\n")
        if not rest.strip():
            self.users["freebsd"] = "freebsd"
            return
        if first.startswith("#!"):
            self.commands.append("user_data")
        if first != "#cloud-config":
            return
        found = yaml.safe_load(data)
        self.hostname = found.get("fqdn") or found.get("hostname") or meta.get("local-hostname", "")
        self.timezone = found.get("timezone", "")
        if "users" not in found or "default" in found["users"]:
            self.users["freebsd"] = "freebsd"
        network = yaml.safe_load(seed["network-config"]) if "network-config" in seed else found.get("network")
        if network:
            self._network(network["ethernets"])
        self.commands += found.get("runcmd", [])
        self._files(found, deferred=False)
        for user in found.get("users", []):
            if isinstance(user, dict):
                self._user(user)
        for pair in found.get("chpasswd", {}).get("users", []):
            assert pair.get("type") != "text"
            self.passwords[pair["name"]] = pair["password"]
        self._files(found, deferred=True)

    def _user(self, user: Mapping[str, Any]) -> None:
        name = user["name"]
        if name not in EXISTING:
            self.users[name] = user.get("passwd", "")  # pw useradd -w none
        self.keys.setdefault(name, []).extend(user.get("ssh_authorized_keys", []))

    def _network(self, ethernets: Mapping[str, Any]) -> None:
        """Its own words, some of which a shell does not take for what was meant."""
        lines, routes = [], []
        for card in ethernets.values():
            name = self.names[card["match"]["macaddress"]]
            assert "set-name" not in card
            more = f" mtu {card['mtu']}" if "mtu" in card else ""
            if card.get("dhcp4"):
                lines.append(f'ifconfig_{name}="DHCP"{more}')
                continue
            for address in card.get("addresses", []):
                family = "_ipv6" if ":" in address else ""
                lines.append(f'ifconfig_{name}{family}="inet{family[3:]} {address}{more}"')
            for key, variable in (("gateway4", "defaultrouter"), ("gateway6", "ipv6_defaultrouter")):
                if key in card:
                    routes.append(f'{variable}="{card[key]}"')
        for service, written in (("network", lines), ("routing", routes)):
            put(self.root, {f"/etc/rc.conf.d/{service}": "".join(f"{line}\n" for line in written)})

    def _files(self, found: Mapping[str, Any], *, deferred: bool) -> None:
        for file in found.get("write_files", []):
            if bool(file.get("defer")) is deferred:
                content = file["content"]
                if file.get("encoding"):
                    # Quadratic in the length: nothing large is to come this way.
                    assert file["encoding"] == "b64"
                    assert len(content) < 8192
                    content = base64.b64decode(content, validate=True).decode()
                place = self.root / file["path"].lstrip("/")
                place.parent.stat()  # nobody makes it
                place.write_text(content)
                place.chmod(int(file["permissions"], 8))


FILE = "/etc/deep/er/file"


def ordered(nics: Sequence[Nic] = (), **wishes: str) -> Job:
    return replace(
        JOB,
        seed="00ff",
        properties={"CLOUD_INIT": "yes", "CLOUD_INIT_SEED": "partition", "OSFAMILY": "freebsd", **wishes},
        secrets=Secrets("secret", None, KEY),
        personality=(PersonalityFile(FILE, base64.b64encode(b"\0hello'\n" * 3000).decode(), mode=0o640),),
        nics=tuple(nics),
    )


def with_user_data(job: Job, data: bytes) -> Job:
    return replace(job, secrets=replace(job.secrets, cloud_userdata=base64.b64encode(data).decode()))


def seed_of(job: Job) -> dict[str, bytes]:
    return nuageinit.seed(job, seed_orders.orders_of(job, Listener().reporter))[0]


def booted(tmp_path: Path, job: Job, seed: Mapping[str, bytes] | None = None) -> System15:
    system = System15(tmp_path / "root", {nic.mac: f"vtnet{number}" for number, nic in enumerate(job.nics)})
    for directory in ("etc/rc.conf.d", "var/db", "root"):
        (system.root / directory).mkdir(parents=True, exist_ok=True)
    system.boot(seed or seed_of(job))
    return system


@pytest.mark.row(169)
def test_name_keys_passwords_and_time_zone_arrive(tmp_path: Path) -> None:
    system = booted(tmp_path, ordered(USERS="root admin", TIMEZONE="Europe/Athens"))
    assert (system.hostname, system.timezone) == ("web.example.com", "Europe/Athens")
    assert system.keys == {"root": [KEY], "admin": [KEY]}
    assert system.passwords.keys() == {"root", "admin"}
    assert all(verifies("secret", hashed) for hashed in system.passwords.values())
    assert system.users == {}


def test_nobody_is_made_whose_password_everybody_knows(tmp_path: Path) -> None:
    job = replace(ordered(USERS="newcomer"), secrets=Secrets(), personality=())
    for number, data in enumerate((b"", b"#cloud-config\n", b"#!/bin/sh\n", b"#cloud-config\nruncmd:\n- date\n")):
        system = booted(tmp_path / str(number), with_user_data(job, data))
        assert system.users == {"newcomer": "*"}


@pytest.mark.row(174)
@pytest.mark.parametrize("name", INPUTS)
def test_the_cards_get_what_was_asked_for(tmp_path: Path, name: str) -> None:
    system = booted(tmp_path, ordered(INPUTS[name]))
    files = {
        f"/{path.relative_to(system.root)}": path.read_text()
        for path in (system.root / "etc").rglob("*")
        if path.is_file()
    }
    services = [path for path in files if path.startswith("/etc/rc.conf.d/")]
    # What a published image says of all cards, and then what each service reads besides.
    image_says = 'ifconfig_DEFAULT="SYNCDHCP accept_rtadv"\n'
    files["/etc/rc.conf"] = image_says + "".join(files[path] for path in services)
    assert files["/etc/rc.conf.d/network"] == files["/etc/rc.conf.d/routing"]
    names = [f"vtnet{number}" for number in range(len(INPUTS[name]))]
    kernel, (cards, routes) = freebsd(files, names), expected(INPUTS[name], "freebsd")
    for own, card in kernel.cards.items():
        # No port of dhcp6 is known to be there.
        clients = {"ra"} & cards[own].clients | {"dhcp4"} & cards[own].clients
        assert (card.up, card.mtu, card.clients) == (cards[own].up, cards[own].mtu, clients)
    assert routes.items() <= kernel.routes.items()


@pytest.mark.row(169, 171)
def test_the_first_boot_puts_files_runs_the_users_script_and_leaves_no_secret(tmp_path: Path) -> None:
    script = b'#!/bin/sh\ncat\necho "it\'s" > $ROOT/ran\n'
    job = with_user_data(ordered(INPUTS["static4"]), script)
    seed = seed_of(job)
    system = booted(tmp_path, job, seed)
    assert system.commands == ["sh /var/db/snf-image-first-boot"]
    run_first_boot(tmp_path, system, seed)
    installed = system.root / FILE.lstrip("/")
    assert installed.read_bytes() == b"\0hello'\n" * 3000
    assert (installed.stat().st_mode & 0o777, installed.parent.stat().st_mode & 0o777) == (0o640, 0o750)
    assert (system.root / "ran").read_text() == "it's\n"
    assert sorted(path.name for path in (system.root / "var/db").iterdir()) == ["snf-image-personality"]
    assert not list((system.root / "var/db/snf-image-personality").iterdir())
    left = {path.name: path.read_bytes() for path in (tmp_path / "media").iterdir()}
    assert left.keys() == seed.keys()
    for name in ("user-data", "vendor-data"):
        assert yaml.safe_load(left[name]) == {"users": [{"name": "root", "lock_passwd": False}]}
    assert not (system.root / "var/cache/nuageinit/user_data").exists()
    # Were the seed read once more, nobody would be made.
    again = booted(tmp_path / "again", job, left)
    assert (again.users, again.passwords) == ({}, {})


def run_first_boot(tmp_path: Path, system: System15, seed: Mapping[str, bytes]) -> None:
    """By dash, with paths of the guest below its root and FreeBSD's commands as far as they are other ones."""
    (tmp_path / "media").mkdir()
    for name, content in seed.items():
        (tmp_path / "media" / name).write_bytes(content)
    put(system.root, {"/var/cache/nuageinit/user_data": seed["user-data"]})
    commands = tmp_path / "commands"
    put(
        commands,
        {"b64decode": '#!/bin/sh\n[ "$1" = -r ] && base64 -d | sed "s:/var/:$ROOT/var/:g; s:/etc/:$ROOT/etc/:g"\n'},
    )
    mount = f'[ "$1 $2 $3" = "-t msdosfs /dev/msdosfs/cidata" ] && rmdir "$4" && ln -s {tmp_path}/media "$4"'
    put(commands, {"mount": f"#!/bin/sh\n{mount}\n", "chown": "#!/bin/sh\n"})
    put(commands, {"umount": '#!/bin/sh\nrm "$1" && mkdir "$1"\n'})
    for command in commands.iterdir():
        command.chmod(0o755)
    file = system.root / "var/db/snf-image-first-boot"
    file.write_text(file.read_text().replace("/var/db", f"{system.root}/var/db"))
    environment = {"PATH": f"{commands}:/usr/bin:/bin", "ROOT": str(system.root)}
    subprocess.run(["sh", str(file)], env=environment, check=True, stdin=subprocess.DEVNULL, timeout=60)


def test_debugging_keeps_what_would_be_cleared() -> None:
    script = nuageinit.seed(replace(ordered(), cloud_init_debug=True), Orders("web"))[0]["user-data"]
    assert b"msdosfs" not in base64_of_script(script)
    assert b"msdosfs" in base64_of_script(seed_of(ordered())["user-data"])


def base64_of_script(user_data: bytes) -> bytes:
    content = yaml.safe_load(user_data)["write_files"][-1]["content"]
    return base64.b64decode("".join(content.split("END")[1].split("\n")[1:]))


def test_older_readers_of_yaml_find_no_escaped_quotes() -> None:
    """yaml.lua of 14.1 ends a text at the first quotation mark."""
    found = seed_of(ordered(INPUTS["routes-and-addresses"], USERS="root admin"))
    for name in ("meta-data", "user-data"):
        assert not re.search(rb'\\["\\]', found[name])
        assert all(line.count(b'"') in {0, 2} for line in found[name].splitlines())


def test_what_nuageinit_cannot_do_is_told() -> None:
    job = ordered(SWAP="2:64", LOCALE="de_DE.UTF-8")
    warnings = nuageinit.seed(job, seed_orders.orders_of(job, Listener().reporter))[1]
    assert [warning.split(" has")[0] for warning in warnings] == ["The property SWAP", "The property LOCALE"]


def test_excluded_tasks_are_left_out() -> None:
    excluded = ("CHANGEPASSWORD", "ENFORCEPERSONALITY", "CONFIGURENETWORK")
    job = ordered(INPUTS["static4"], **{f"EXCLUDE_TASK_{name}": "yes" for name in excluded})
    seed = seed_of(job)
    found = yaml.safe_load(seed["user-data"])
    assert found.keys() == {"fqdn", "ssh_deletekeys", "users", "write_files", "runcmd"}
    assert found["users"] == [{"name": "root", "lock_passwd": False}]
    assert "network-config" not in seed


# ---- the user's own document

USERS_DOCUMENT = b"""#cloud-config
# mine
packages:
  - vim
runcmd:
    # first
    - touch /mine
    - [echo, two]
write_files:
- path: /mine
  content: |
    runcmd: not a key
chpasswd: {expire: false}
"""


def test_a_users_document_keeps_its_own_and_gets_ours_in_its_lists() -> None:
    found = yaml.safe_load(seed_of(with_user_data(ordered(), USERS_DOCUMENT))["user-data"])
    assert found["runcmd"] == ["sh /var/db/snf-image-first-boot", "touch /mine", ["echo", "two"]]
    assert [file["path"] for file in found["write_files"]] == ["/var/db/snf-image-first-boot", "/mine"]
    assert found["write_files"][1]["content"] == "runcmd: not a key\n"
    assert found["chpasswd"] == {"expire": False}
    assert (found["packages"], found["fqdn"]) == (["vim"], "web.example.com")


def test_a_users_own_network_is_the_only_one(tmp_path: Path) -> None:
    data = b"#cloud-config\nnetwork:\n  ethernets:\n    a:\n      match: {macaddress: '%s'}\n      dhcp4: true\n"
    job = with_user_data(ordered(INPUTS["static4"]), data % mac(1).encode())
    system = booted(tmp_path, job)
    rc = shell_variables((system.root / "etc/rc.conf.d/network").read_text())
    assert rc["ifconfig_vtnet0"] == "DHCP"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Content-Type: multipart/mixed\n", "begins with 'Content-Type: multipart/mixed'"),
        (b"\x1f\x8b\x08gzip", "no text in UTF-8"),
        (b"#include\nhttp://example.com\n", "begins with '#include'"),
        (b"#cloud-config\nruncmd: [date]\n", "runcmd is no list with an item a line"),
        (b"#cloud-config\nwrite_files:\nother: 1\n", "write_files is no list"),
        (b"#cloud-config\n---\nruncmd:\n- a\n", "more than one document"),
        (b"#cloud-config\n{runcmd: [date]}\n", "no key at the beginning of a line"),
        (b"#cloud-config \n  runcmd:\n  - date\n", "no key at the beginning of a line"),
    ],
)
def test_what_nuageinit_would_not_understand_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GuestError, match=re.escape(message)):
        seed_of(with_user_data(ordered(), data))


plain = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12)
values = st.recursive(
    st.one_of(st.booleans(), st.integers(), plain),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["a", "b-c", "fqdn", "packages", "timezone", "x_1"]), values, max_size=4)
lists = st.dictionaries(
    st.sampled_from(["users", "runcmd", "write_files"]),
    st.lists(st.one_of(plain, st.dictionaries(st.sampled_from("ab"), plain, min_size=1)), min_size=1, max_size=3),
    max_size=2,
)


@settings(max_examples=40, deadline=None)
@given(documents, lists, st.booleans())
def test_any_document_in_block_style_is_merged(own: dict[str, Any], more: dict[str, Any], crlf: bool) -> None:
    document = {**own, **more}
    body = yaml.safe_dump(document, default_flow_style=False, allow_unicode=True) if document else ""
    data = f"#cloud-config\n{body}".replace("\n", "\r\n" if crlf else "\n").encode()
    items: dict[str, list[Any]] = {
        "users": [{"name": "root"}],
        "runcmd": ["sh x"],
        "write_files": [{"path": "/x", "content": "a\nb"}],
    }
    ours: dict[str, Json] = {"fqdn": "web", **items}
    result = merged(data, ours)
    assert result.startswith(b"#cloud-config\n")
    found = yaml.safe_load(result)
    for key in document.keys() | ours.keys():
        if key in more:
            assert found[key] == [*items[key], *document[key]]
        else:
            assert found[key] == document.get(key, ours.get(key))


def test_keys_of_the_top_level_alone_are_keys() -> None:
    assert keys_of(USERS_DOCUMENT) == {"packages", "runcmd", "write_files", "chpasswd"}


# ---- where the seed goes

ZFS = "516E7CBA-6ECF-11D6-8FF8-00022D09712B"
# As release/tools/vmimage.subr lays it out: boot, swap, and the pool last.
BOOT = "83BD6B9D-7F41-11DC-BE0B-001560B84F0F"
ZFS_DISK = f"label: gpt\nstart=1MiB, size=1MiB, type={BOOT}\nstart=2MiB, size=20MiB, type={ZFS}\n"


@pytest.mark.row(168)
@pytest.mark.root
def test_a_freebsd_on_zfs_gets_a_seed_that_nuageinit_understands(tmp_path: Path) -> None:
    job = ordered(INPUTS["static4"])
    job = replace(job, properties={key: value for key, value in job.properties.items() if key != "OSFAMILY"})
    with private_mounts(), image(tmp_path / "disk", ZFS_DISK, {}, mib=32, grow_to=64) as disk:
        disk.reload()
        pool = Path(disk.partition_device(2)).read_bytes()
        seed_orders.write_seed(disk, job, Listener().reporter)
        found = files_on(disk.partition_device(3), tmp_path / "place")
        first = Path(disk.device).read_bytes()
        seed_orders.write_seed(disk, job, Listener().reporter)
        assert Path(disk.device).read_bytes() == first
        assert Path(disk.partition_device(2)).read_bytes() == pool
        label = sh("blkid", "-p", "-o", "value", "-s", "LABEL", disk.partition_device(3))
    assert label.strip() == "cidata"
    assert booted(tmp_path, job, found).hostname == "web.example.com"
    assert b"secret" not in b"".join(found.values())


@pytest.mark.parametrize(
    ("kind", "wishes", "answer"),
    [
        ("0FC63DAF-8483-4772-8E79-3D69D8477DE4", {}, False),
        (ZFS, {"OSFAMILY": "linux"}, False),
        (ZFS, {}, True),
        ("0FC63DAF-8483-4772-8E79-3D69D8477DE4", {"OSFAMILY": "FreeBSD"}, True),
    ],
)
@pytest.mark.root
def test_who_reads_the_seed_is_told_by_the_family_or_the_partitions(
    tmp_path: Path, kind: str, wishes: dict[str, str], answer: bool
) -> None:
    with private_mounts(), image(tmp_path / "disk", f"label: gpt\nsize=8MiB, type={kind}\n", {}, mib=16) as disk:
        assert seed_orders.is_freebsd(disk, replace(JOB, properties=wishes)) is answer


PHONY = {guest.name: guest for guest in GUESTS}


def bsd(tmp_path: Path, name: str, family: OsFamily = OsFamily.FREEBSD) -> Guest:
    PHONY[name].make(tmp_path / "guest")
    guest = guest_in(tmp_path / "guest")
    guest.system = System(family, 1)
    return guest


def datasource(data: bytes = b"", **wishes: str) -> Job:
    return with_user_data(replace(JOB, seed="00ff", properties={"CLOUD_INIT": "yes", **wishes}), data)


@pytest.mark.row(168)
@pytest.mark.root
def test_nuageinit_gets_the_users_data_on_a_partition_and_is_switched_on(tmp_path: Path) -> None:
    layout = "label: gpt\nstart=1MiB, size=20MiB\n"
    with private_mounts(), image(tmp_path / "disk", layout, {1: ("mkfs.ext4", "-q")}, mib=32) as disk:
        disk.reload()
        # The root is mounted meanwhile.
        with filled(disk.partition_device(1), "ext4"), bsd(tmp_path, "phony-freebsd-15.0") as guest:
            guest.disk = disk
            guest.remove("/firstboot")
            guest.write_text("/etc/rc.conf", 'nuageinit_enable="NO"\n')
            assert perform(TASK, guest, datasource(b"#cloud-config\npackages:\n- vim\n")).warnings == []
            assert shell_variables(text(guest, "/etc/rc.conf"))["nuageinit_enable"] == "YES"
            assert guest.is_file("/firstboot")
        found = files_on(disk.partition_device(2), tmp_path / "place")
    assert found.keys() == {"meta-data", "user-data"}
    system = booted(tmp_path / "booted", JOB, found)
    assert (system.hostname, system.users) == ("web.example.com", {})
    assert yaml.safe_load(found["user-data"])["packages"] == ["vim"]


@pytest.mark.root
def test_without_user_data_nuageinit_gets_no_seed(tmp_path: Path) -> None:
    with bsd(tmp_path, "phony-freebsd-15.0") as guest:
        warnings = perform(TASK, guest, datasource()).warnings
        assert len(warnings) == 1
        assert "nuageinit gets no seed" in warnings[0]


@pytest.mark.root
def test_a_nuageinit_that_could_not_start_the_users_script_is_an_error(tmp_path: Path) -> None:
    with bsd(tmp_path, "phony-freebsd-15.0") as guest:
        guest.write_text("/usr/libexec/nuageinit", "#!/usr/libexec/flua\n-- as that of 14.2\n")
        with pytest.raises(GuestError, match="knows no write_files"):
            perform(TASK, guest, datasource(b"#!/bin/sh\ndate\n"))


@pytest.mark.row(168)
@pytest.mark.root
def test_the_port_of_cloud_init_gets_its_seed_in_a_directory(tmp_path: Path) -> None:
    with bsd(tmp_path, "phony-freebsd-14.3") as guest:
        put(Path(guest.root), {"/usr/local/etc/cloud/cloud.cfg.d/05.cfg": "", "/usr/local/etc/rc.d/cloudinit": ""})
        data = b"#cloud-config\nruncmd: [date]\n"
        perform(TASK, guest, datasource(data))
        seed = "/var/lib/cloud/seed/nocloud-net"
        assert text(guest, f"{seed}/user-data").encode() == data
        assert json.loads(text(guest, f"{seed}/meta-data"))["local-hostname"] == "web.example.com"
        assert shell_variables(text(guest, "/etc/rc.conf"))["cloudinit_enable"] == "YES"
        assert guest.is_file("/usr/local/etc/cloud/cloud.cfg.d/98_snf-image-35InitializeDatasource.cfg")
        before = {path: path.lstat().st_mtime_ns for path in Path(guest.root).rglob("*")}
        perform(TASK, guest, datasource(data))
        assert {path: path.lstat().st_mtime_ns for path in Path(guest.root).rglob("*")} == before


@pytest.mark.row(173)
@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("phony-freebsd-13.5", OsFamily.FREEBSD),
        ("phony-netbsd-10.1", OsFamily.NETBSD),
        ("phony-openbsd-7.6", OsFamily.OPENBSD),
    ],
)
def test_a_guest_with_neither_is_an_error(tmp_path: Path, name: str, family: OsFamily) -> None:
    with bsd(tmp_path, name, family) as guest, pytest.raises(GuestError, match=f"this {family} has neither"):
        perform(TASK, guest, datasource())
