# SPDX-License-Identifier: GPL-2.0-or-later
"""The document behind config_url, from a real server that answers once, becomes OS parameters that override all."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_server import Answer, HttpServer, http_server
from snf_image_host.configuration.settings import Settings
from snf_image_host.ganeti import Request
from snf_image_host.parameters.config_url import fetched, read_document
from snf_image_host.parameters.osparams import OS_PARAMETERS, os_parameters
from snf_image_host.vm.jobs import job_for
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Job

CANARY = "c4n4ry-in-the-document"
PATH = "/0123-one-shot"
ENVIRONMENT = {
    "OS_API_VERSION": "20",
    "INSTANCE_NAME": "inst1.ganeti.lab",
    "HYPERVISOR": "kvm",
    "DISK_COUNT": "1",
    "DISK_0_PATH": "/srv/ganeti/x.file.disk0",
}
# As Cyclades serves it, with properties and files as JSON in text.
CYCLADES = {
    "img_id": "pithosmap://0123456789abcdef/1073741824",
    "img_passwd": "S3cret",
    "img_format": "diskdump",
    "img_personality": json.dumps(
        [{"path": "/root/f", "contents": "YQ==", "owner": "root", "group": "root", "mode": 384}]
    ),
    "img_properties": json.dumps({"OSFAMILY": "linux", "ROOT_PARTITION": "1", "USERS": "root"}),
    "auth_keys": "ssh-rsa AAAA",
    "cloud_userdata": "I2Nsb3VkLWNvbmZpZwo=",
}


@contextmanager
def served(document: object) -> Iterator[tuple[HttpServer, str]]:
    """A server that gives the document, JSON unless it is bytes, to the first GET alone; and the document's URL."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with http_server({PATH: Answer(body, once=True)}) as server:
        yield server, f"{server.url}{PATH}"


def document(**members: object) -> bytes:
    return json.dumps(members).encode()


def refusal(content: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        read_document(content)
    assert CANARY not in str(caught.value)
    assert all(line.startswith("OS parameter config_url: the document ") for line in caught.value.lines)
    return str(caught.value)


@pytest.mark.root
@pytest.mark.row(28, 29)
def test_cyclades_document_makes_the_request_and_its_url_is_asked_once() -> None:
    with served(CYCLADES) as (server, url):
        env = ENVIRONMENT | {"OSP_CONFIG_URL": url, "OSP_IMG_ID": CYCLADES["img_id"], "OSP_IMG_FORMAT": "diskdump"}
        request = Request.from_environment(env, Settings(), fetched(os_parameters(env, Settings()), Settings()))
    assert server.methods == ["GET"]
    assert (request.image.id, request.image.format) == (CYCLADES["img_id"], "diskdump")
    assert request.secrets.password == "S3cret"
    assert request.secrets.authorized_keys == "ssh-rsa AAAA"
    assert request.secrets.cloud_userdata == CYCLADES["cloud_userdata"]
    assert request.properties == {"OSFAMILY": "linux", "ROOT_PARTITION": "1", "USERS": "root"}
    (file,) = request.personality
    assert (file.path, file.contents, file.owner, file.group, file.mode) == ("/root/f", "YQ==", "root", "root", 0o600)


@pytest.mark.root
@pytest.mark.row(26)
def test_each_level_wins_over_those_below_it(tmp_path: Path) -> None:
    for name in ("etc/snf-image", "etc/ganeti/snf-image/variants"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/snf-image/snf-image.conf").write_text(
        "AUTH_KEYS=conf\nIMG_ID=conf\nHOSTNAME=conf\nIMG_FORMAT=conf\n"
    )
    variant = "IMG_ID=variant\nHOSTNAME=variant\nIMG_FORMAT=variant\n"
    (tmp_path / "etc/ganeti/snf-image/variants/v.conf").write_text(variant)
    settings = Settings.load("v", tmp_path)
    with served({"img_format": "url"}) as (_, url):
        env = {"OSP_HOSTNAME": "osp", "OSP_IMG_FORMAT": "osp", "OSP_CONFIG_URL": url}
        found = fetched(os_parameters(env, settings), settings)
    levels = [found[name] for name in ("AUTH_KEYS", "IMG_ID", "HOSTNAME", "IMG_FORMAT")]
    assert levels == ["conf", "variant", "osp", "url"]
    assert "IMG_PASSWD" not in found


def test_without_a_url_the_parameters_stay_as_they_are() -> None:
    for parameters in ({"IMG_ID": "debian"}, {"IMG_ID": "debian", "CONFIG_URL": ""}):
        assert fetched(parameters, Settings()) == parameters


@pytest.mark.row(28)
def test_keys_may_have_any_case_and_only_known_ones_count() -> None:
    content = document(IMG_ID="a", Img_Format="b", iMG_PASSWD="c", image="d", vm_uuid=7, nested={"img_id": "e"})
    assert read_document(content) == {"IMG_ID": "a", "IMG_FORMAT": "b", "IMG_PASSWD": "c"}


def test_a_letter_of_another_alphabet_is_not_ours() -> None:
    assert read_document(document(**{"ımg_id": "a", "ſpec": "b"})) == {}


def test_null_is_not_given_and_empty_is() -> None:
    assert read_document(document(img_id=None, img_passwd="")) == {"IMG_PASSWD": ""}


@pytest.mark.root
def test_null_leaves_what_was_given_otherwise() -> None:
    with served({"img_id": None, "img_format": "diskdump"}) as (_, url):
        assert fetched({"CONFIG_URL": url, "IMG_ID": "null"}, Settings())["IMG_ID"] == "null"


@pytest.mark.row(28)
@pytest.mark.parametrize("name", ["img_properties", "inst_properties", "img_personality", "network"])
def test_a_json_parameter_may_be_given_as_text_or_as_it_is(name: str) -> None:
    value = [{"a": [1, 2.5, True, None, "Ω"]}]
    for content in (document(**{name: value}), document(**{name: json.dumps(value)})):
        assert json.loads(read_document(content)[name.upper()]) == value


def test_a_spec_in_the_document_counts_and_what_stands_beside_it_wins() -> None:
    found = read_document(document(spec={"hostname": "from-spec", "img_id": "from-spec"}, img_id="beside"))
    assert (found["HOSTNAME"], found["IMG_ID"]) == ("from-spec", "beside")


@pytest.mark.row(30)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (f'{{"img_passwd": "{CANARY}",'.encode(), "is not JSON"),
        (f'["{CANARY}"]'.encode(), "is not a JSON object"),
        (f'"{CANARY}"'.encode(), "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"img_id": "a", "img_id": "b"}', "a member is given twice"),
        (b'{"network": {"a": 1, "a": 2}}', "a member is given twice"),
        (b'{"img_id": "a", "IMG_ID": "b"}', "gives img_id twice"),
        (b'{"img_id": null, "IMG_ID": "b"}', "gives img_id twice"),
        (b'{"network": NaN}', "NaN is not JSON"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is not JSON"),
        (b'{"img_id": 7}', "gives img_id as a number, true or false; put it in quotes"),
        (b'{"img_passwd": 1.5}', "gives img_passwd as a number"),
        (b'{"img_properties": true}', "gives img_properties as a number, true or false"),
        (b'{"img_id": {"a": 1}}', "gives img_id as an object or an array; give text"),
        (b'{"auth_keys": ["a"]}', "gives auth_keys as an object or an array"),
        (b'{"config_url": "http://other/"}', "gives a config_url itself"),
        (b'{"spec": {"config_url": "http://other/"}}', "gives a config_url itself"),
        (b'{"img_id": "\xff"}', "is not UTF-8"),
    ],
)
def test_a_wrong_document_is_refused_with_its_fault_and_without_its_content(content: bytes, words: str) -> None:
    assert words in refusal(content)


@pytest.mark.row(30)
def test_all_faults_are_told_at_once() -> None:
    assert refusal(document(img_id=1, auth_keys=["a"], hostname=False)).count("\n") == 2


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read_document(b"\xef\xbb\xbf" + document(img_id="a")) == {"IMG_ID": "a"}


@pytest.mark.root
@pytest.mark.row(31)
def test_large_values_and_other_alphabets_arrive_whole() -> None:
    large = base64.b64encode(bytes(range(256)) * 4096).decode()
    members = {
        "img_id": "εικόνα-🐧",
        "img_format": "diskdump",
        "img_passwd": "Ωμέγα",
        "auth_keys": "ssh-ed25519 " + "A" * 300_000,
        "img_personality": [{"path": "/root/μεγάλο", "contents": large}],
    }
    with served(json.dumps(members, ensure_ascii=False).encode()) as (_, url):
        env = ENVIRONMENT | {"OSP_CONFIG_URL": url}
        request = Request.from_environment(env, Settings(), fetched(os_parameters(env, Settings()), Settings()))
    answer_file = base64.b64encode(b"<unattend>\xff").decode()
    job = Job.load(job_for(request, Settings(), answer_file).dump())
    assert request.image.id == "εικόνα-🐧"
    assert (job.secrets.password, job.secrets.authorized_keys) == (members["img_passwd"], members["auth_keys"])
    assert job.secrets.answer_file == answer_file
    assert (job.personality[0].path, job.personality[0].contents) == ("/root/μεγάλο", large)


_known = st.sampled_from([name.lower() for name in OS_PARAMETERS if name not in {"CONFIG_URL", "SPEC"}])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(members=st.dictionaries(_known, st.none() | st.text(), max_size=8))
def test_every_text_comes_out_as_it_went_in(members: Mapping[str, str | None]) -> None:
    expected = {name.upper(): value for name, value in members.items() if value is not None}
    assert read_document(json.dumps(members).encode()) == expected


@given(content=st.one_of(st.binary(), _json.map(lambda value: json.dumps(value).encode())))
def test_any_bytes_are_a_document_or_refused(content: bytes) -> None:
    try:
        found = read_document(content)
    except RequestError:
        return
    assert set(found) <= set(OS_PARAMETERS)
