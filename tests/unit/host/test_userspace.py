# SPDX-License-Identifier: GPL-2.0-or-later
"""URIs of disks, as Ganeti and its storage providers print them, and the options of QEMU's that they become."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.disks.userspace import parse_uri
from snf_image_shared.errors import RequestError

CANARY = "Canary-5e1f-key"


def inet(host: str, port: str) -> dict[str, str]:
    return {"type": "inet", "host": host, "port": port}


@pytest.mark.row(66)
@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("rbd:pool/image", {"driver": "rbd", "pool": "pool", "image": "image"}),
        ("rbd:pool/image:id=ganeti", {"driver": "rbd", "pool": "pool", "image": "image", "user": "ganeti"}),
        ("kvm:rbd:image", {"driver": "rbd", "pool": "rbd", "image": "image"}),
        (
            r"rbd:p\:1/space/i@snap:conf=/etc/ceph/b\:x.conf",
            {
                "driver": "rbd",
                "pool": "p:1",
                "image": "i",
                "namespace": "space",
                "snapshot": "snap",
                "conf": "/etc/ceph/b:x.conf",
            },
        ),
        ("nbd://host", {"driver": "nbd", "server": inet("host", "10809")}),
        ("nbd+tcp://[::1]:5/a%20b", {"driver": "nbd", "server": inet("::1", "5"), "export": "a b"}),
        ("nbd:host:1234:exportname=e,readonly=off", None),
        (
            "gluster://192.0.2.1:24007/gv0/ganeti/a.0",
            {"driver": "gluster", "volume": "gv0", "path": "ganeti/a.0", "server": [inet("192.0.2.1", "24007")]},
        ),
        ("gluster+tcp://h/v/p", {"driver": "gluster", "volume": "v", "path": "p", "server": [inet("h", "24007")]}),
        ("gluster+rdma://h/v/p", {"driver": "gluster", "volume": "v", "path": "p", "server": [inet("h", "24007")]}),
        (
            "gluster+unix:///v/p?socket=/run/g%2Cd",
            {"driver": "gluster", "volume": "v", "path": "p", "server": [{"type": "unix", "path": "/run/g,d"}]},
        ),
        (
            "iscsi://h:1/iqn.2001-04.com.example:a/2",
            {"driver": "iscsi", "transport": "tcp", "portal": "h:1", "target": "iqn.2001-04.com.example:a", "lun": 2},
        ),
        (
            "iser://[2001:db8::1]/t/0",
            {"driver": "iscsi", "transport": "iser", "portal": "[2001:db8::1]:3260", "target": "t", "lun": 0},
        ),
        (
            "ssh://user@h/srv/disk?host_key_check=sha256:aa",
            {
                "driver": "ssh",
                "server": {"host": "h", "port": "22"},
                "path": "/srv/disk",
                "user": "user",
                "host-key-check": {"mode": "hash", "type": "sha256", "hash": "aa"},
            },
        ),
    ],
)
def test_a_uri_becomes_the_options_of_one_driver(uri: str, options: dict[str, object] | None) -> None:
    if options is None:  # what looks like an option of QEMU's is part of a name
        assert parse_uri(uri, "DISK_0_URI").options["export"] == "e,readonly=off"
    else:
        assert parse_uri(uri, "DISK_0_URI").options == options


@pytest.mark.parametrize(
    "uri",
    ["nbd:unix:/run/a b,c:exportname=e", "nbd+unix:///e?socket=/run/a%20b%2Cc", "kvm:nbd:unix:/run/a b,c:exportname=e"],
)
def test_a_socket_of_the_node_is_for_us_to_open(uri: str) -> None:
    node = parse_uri(uri, "DISK_0_URI")
    assert (node.socket, node.options["export"]) == ("/run/a b,c", "e")


@pytest.mark.parametrize(
    ("uri", "option", "name"),
    [
        (f"rbd:p/i:id=x:key={CANARY}", "key-secret", "rbd:p/i"),
        (f"iscsi://user%{CANARY}@h/t/0", "password-secret", "iscsi://h/t/0"),
    ],
)
def test_a_secret_is_apart_from_what_is_shown_and_passed_on(uri: str, option: str, name: str) -> None:
    node = parse_uri(uri, "DISK_0_URI")
    assert node.secrets == {option: CANARY}
    assert node.name == name
    assert CANARY not in json.dumps(dict(node.options)) + repr(node)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "what it says is no kind of disk that is known here"),
        ("file:/etc/passwd", "rbd, ssh"),
        ('json:{"driver":"file"}', "'json:...' is no kind of disk that is known here"),
        ("sheepdog://x/y", "gluster, gluster"),
        ("/dev/sda", "is no kind of disk"),
        (f"{CANARY[:6]}%{CANARY}@h:0", "what it says is no kind of disk"),
        ("rbd:", "POOL/IMAGE"),
        ("rbd:a/b/c/d", "POOL/IMAGE"),
        ("rbd:a/b@", "POOL/IMAGE"),
        ("rbd:a/b:mon_host=x", "put it into a file and name that with conf"),
        ("nbd:unix:relative", "absolute path"),
        ("nbd:host", "no host and port"),
        ("nbd://host:123456/", "that can be read"),
        ("nbd://host/e?x=1", "has a query"),
        (f"nbd://u:{CANARY}@host/e", "has a user"),
        (f"gluster://{CANARY}@h/v/p", "has a user"),
        (f"iscsi://u:{CANARY}@h/t/0", "iscsi://USER%PASSWORD"),
        ("nbd+unix:///e", "socket="),
        ("nbd+unix://host/e?socket=/a", "has a host"),
        ("gluster://h/volume", "gluster://HOST/VOLUME/PATH"),
        ("iscsi://h/target", "iscsi://"),
        ("iscsi://h/t/0#x", "write it as %23"),
        ("ssh://u:pw@h/x", "a password cannot be given"),
        ("ssh://h/x?host_key_check=maybe", "host_key_check"),
        ("nbd:unix:/a\nb", "not printable"),
        ("nbd:unix:/" + "a" * 5000, "too long"),
    ],
)
def test_what_is_no_such_uri_is_refused_with_a_reason(uri: str, reason: str) -> None:
    with pytest.raises(RequestError, match=f"^DISK_3_URI: .*({reason})"):
        parse_uri(uri, "DISK_3_URI")


@given(
    scheme=st.sampled_from(["rbd", "nbd", "nbd+unix", "gluster", "iscsi", "iser", "ssh", "file", "json"]),
    before=st.sampled_from(["", "//", "//u:", "//u%", "p/i:key=", "//h:1/x?password=", "p/i:other=", "unix:"]),
    after=st.text(max_size=20) | st.sampled_from(["@h/t/0", "@h/p", ":id=x", "@h"]),
)
def test_no_uri_breaks_the_parser_and_no_message_shows_a_credential(scheme: str, before: str, after: str) -> None:
    try:
        parse_uri(f"{scheme}:{before}{CANARY}{after}", "DISK_0_URI")
    except RequestError as error:
        assert CANARY not in str(error)
        assert "\n" not in str(error)
