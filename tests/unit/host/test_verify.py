# SPDX-License-Identifier: GPL-2.0-or-later
"""verify tells every fault of the OS parameters in one pass, shows no secret, and is silent about what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.parameters.osparams import OS_PARAMETERS, SECRET_PARAMETERS
from snf_image_host.parameters.typed_parameters import LARGEST_VALUE
from snf_image_host.verify import verify
from snf_image_shared.errors import ConfigurationError, RequestError

CANARY = "c4n4ry"
GOOD = {
    "IMG_ID": "debian-13.diskdump",
    "IMG_FORMAT": "diskdump",
    "IMG_CHECKSUM": "SHA256:" + "Ab" * 32,
    "IMG_PASSWD": "S3cret",
    "IMG_PROPERTIES": '{"OSFAMILY": "linux", "ROOT_PARTITION": 1}',
    "INST_PROPERTIES": '{"SWAP": "2:512"}',
    "IMG_PERSONALITY": '[{"path": "/a", "contents": "YQ=="}]',
    "AUTH_KEYS": "ssh-ed25519 AAAA a\nssh-ed25519 AAAA b\n",
    "CLOUD_USERDATA": "I2Nsb3Vk\nLWNvbmZpZwo=\n",
    "OS_PRODUCT_KEY": "AAAAA-BBBBB-12345-ddddd-EEEEE",
    "OS_ANSWER_FILE": "https://example.com/unattend.xml?a=b&c=(d)",
    "CONFIG_URL": "ftp://example.com/c",
    "HOSTNAME": "web1.example.com",
    "NETWORK": '{"nics": [{"index": 5, "addresses": ["192.0.2.7/24"]}]}',
    "SPEC": '{"img_id": "other", "network": {"nics": []}}',
}


def osp(parameters: Mapping[str, str]) -> dict[str, str]:
    """The environment of verify, as Ganeti makes it."""
    return {"OS_API_VERSION": "20", "OS_NAME": "snf-image", "DEBUG_LEVEL": "0"} | {
        f"OSP_{name}": value for name, value in parameters.items()
    }


def lines(root: Path, **parameters: str) -> tuple[str, ...]:
    """What verify says about these parameters."""
    with pytest.raises(RequestError) as caught:
        verify(osp(parameters), root)
    return caught.value.lines


def variant(root: Path, text: str) -> dict[str, str]:
    """The environment with a variant of that text."""
    directory = root / "etc/ganeti/snf-image/variants"
    directory.mkdir(parents=True)
    (directory / "x.conf").write_text(text)
    return {"OS_VARIANT": "x"}


@pytest.mark.row(10, 33)
def test_a_good_set_of_all_parameters_is_no_fault(tmp_path: Path) -> None:
    verify(osp(GOOD), tmp_path)


@pytest.mark.row(15)
@pytest.mark.parametrize("name", [None, *GOOD])
def test_a_partial_set_is_no_fault(tmp_path: Path, name: str | None) -> None:
    verify(osp({name: GOOD[name]} if name else {}), tmp_path)


@pytest.mark.row(15)
@pytest.mark.parametrize("name", OS_PARAMETERS)
def test_an_empty_parameter_is_no_fault(tmp_path: Path, name: str) -> None:
    verify(osp({name: ""}), tmp_path)


WRONG = [
    *(("IMG_FORMAT", text) for text in ("koko", "DISKDUMP", "diskdump ", "raw")),
    *(("IMG_PROPERTIES", text) for text in ("[]", "x", '{"A": []}', '{"A": 1, "a": 2}')),
    *(("INST_PROPERTIES", text) for text in ("[]", "x", '{"A": {}}')),
    *(("IMG_PERSONALITY", text) for text in ("{}", "x", '[{"path": "a", "contents": ""}]')),
    *(("IMG_PASSWD", text) for text in ("a\nb", "a\rb", "x" * 512, "ä" * 256)),
    *(("IMG_PASSWD_HASH", text) for text in ("a:b", "a\nb", "a b", "ä", "x" * 513)),
    *(("CLOUD_USERDATA", text) for text in ("a", "#cloud-config", "YQ=", "YQ==YQ==")),
    *(("OS_PRODUCT_KEY", text) for text in ("x", "AAAAA-BBBBB-CCCCC-DDDDD", "AAAAA-BBBBB-CCCCC-DDDDD-EEEE!")),
    *(("OS_PRODUCT_KEY", text) for text in ("AAAAA-BBBBB-CCCCC-DDDDD-EEEEE\n", "AAAAABBBBBCCCCCDDDDDEEEEE", "é" * 29)),
    *(("OS_ANSWER_FILE", url) for url in ("file:///etc/shadow", "gopher://x/", "x", "http:x", "http://", "https:///")),
    *(("CONFIG_URL", url) for url in ("file:///etc/shadow", "x", "http://a b/", "http://a/\n", "://x", "scp://x/y")),
    *(("IMG_CHECKSUM", text) for text in ("x", "md5:" + "a" * 32, "sha256:", "sha256:" + "a" * 63, "a" * 64)),
    *(("IMG_CHECKSUM", text) for text in ("sha512:" + "a" * 64, "sha256:" + "g" * 64, "sha256=" + "a" * 64)),
    *(("HOSTNAME", text) for text in ("-a", "a_b", "a..b", "a b", "a\n", "x" * 64, "192.0.2.7", "ä", ".", "$(id)")),
    *(("NETWORK", text) for text in ("x", "[]", '{"nics": [{}]}')),
    *(("SPEC", text) for text in ("x", "[]", '{"IMG_ID": "x"}', '{"img_id": 1}', '{"spec": "{}"}', '{"img_id": [1]}')),
    *((name, "a\udcffb") for name in OS_PARAMETERS),
    *((name, "a\0b") for name in OS_PARAMETERS),
    *(("IMG_ID", text) for text in ("a\nb", "local://", "pithos://a/b/c", "http:host/x", "x" * 300 + ":")),
]


@pytest.mark.parametrize("scheme", ["gopher", "https"])
def test_of_a_url_that_no_image_comes_from_only_the_scheme_is_shown(tmp_path: Path, scheme: str) -> None:
    env = variant(tmp_path, 'IMAGE_SCHEMES="http"\n')
    with pytest.raises(RequestError) as caught:
        verify(osp({"IMG_ID": f"{scheme}://user:canary1@canary2.example.com/canary3?canary4"}) | env, tmp_path)
    assert f"'{scheme}'" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_an_image_may_be_at_a_url_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    verify(osp({"IMG_ID": "https://user:password@nowhere.invalid/image?a=b&c=(d)"}), tmp_path)


def test_an_image_of_another_kind_may_stand_beside_a_url_that_may_name_a_better_one(tmp_path: Path) -> None:
    verify(osp({"IMG_ID": "pithosmap://map/123", "CONFIG_URL": "https://example.com/once"}), tmp_path)


@pytest.mark.row(11, 12)
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_parameter_that_can_never_work_is_refused_in_lower_case(tmp_path: Path, name: str, value: str) -> None:
    (line,) = lines(tmp_path, **{name: value})
    assert line.startswith(f"OS parameter {name.lower()}: ")
    assert line.isprintable()
    assert len(line) < 250


@pytest.mark.row(12)
@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "ftps", "HTTPS"])
@pytest.mark.parametrize("name", ["CONFIG_URL", "OS_ANSWER_FILE"])
def test_each_usual_scheme_is_allowed(tmp_path: Path, name: str, scheme: str) -> None:
    verify(osp({name: f"{scheme}://user:pw@[2001:db8::1]:8080/a?b#c"}), tmp_path)


@pytest.mark.row(12)
def test_the_administrator_says_which_schemes_are_allowed(tmp_path: Path) -> None:
    env = variant(tmp_path, 'FETCH_SCHEMES="file https"')
    verify(osp({"CONFIG_URL": "file:///srv/config.json"}) | env, tmp_path)
    with pytest.raises(RequestError, match=r"scheme 'http' is not one of file, https; .*FETCH_SCHEMES"):
        verify(osp({"CONFIG_URL": "http://example.com/"}) | env, tmp_path)


def test_every_fault_is_told_at_once_and_the_last_line_sums_up(tmp_path: Path) -> None:
    found = lines(tmp_path, IMG_FORMAT="koko", IMG_PASSWD="a\nb", NETWORK='{"nics": [{"index": 0, "mtu": 1, "x": 2}]}')
    assert [line.split(": ")[0] for line in found] == [
        "OS parameter img_format",
        "OS parameter network",
        "OS parameter network",
        "OS parameter img_passwd",
        "3 OS parameters are wrong",
    ]
    assert found[-1] == "3 OS parameters are wrong: img_format, network, img_passwd"
    assert lines(tmp_path, NETWORK='{"nics": [{"index": 0, "mtu": 1, "x": 2}]}')[2:] == (
        "OS parameter network is wrong in 2 places",
    )


def test_a_value_is_shown_cut_and_printable(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, IMG_FORMAT="x\x1b[2J\n" + "y" * 100)
    assert (
        line
        == r"OS parameter img_format: 'x\x1b[2J\n"
        + "y" * 54
        + "'... is not one of diskdump, extdump, ntfsdump, qcow2, vmdk, vhdx, vdi, auto, tarball, "
        + "dump; convert the image"
    )


@pytest.mark.row(13)
@pytest.mark.parametrize("password", ["", "x"])
@pytest.mark.parametrize("hashed", ["", "!"])
def test_password_and_hash_exclude_each_other(tmp_path: Path, password: str, hashed: str) -> None:
    (line,) = lines(tmp_path, IMG_PASSWD=password, IMG_PASSWD_HASH=hashed)
    assert line == (
        "OS parameter img_passwd_hash: img_passwd and img_passwd_hash exclude each other, empty or not; give one"
    )


@pytest.mark.row(13)
def test_a_password_that_comes_from_the_variant_is_said_to(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"give one; IMG_PASSWD is preset by the variant or snf-image\.conf"):
        verify(osp({"IMG_PASSWD_HASH": "!"}) | variant(tmp_path, "IMG_PASSWD=x"), tmp_path)


@pytest.mark.row(16)
def test_what_a_variant_presets_counts(tmp_path: Path) -> None:
    env = variant(tmp_path, "IMG_FORMAT=koko\n")
    with pytest.raises(RequestError, match="img_format: 'koko'"):
        verify(env, tmp_path)
    verify(env | {"OSP_IMG_FORMAT": "diskdump"}, tmp_path)


@pytest.mark.row(17)
def test_a_variant_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="variant 'none'"):
        verify({"OS_VARIANT": "none"}, tmp_path)


def test_a_checksum_beside_no_image_is_refused(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, IMG_ID="null", IMG_CHECKSUM="sha256:" + "a" * 64)
    assert line.startswith("OS parameter img_checksum: there is no image to check")


@pytest.mark.parametrize("kind", ["tarball", "dump"])
def test_a_layout_that_cannot_be_is_refused_for_an_image_that_is_no_disk_alone(tmp_path: Path, kind: str) -> None:
    wanted = {"IMG_ID": "x.tar", "INST_PROPERTIES": '{"FILESYSTEM": "jfs", "SWAP_SIZE": "1G"}'}
    assert lines(tmp_path, IMG_FORMAT=kind, **wanted) == (
        "OS parameter img_properties: property FILESYSTEM: 'jfs' is not one of ext2, ext3, ext4, xfs, btrfs",
        "OS parameter img_properties: property SWAP_SIZE: '1G' is not a number of MiB (there are 1048576 bytes in one)",
        "OS parameter img_properties is wrong in 2 places",
    )
    verify(osp({**wanted, "IMG_FORMAT": "diskdump"}), tmp_path)


def test_a_value_that_is_too_large_is_refused_without_a_look_at_it(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, NETWORK="[" * (LARGEST_VALUE + 1))
    assert line == f"OS parameter network: has {LARGEST_VALUE + 1} characters; the most is {LARGEST_VALUE}"


def test_members_of_a_spec_are_judged_like_the_parameters(tmp_path: Path) -> None:
    spec = {
        "img_format": "koko",
        "img_properties": {"A": {}},
        "network": {"nics": [{"index": 0, "mtu": 1}]},
        "img_personality": [{"path": "a", "contents": ""}],
    }
    found = lines(tmp_path, SPEC=json.dumps(spec))
    assert [line.split(": ")[0] for line in found[:-1]] == [
        f"OS parameter {name}" for name in ("img_properties", "img_format", "network", "img_personality")
    ]


@pytest.mark.row(43)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPEC", '{"img_passwd": 314159}'),
        ("SPEC", '{"cloud_userdata": true, "img_passwd": [314159]}'),
        ("SPEC", '{"img_personality": 314159}'),
        ("IMG_PERSONALITY", '[{"path": "/a", "contents": 314159}]'),
        ("IMG_PERSONALITY", '[{"path": "/a", "contents": "314159!"}]'),
        ("IMG_PERSONALITY", '[{"path": "/a", "mode": "314159"}]'),
        ("IMG_PERSONALITY", '["314159"]'),
    ],
)
def test_values_of_a_secret_document_are_not_shown(tmp_path: Path, name: str, value: str) -> None:
    assert "314159" not in "".join(lines(tmp_path, **{name: value}))


@pytest.mark.row(14)
def test_config_url_is_not_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            asked.append(str(self.client_address))

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/config"
            verify(osp({"CONFIG_URL": url, "OS_ANSWER_FILE": url}), tmp_path)
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


VALUES = st.text(max_size=30) | st.sampled_from(
    (
        *("", "\udcff", "\0", "\n", "[]", "{}", '[{"path": 1}]', "9" * 5000, "[" * 5000, "null", '{"a": "\\ud800"}'),
        *("http://", "default", "sha256:", '{"nics": [{"index": 0}]}', '{"network": {"nics": [{}]}, "img_passwd": 5}'),
    )
)


@pytest.mark.row(43)
@given(
    st.dictionaries(st.sampled_from(OS_PARAMETERS), VALUES, max_size=6),
    st.sets(st.sampled_from(sorted(SECRET_PARAMETERS))),
    st.sampled_from(
        (
            "{}",
            "{}\n",
            "{}:",
            "{}\udcff",
            '{{"{}": 1',
            '{{"img_passwd": ["{}"], "mtu": "{}"}}',
            "gopher://{}/",
            '[{{"path": "{}"}}]',
        )
    ),
)
def test_whatever_is_given_it_is_taken_or_refused_without_a_secret(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str], secret: set[str], form: str
) -> None:
    hidden = {name: form.format(CANARY, CANARY) for name in secret}
    try:
        verify(osp(values | hidden), tmp_path_factory.getbasetemp())
    except RequestError as error:
        assert CANARY not in str(error)
        assert all(line and "\n" not in line for line in error.lines)
