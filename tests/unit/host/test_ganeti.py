# SPDX-License-Identifier: GPL-2.0-or-later
"""Ganeti's environment becomes a request, or one line that names the variable and shows no secret."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.instance_disks import MAX_DISKS
from snf_image_host.ganeti import Request
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.names import WantedImage
from snf_image_host.parameters.osparams import OS_PARAMETERS, os_parameters
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Ipv4Method, PersonalityFile, Secrets

SETTINGS = Settings(helper_dir=Path("/h"), image_dir=Path("/i"), run_dir=Path("/r"))
MANDATORY = {
    "OS_API_VERSION": "20",
    "INSTANCE_NAME": "inst1.ganeti.lab",
    "HYPERVISOR": "kvm",
    "DISK_COUNT": "1",
    "DISK_0_PATH": "/srv/ganeti/x.file.disk0",
    "OSP_IMG_ID": "debian",
    "OSP_IMG_FORMAT": "diskdump",
}
CANARY = "c4n4ry"


def request(settings: Settings = SETTINGS, /, **env: str) -> Request:
    return ask({**MANDATORY, **env}, settings)


def ask(env: Mapping[str, str], settings: Settings = SETTINGS) -> Request:
    return Request.from_environment(env, settings, os_parameters(env, settings))


def refusal(settings: Settings = SETTINGS, /, **env: str) -> str:
    """The message, whose lines are few and short."""
    with pytest.raises(RequestError) as caught:
        request(settings, **env)
    message = str(caught.value)
    assert all(len(line) < 300 for line in message.split("\n"))
    assert len(message.split("\n")) < 5
    return message


def personality(*files: object) -> str:
    return json.dumps(files)


def preset(**parameters: str) -> Settings:
    return SETTINGS.model_copy(update={"parameters": parameters})


@pytest.mark.row(4, 10)
@pytest.mark.parametrize("name", MANDATORY)
@pytest.mark.parametrize("env", ["absent", "empty"])
def test_each_mandatory_variable_is_named_when_it_is_missing(name: str, env: str) -> None:
    given = {key: value for key, value in MANDATORY.items() if key != name}
    with pytest.raises(RequestError) as caught:
        ask(given if env == "absent" else {**given, name: ""})
    shown = f"OS parameter {name[4:].lower()}: is missing" if name.startswith("OSP_") else name
    assert str(caught.value).startswith(shown)


def test_the_smallest_request() -> None:
    found = request()
    assert (found.instance, found.hypervisor, found.image.id) == ("inst1.ganeti.lab", "kvm", "debian")
    assert [str(disk.path) for disk in found.disks] == ["/srv/ganeti/x.file.disk0"]
    assert (found.personality, found.nics, found.properties) == ((), (), {})
    assert found.secrets.password is found.secrets.password_hash is found.secrets.authorized_keys is None


@pytest.mark.row(6)
def test_variables_nobody_asked_for_change_nothing() -> None:
    noise = {
        *("DEBUG_LEVEL", "INSTANCE_REINSTALL", "DISK_0_SIZE", "LD_PRELOAD", "PYTHONPATH", "BASH_ENV", "OSP_UNKNOWN"),
        *("OLD_INSTANCE_NAME", "DISK_1_PATH", "DISK_0_NAME"),
    }
    assert request(**dict.fromkeys(noise, "$(id)\n")) == request()


@pytest.mark.row(4)
@pytest.mark.parametrize("version", ["19", "21", "20 ", "020", "x" * 1000])
def test_another_version_of_the_interface_is_refused(version: str) -> None:
    assert refusal(OS_API_VERSION=version).startswith("OS_API_VERSION: ")


@pytest.mark.parametrize(
    "name",
    [
        *(
            ";reboot",
            "a\nb",
            "a\n",
            "x" * 64,
            ".".join(["x" * 60] * 5),
            "ünïcode.example",
            "-x",
            "x-",
            "..",
            "a..b",
            ".a",
        ),
        *("a b", "a/b", "../../x", "$(id)", "a\x1b[2J", "a\udcff", "%s"),
    ],
)
def test_what_is_no_host_name_is_refused(name: str) -> None:
    assert refusal(INSTANCE_NAME=name).startswith("INSTANCE_NAME: not a host name")


@pytest.mark.parametrize("name", ["a", "A-1.b", "x" * 63, ".".join(["x" * 62] * 4)])
def test_a_host_name_is_taken_as_it_is(name: str) -> None:
    assert request(INSTANCE_NAME=name).instance == name


@pytest.mark.row(5)
@pytest.mark.parametrize("hypervisor", ["kvm", "xen-hvm", "xen-pvm", "fake", "lxc", "chroot"])
def test_every_hypervisor_of_ganeti_is_taken(hypervisor: str) -> None:
    assert request(HYPERVISOR=hypervisor).hypervisor == hypervisor


@pytest.mark.row(5)
def test_a_hypervisor_is_one_that_ganeti_has() -> None:
    assert refusal(HYPERVISOR="kvm root=/dev/vdb").startswith("HYPERVISOR: ")


@pytest.mark.row(4)
@pytest.mark.parametrize("count", ["0", "-1", "x", "1.5", "²", "١", " 1", "9" * 5000, str(MAX_DISKS + 1)])
def test_a_count_of_disks_that_is_no_small_number_is_refused(count: str) -> None:
    assert refusal(DISK_COUNT=count).startswith("DISK_COUNT: ")


def test_all_disks_come_in_ganetis_order() -> None:
    paths = [f"/dev/disk{index}" for index in range(MAX_DISKS)]
    env = {f"DISK_{index}_PATH": path for index, path in enumerate(paths)}
    assert [str(disk.path) for disk in request(DISK_COUNT=str(MAX_DISKS), **env).disks] == paths


def test_a_disk_that_is_missing_is_named() -> None:
    assert refusal(DISK_COUNT="2").startswith("DISK_1_PATH: nothing is no path, and DISK_1_URI is not set")


@pytest.mark.parametrize("path", ["/a b", "/a,b,readonly=off", "/a\nb", "/a\udcff", "/a;rm -rf $HOME", "//a/../b"])
def test_the_name_of_a_disk_is_nothing_but_a_name(path: str) -> None:
    assert request(DISK_0_PATH=path).disks[0].path == Path(path)


def test_a_first_disk_that_is_read_only_is_refused() -> None:
    assert refusal(DISK_0_ACCESS="ro").startswith("DISK_0_ACCESS: ")
    assert refusal(DISK_0_ACCESS="write").startswith("DISK_0_ACCESS: ")
    assert request(DISK_COUNT="2", DISK_1_PATH="/b", DISK_1_ACCESS="ro").disks[1].access == "ro"


@pytest.mark.row(27)
def test_the_environment_overrides_what_files_preset_even_when_it_is_empty() -> None:
    settings = preset(IMG_ID="preset", IMG_PASSWD="preset", AUTH_KEYS="preset")
    found = request(settings, OSP_IMG_PASSWD="")
    assert (found.image.id, found.secrets.password, found.secrets.authorized_keys) == ("debian", "", "preset")


@pytest.mark.row(16)
def test_what_files_preset_is_enough() -> None:
    env = {name: value for name, value in MANDATORY.items() if not name.startswith("OSP_")}
    found = ask(env, preset(IMG_ID="debian", IMG_FORMAT="diskdump"))
    assert found == request()


@pytest.mark.row(32)
@pytest.mark.parametrize("password", ["", "x"])
@pytest.mark.parametrize("hashed", ["", "!"])
def test_password_and_hash_exclude_each_other_even_when_empty(password: str, hashed: str) -> None:
    message = refusal(OSP_IMG_PASSWD=password, OSP_IMG_PASSWD_HASH=hashed)
    assert "img_passwd and img_passwd_hash" in message


@pytest.mark.parametrize("password", ["", " ", "-x", "a:b", "'\"$`\\", "pässwörd", "x" * 511])
def test_a_password_is_any_one_line(password: str) -> None:
    assert request(OSP_IMG_PASSWD=password).secrets.password == password


@pytest.mark.parametrize("hashed", ["", "!", "*", "$6$salt$hash", "$y$j9T$a$b"])
def test_a_hash_is_kept_verbatim(hashed: str) -> None:
    assert request(OSP_IMG_PASSWD_HASH=hashed).secrets.password_hash == hashed


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("IMG_PASSWD", f"{CANARY}{end}") for end in ("\n", "\r", "\nroot::0:0", "\udcff")),
        *(("IMG_PASSWD_HASH", f"{CANARY}{end}") for end in ("\n", "\r", ":", ":0:99999", "\udcff")),
        ("AUTH_KEYS", f"{CANARY}\udcff"),
        ("CLOUD_USERDATA", f"{CANARY}\udcff"),
        ("IMG_PROPERTIES", f'{{"A": "{CANARY}"'),
        ("INST_PROPERTIES", f'{{"A": ["{CANARY}"]}}'),
        ("IMG_FORMAT", "qcow"),
        ("OS_PRODUCT_KEY", CANARY),
        ("OS_ANSWER_FILE", f"gopher://{CANARY}@example"),
        ("CONFIG_URL", f"http://{CANARY}@example/ "),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name_and_not_shown(variable: str, value: str) -> None:
    message = refusal(**{f"OSP_{variable}": value})
    assert message.startswith(f"OS parameter {variable.lower()}: ")
    assert CANARY not in message


def test_properties_of_the_instance_override_those_of_the_image() -> None:
    found = request(OSP_IMG_PROPERTIES='{"users": "a", "SWAP": "2:512"}', OSP_INST_PROPERTIES='{"USERS": "b"}')
    assert found.properties == {"USERS": "b", "SWAP": "2:512"}


def test_files_come_with_their_defaults() -> None:
    text = personality(
        {"path": "/a", "contents": "YQ=="}, {"path": "/b", "contents": "", "owner": "o", "group": "9", "mode": 0}
    )
    assert request(OSP_IMG_PERSONALITY=text).personality == (
        PersonalityFile("/a", "YQ==", None, None, 0o440),
        PersonalityFile("/b", "", "o", "9", 0),
    )


@given(st.binary(max_size=300), st.sampled_from(("\n", "\r\n", " ")))
def test_base64_may_be_wrapped_and_is_unwrapped_for_the_helper(content: bytes, line_end: str) -> None:
    text = base64.encodebytes(content).decode().replace("\n", line_end)
    (file,) = request(OSP_IMG_PERSONALITY=personality({"path": "/a", "contents": text})).personality
    assert base64.b64decode(file.contents, validate=True) == content


WRONG: dict[str, tuple[object, ...]] = {
    "path": ("a", "", "../x", "/../x", "/a/../../x", "/a\0b", "/", "/.", "//./", None, 1, [], "/a\ud800"),
    "contents": ("a", "a===", "ä", f"{CANARY}!", None, 1, "YQ==\0"),
    "mode": ("288", "0440", "", True, 1.0, None, -1, 4096, 7777, 10**4000, [], "7777"),
    "owner": (0, True, [], {}),
    "group": (0, 1.5),
}


@pytest.mark.parametrize(
    "change",
    [{member: value} for member, values in WRONG.items() for value in values],
    ids=lambda change: repr(change)[:40],
)
def test_a_file_with_a_wrong_member_is_refused_and_its_contents_are_not_shown(change: Mapping[str, object]) -> None:
    message = refusal(OSP_IMG_PERSONALITY=personality({"path": "/a", "contents": f"{CANARY}==", **change}))
    assert message.startswith("OS parameter img_personality: ")
    assert CANARY not in message


@pytest.mark.parametrize(
    "text",
    [
        *("x", "{}", "1", '"x"', "null", "[1]", "[[]]", "[null]", "[{}]", '[{"path": "/a"}]', "[", "[" * 100_000),
        '[{"path": "/a", "contents": "", "path": "/b"}]',
        '[{"path": "/a", "contents": "", "mode": NaN}]',
        '[{"path": "/a", "contents": "", "mode": ' + "9" * 5000 + "}]",
        '{"path": "/a", "contents": ""}',
        "[" + '{"a":' * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_array_of_files_is_refused(text: str) -> None:
    assert refusal(OSP_IMG_PERSONALITY=text).startswith("OS parameter img_personality: ")


def test_a_custom_task_finds_what_it_always_found() -> None:
    found = request(NIC_COUNT="1", NIC_0_MAC="aa:00:00:00:00:01", NIC_0_LINK="br0", OSP_IMG_PASSWD=CANARY)
    assert found.guest_environment == {
        "SNF_IMAGE_TYPE": "diskdump",
        "SNF_IMAGE_HOSTNAME": "inst1.ganeti.lab",
        "HYPERVISOR": "kvm",
        "SNF_IMAGE_NIC_COUNT": "1",
        "SNF_IMAGE_NIC_0_MAC": "aa:00:00:00:00:01",
        "SNF_IMAGE_NIC_0_LINK": "br0",
    }


SECRETS = {
    "OSP_IMG_PASSWD": CANARY,
    "OSP_AUTH_KEYS": CANARY,
    "OSP_CLOUD_USERDATA": CANARY + "==",
    "OSP_IMG_PERSONALITY": personality({"path": "/a", "contents": CANARY + "=="}),
}


def test_what_is_shown_of_a_request_holds_no_secret() -> None:
    for secrets in (SECRETS, {"OSP_IMG_PASSWD_HASH": CANARY}):
        found = request(**secrets)
        assert CANARY not in f"{found!r} {found!s} {found} {found.secrets!r} {found.personality!r}"


def test_what_is_shown_of_settings_holds_no_secret() -> None:
    settings = preset(IMG_PASSWD=CANARY, AUTH_KEYS=CANARY)
    assert CANARY not in f"{settings!r} {settings!s} {settings}"


HOSTILE = st.text(max_size=40) | st.sampled_from(
    ("", "\udcff", "\n", "[]", "{}", '[{"path": 1}]', "9" * 5000, "[" * 5000)
)


@given(
    st.dictionaries(
        st.sampled_from((*MANDATORY, "DISK_1_PATH", "NIC_COUNT", "NIC_0_MAC", "NIC_0_IP")), HOSTILE, max_size=4
    ),
    st.dictionaries(st.sampled_from(OS_PARAMETERS).map("OSP_{}".format), HOSTILE, max_size=4),
    st.sampled_from(("", "\n", "\udcff", "\0", "\x1b", ":")),
)
def test_whatever_is_wrong_no_secret_is_in_the_message(
    env: Mapping[str, str], parameters: Mapping[str, str], spoilt: str
) -> None:
    secrets = {name: value + spoilt for name, value in SECRETS.items()}
    try:
        found = ask({**MANDATORY, **env, **parameters, **secrets})
    except RequestError as error:
        assert CANARY not in str(error)
    else:
        assert CANARY not in repr(found)


@pytest.mark.row(27)
@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("IMG_PASSWD", "password"),
        ("IMG_PASSWD_HASH", "password_hash"),
        ("AUTH_KEYS", "authorized_keys"),
        ("CLOUD_USERDATA", "cloud_userdata"),
        ("OS_PRODUCT_KEY", "product_key"),
    ],
)
def test_a_secret_that_is_given_and_empty_is_not_one_that_is_not_given(name: str, member: str) -> None:
    assert getattr(request().secrets, member) is None
    assert getattr(request(preset(**{name: "x"}), **{f"OSP_{name}": ""}).secrets, member) == ""


@pytest.mark.row(27)
def test_what_means_nothing_when_it_is_empty_is_not_given() -> None:
    names = set(OS_PARAMETERS) - {"IMG_ID", "IMG_FORMAT", "IMG_PASSWD_HASH", "CLOUD_USERDATA", "OS_PRODUCT_KEY"}
    names -= {"IMG_PASSWD", "AUTH_KEYS"}
    assert request(**{f"OSP_{name}": "" for name in names}) == request()


@pytest.mark.row(32)
def test_every_fault_is_told_at_once_and_the_last_line_sums_up() -> None:
    with pytest.raises(RequestError) as caught:
        request(
            OSP_IMG_ID="",
            OSP_HOSTNAME="a b",
            OSP_IMG_PASSWD=f"{CANARY}\n",
            OSP_IMG_PASSWD_HASH="!",
            OSP_NETWORK='{"nics": [{"index": 1}]}',
            DISK_0_PATH="",
            HYPERVISOR="vmware",
        )
    assert [line.split(": ")[0] for line in caught.value.lines] == [
        "OS parameter img_passwd_hash",
        "OS parameter hostname",
        "OS parameter img_passwd",
        "OS parameter img_id",
        "HYPERVISOR",
        "DISK_0_PATH",
        "OS parameter network",
        "7 faults in img_passwd_hash, hostname, img_passwd, img_id, HYPERVISOR, DISK_*, network",
    ]


def test_a_reset_by_ganetis_word_is_said_where_it_leaves_nothing() -> None:
    assert "'default' is Ganeti's word for not giving it" in refusal(OSP_IMG_ID="default")
    assert request(preset(IMG_ID="preset"), OSP_IMG_ID="default").image.id == "preset"
    assert request(OSP_IMG_ID="local://default").image.id == "local://default"


def test_what_a_spec_that_cannot_be_read_may_have_had_is_not_called_missing() -> None:
    message = refusal(OSP_IMG_ID="", OSP_SPEC="{")
    assert message.startswith("OS parameter spec: not JSON")
    assert "\n" not in message


def test_a_host_name_that_is_given_is_the_guests() -> None:
    found = request(OSP_HOSTNAME="web1.example.com")
    assert (found.instance, found.hostname) == ("inst1.ganeti.lab", "web1.example.com")
    assert found.guest_environment["SNF_IMAGE_HOSTNAME"] == "web1.example.com"
    assert request().hostname == "inst1.ganeti.lab"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_checksum_is_taken_in_any_case(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"x").hexdigest()
    assert request(OSP_IMG_CHECKSUM=f"{algorithm}:{digest}".upper()).image.checksums == (Checksum(algorithm, digest),)
    assert request().image.checksums == ()


def test_what_windows_wants_is_kept() -> None:
    key, url = "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE", "https://example.com/unattend.xml"
    found = request(OSP_OS_PRODUCT_KEY=key, OSP_OS_ANSWER_FILE=url)
    assert (found.secrets.product_key, found.answer_file_url) == (key, url)
    assert key not in repr(found)
    assert url not in repr(found)


def test_the_network_document_wins_over_network_tags() -> None:
    nic = {"NIC_COUNT": "1", "NIC_0_MAC": "aa:00:00:00:00:01", "NIC_0_IP": "198.51.100.3"}
    subnet = {"NIC_0_NETWORK_SUBNET": "198.51.100.0/24", "NIC_0_NETWORK_TAGS": "dhcp"}
    document = {"nics": [{"index": 0, "addresses": ["192.0.2.7/24"], "gateway4": "192.0.2.1"}]}
    (plain,) = request(**nic, **subnet).nics
    (found,) = request(**nic, **subnet, OSP_NETWORK=json.dumps(document)).nics
    assert plain.ipv4 is Ipv4Method.DHCP
    assert (found.ipv4, found.address4, found.gateway4) == (Ipv4Method.STATIC, "192.0.2.7/24", "192.0.2.1")


@pytest.mark.row(28)
def test_the_document_of_cyclades_is_taken_value_by_value() -> None:
    # What Cyclades serves at config_url, with its own JSON inside of text; contract of snf-image 0.23.
    document = {
        "img_id": "pithosmap://0a1b/1048576",
        "img_passwd": "S3cret",
        "img_format": "diskdump",
        "img_personality": '[{"path": "/root/f", "contents": "YQ==", "owner": "root", "group": "root", "mode": 384}]',
        "img_properties": '{"OSFAMILY": "linux", "ROOT_PARTITION": "1", "USERS": "root"}',
        "auth_keys": "ssh-rsa AAAA",
        "cloud_userdata": "I2Nsb3VkLWNvbmZpZwo=",
    }
    parameters = {name.upper(): value for name, value in document.items()}
    found = Request.from_environment(MANDATORY, SETTINGS, parameters)
    assert (found.image.id, found.image.format) == ("pithosmap://0a1b/1048576", "diskdump")
    assert found.personality == (PersonalityFile("/root/f", "YQ==", "root", "root", 0o600),)
    assert found.properties == {"OSFAMILY": "linux", "ROOT_PARTITION": "1", "USERS": "root"}
    assert found.secrets == Secrets("S3cret", None, "ssh-rsa AAAA", "I2Nsb3VkLWNvbmZpZwo=")


@pytest.mark.row(31)
def test_values_that_no_environment_could_carry_are_taken() -> None:
    keys = "ssh-ed25519 AAAA é\n" * 20_000
    contents = base64.b64encode(bytes(1 << 20)).decode()
    files = personality({"path": "/ä", "contents": contents})
    found = Request.from_environment(
        MANDATORY,
        SETTINGS,
        {
            "IMG_ID": "ä",
            "IMG_FORMAT": "diskdump",
            "AUTH_KEYS": keys,
            "IMG_PERSONALITY": files,
            "IMG_PASSWD": "pässwörd",
        },
    )
    assert (found.image.id, found.secrets.authorized_keys, found.secrets.password) == ("ä", keys, "pässwörd")
    assert found.personality == (PersonalityFile("/ä", contents),)


@pytest.mark.parametrize(("img_format", "name"), [("dump", "debian-boot.dump"), ("tarball", None), ("diskdump", None)])
def test_a_dump_may_have_another_one_of_boot_wherever_that_lies(img_format: str, name: str | None) -> None:
    found = request(OSP_IMG_FORMAT=img_format, OSP_IMG_PROPERTIES='{"BOOT_IMAGE": "debian-boot.dump"}').boot_image
    assert found == (WantedImage(name, "dump") if name else None)
    assert request(OSP_IMG_FORMAT=img_format).boot_image is None
