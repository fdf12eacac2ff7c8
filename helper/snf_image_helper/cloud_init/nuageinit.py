# SPDX-License-Identifier: GPL-2.0-or-later
"""The seed for a FreeBSD: what nuageinit of 14.3 and later understands, and cloud-init's port as well. Pure.

nuageinit finds a file system labelled "cidata", and reads meta-data, network-config and user-data alone; only what is
named here. Its own way of writing rc.conf for cards loses further addresses, the MTU beside DHCP, routes and routers'
advertisements, so that our variables take the place of what it wrote: files are put after that, and before the network
starts. 14.1 and 14.2 know neither files nor passwords: there name, keys of new users and simple addresses arrive.
Sources: freebsd-src libexec/nuageinit (nuageinit, nuage.lua, yaml.lua, nuageinit.7), libexec/rc/rc.d/nuageinit*.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import replace

from snf_image_helper import cloud_init
from snf_image_helper.bsd.network import freebsd
from snf_image_helper.bsd.network.ports import Facts, Files, ports_of
from snf_image_helper.cloud_init import Json, documents
from snf_image_helper.cloud_init.documents import LABEL, Orders
from snf_image_helper.cloud_init.files import INSTALL
from snf_image_helper.cloud_init.user_data import is_script, keys_of, merged
from snf_image_helper.files.block_yaml import block_yaml
from snf_image_helper.network.cards import Card, cards_of
from snf_image_helper.system import OsFamily
from snf_image_shared.job import Ipv4Method, Job, PersonalityFile

PROGRAM = "/usr/libexec/nuageinit"
DEFAULT_USER = "root"
_SCRIPT = "/var/db/snf-image-first-boot"  # every FreeBSD has the directory, and nuageinit makes none
_STORE = "/var/db/snf-image-personality"
_USER_SCRIPT = "/var/db/snf-image-user-data"
_SERVICES = ("network", "routing")  # whose scripts read rc.conf.d/NAME; rc.d/netif and dhclient read "network"
_CACHE = "/var/cache/nuageinit/user_data"
# A document that is left must name users: without one nuageinit makes "freebsd", with this as its password.
_NOTHING = "#cloud-config\\nusers:\\n- name: root\\n  lock_passwd: false\\n"
_CLEAR = f"""place=$(mktemp -d)
if mount -t msdosfs /dev/msdosfs/{LABEL} "$place"; then
    for file in "$place/vendor-data" "$place/user-data"; do
        dd if=/dev/zero of="$file" bs="$(($(wc -c < "$file")))" count=1 conv=notrunc 2> /dev/null
        printf '{_NOTHING}' > "$file"
    done
    umount "$place"
fi
rmdir "$place"
rm -f {_CACHE}"""


def seed(job: Job, orders: Orders) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The seed's files by name, and warnings. Raises GuestError for user-data that nuageinit does not understand."""
    network, warnings = _network(job) if orders.ethernets else (None, ())
    ethernets = {
        name: {key: value for key, value in ethernet.items() if key != "set-name"}
        for name, ethernet in orders.ethernets.items()
        if isinstance(ethernet, Mapping)
    }
    found = documents.documents(job, replace(orders, ethernets=ethernets), with_script=False)
    data = b"" if is_script(orders.user_data) else orders.user_data
    members = _members(job, orders, network)
    if "network" in keys_of(data):
        members["write_files"] = [_script_file(job, orders)]
        found.pop(cloud_init.NETWORK_CONFIG, None)  # nuageinit would take it in the place of the user's
    found[cloud_init.META_DATA] = _text({cloud_init.INSTANCE_ID: instance_id(job), cloud_init.NAME: orders.name})
    found[cloud_init.USER_DATA] = merged(data, members)
    more = ["The property SWAP has no effect: nuageinit makes none"] if orders.swap is not None else []
    more += ["The property LOCALE has no effect: nuageinit knows none"] if "locale" in orders.locale else []
    return found, (*warnings, *more)


def seed_beside_tasks(job: Job, name: str, data: bytes) -> dict[str, bytes]:
    """The seed of a guest in which tasks have done all but what the user-data asks for.

    Raises GuestError as seed() does.
    """
    orders = Orders(name, user_data=data)
    members: dict[str, Json] = {"users": [_user(DEFAULT_USER, "")]}
    members["write_files"] = [_script_file(job, orders)]
    members["runcmd"] = [f"sh {_SCRIPT}"]
    told = {cloud_init.NAME: name} if name else {}
    return {
        cloud_init.META_DATA: _text({cloud_init.INSTANCE_ID: instance_id(job), **told}),
        cloud_init.USER_DATA: merged(b"" if is_script(data) else data, members),
    }


def instance_id(job: Job) -> str:
    """As in every other seed."""
    return f"{job.instance}-{cloud_init.deployment(job)}"


def _members(job: Job, orders: Orders, network: Files | None) -> dict[str, Json]:
    """What the cloud-config says besides the user's own."""
    names = dict.fromkeys((*(job.wishes.text("USERS") or "").split(), *orders.hashes)) or {DEFAULT_USER: None}
    members: dict[str, Json] = {
        "fqdn": orders.name,
        "ssh_deletekeys": True,
        "users": [{**_user(name, orders.hashes.get(name, "")), **_keys(orders)} for name in names],
    }
    if orders.hashes:
        pairs = [{"name": name, "password": hashed, "type": "hash"} for name, hashed in orders.hashes.items()]
        members["chpasswd"] = {"expire": False, "users": pairs}
        members["ssh_pwauth"] = True
    if zone := orders.locale.get("timezone"):
        members["timezone"] = zone
    files = list(_network_files(network)) if network else []
    members["write_files"] = [*files, _script_file(job, orders)]
    members["runcmd"] = [f"sh {_SCRIPT}"]
    if network:
        # nuageinit before 14.3 takes it from here, every other one from network-config.
        members["network"] = {"ethernets": {f"nic{card.number}": _simple(card) for card in cards_of(job.nics)}}
    return members


def _user(name: str, hashed: str) -> dict[str, Json]:
    """pw(8) gives a new user without a password none at all: everybody could log in."""
    user: dict[str, Json] = {"name": name, "lock_passwd": False}
    return user if name == DEFAULT_USER else {**user, "passwd": hashed or "*"}


def _keys(orders: Orders) -> dict[str, Json]:
    return {"ssh_authorized_keys": list(orders.keys)} if orders.keys else {}


def _network(job: Job) -> tuple[Files, tuple[str, ...]]:
    ports = ports_of(cards_of(job.nics), job.nics, OsFamily.FREEBSD)
    files = freebsd.render(ports, Facts())
    return files, files.warnings


def _network_files(network: Files) -> list[Json]:
    """Variables of the image for all cards (DEFAULT) are not to reach one that is to be kept down."""
    variables = 'ifconfig_DEFAULT=""\n' + network.edited[freebsd.RC_CONF]
    texts = {f"/etc/rc.conf.d/{service}": variables for service in _SERVICES}
    if "rtsold_enable=" in variables:
        texts["/etc/rc.conf.d/rtsold"] = 'rtsold_enable="YES"\n'
    texts.update({path: file.text for path, file in network.rendered.files.items()})
    return [_file(path, text, "0644") for path, text in texts.items()]


def _file(path: str, text: str, mode: str) -> Mapping[str, Json]:
    content = binascii.b2a_base64(text.encode(), newline=False).decode("ascii")
    return {"path": path, "encoding": "b64", "content": content, "owner": "root:wheel", "permissions": mode}


def _script_file(job: Job, orders: Orders) -> Mapping[str, Json]:
    """nuageinit decodes base64 in the square of its length: the script does it itself."""
    inner = binascii.b2a_base64(_script(job, orders).encode(), newline=False).decode("ascii")
    steps = (
        f"b64decode -r << END > {_SCRIPT}.sh\n{_folded(inner)}END",
        f"sh {_SCRIPT}.sh",
        f"rm -f {_SCRIPT} {_SCRIPT}.sh",
    )
    content = "\n".join(("#!/bin/sh", "umask 077", *steps, ""))
    return {"path": _SCRIPT, "content": content, "owner": "root:wheel", "permissions": "0600"}


def _script(job: Job, orders: Orders) -> str:
    """What is done at the end of the first boot: files of the personality, the user's script, and no secret is left."""
    lines = []
    if orders.files:
        lines += [f"store={_STORE}", "mkdir -p -m 0700 $store", *INSTALL.split("\n")]
        for number, (file, content) in enumerate(orders.files.items()):
            lines += [*_decoded(f"$store/{number}", content), f"put {_words(number, file)}"]
    if is_script(orders.user_data):
        lines += [*_decoded(_USER_SCRIPT, orders.user_data), f"chmod 700 {_USER_SCRIPT}"]
        lines += [_USER_SCRIPT, f"rm -f {_USER_SCRIPT}"]
    if not job.cloud_init_debug:
        lines += _CLEAR.split("\n")
    return "\n".join((*lines, ""))


def _decoded(path: str, content: bytes) -> list[str]:
    text = _folded(binascii.b2a_base64(content, newline=False).decode("ascii"))
    return [f"b64decode -r << END > {path}", *text.splitlines(), "END"]


def _words(number: int, file: PersonalityFile) -> str:
    words = (str(number), file.owner or "0", file.group or "0", f"{file.mode & 0o7777:04o}", file.path)
    return " ".join(map(cloud_init.quote, words))


def _simple(card: Card) -> dict[str, Json]:
    """One address of a family, or DHCP: more would undo one another."""
    ethernet: dict[str, Json] = {"match": {"macaddress": card.mac}}
    if card.ipv4 is Ipv4Method.DHCP:
        return {**ethernet, "dhcp4": True}
    addresses = [str(stack.addresses[0]) for stack in (card.v4, card.v6) if stack.addresses]
    ethernet.update({"addresses": addresses} if addresses else {})
    for key, stack in (("gateway4", card.v4), ("gateway6", card.v6)):
        if addresses and stack.gateway and stack.gateway.gateway:
            ethernet[key] = stack.gateway.gateway
    return ethernet


def _folded(text: str) -> str:
    return "".join(f"{text[start : start + 76]}\n" for start in range(0, len(text), 76))


def _text(members: Mapping[str, Json]) -> bytes:
    return "".join(f"{line}\n" for line in block_yaml(members)).encode()
