# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings: what overrides what, what an empty value is, and how mistakes are told."""

from __future__ import annotations

import base64
import re
from itertools import combinations
from pathlib import Path

import pytest
from pydantic import ValidationError

from provider import Instance
from snf_image_host.configuration.assignments import parse_assignments
from snf_image_host.configuration.obsolete import OBSOLETE
from snf_image_host.configuration.setting_types import Accelerator, ConfigDevice
from snf_image_host.configuration.settings import (
    Settings,
    as_written,
    setting_fields,
)
from snf_image_host.ganeti import Request
from snf_image_host.parameters.answer_files import node_answer_file
from snf_image_host.parameters.osparams import OS_PARAMETERS, SECRET_PARAMETERS
from snf_image_host.parameters.windows_timezones import WINDOWS_TIMEZONES
from snf_image_host.vm.jobs import job_for
from snf_image_shared.errors import ConfigurationError

MAIN = "etc/snf-image/snf-image.conf"
OLD = "etc/default/snf-image"
SOURCE = "etc/snf-image/backends/src/local.conf"
VARIANT = "etc/ganeti/snf-image/variants/v.conf"
SAMPLE = Path(__file__).resolve().parents[3] / "host/ganeti/snf-image.conf"


def load(root: Path, chosen: str = "", /, **files: str) -> Settings:
    """Settings of a node with these files: main, old, source, variant."""
    for name, text in files.items():
        path = root / {"main": MAIN, "old": OLD, "source": SOURCE, "variant": VARIANT}[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Settings.load(chosen, root)


@pytest.mark.row(33)
def test_without_any_file_every_default_holds(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.image_dir == tmp_path / "var/lib/snf-image"
    assert settings.helper_dir == tmp_path / "var/lib/snf-image/helper"
    assert settings.run_dir == tmp_path / "run/snf-image"
    assert (settings.helper_soft_timeout, settings.helper_boot_timeout, settings.helper_hard_timeout) == (None, None, 5)
    assert (settings.helper_memory, settings.helper_user, settings.kvm) == (512, "", "qemu-system-x86_64")
    assert settings.helper_accel is Accelerator.AUTO
    assert settings.helper_config_device is ConfigDevice.AUTO
    assert (settings.default_nic_config, settings.dhcp_tags) == ("dhcp", "auto dhcp nfdhcpd")
    assert (settings.helper_debug, settings.image_debug, settings.cloud_init_debug) == (False, False, False)
    assert (dict(settings.parameters), settings.warnings) == ({}, ())


def test_the_sample_file_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, main=SAMPLE.read_text()) == load(tmp_path, main="")


def test_the_sample_file_shows_every_setting_and_its_default_once() -> None:
    commented = [line[1:] for line in SAMPLE.read_text().splitlines() if line.startswith("#") and line[1:2].isupper()]
    shown = [(each.name, each.value) for each in parse_assignments("\n".join(commented), "sample")]
    seconds = {"5s": "5", "1m": "60"}
    assert sorted((name, seconds.get(value, value)) for name, value in shown) == sorted(
        (name, as_written(field.default)) for name, field in setting_fields().items()
    )


def test_every_setting_says_what_it_means() -> None:
    inner = {"run_dir", "parameters", "backends", "warnings", "accept_sha1"}
    told = {name for name, field in Settings.model_fields.items() if field.description}
    assert told == set(Settings.model_fields) - inner
    assert all((field.description or "").endswith(".") for field in setting_fields().values())


LEVELS = ("main", "source", "variant")


@pytest.mark.row(26)
@pytest.mark.parametrize("present", [found for size in range(4) for found in combinations(LEVELS, size)])
def test_a_later_file_overrides_an_earlier_one(tmp_path: Path, present: tuple[str, ...]) -> None:
    files = {"variant": "", **{level: f"IMAGE_DIR=/{level}\n" for level in present}}
    expected = f"/{present[-1]}" if present else str(tmp_path / "var/lib/snf-image")
    assert str(load(tmp_path, "v", **files).image_dir) == expected


@pytest.mark.parametrize(
    "name", ["HELPER_MEMORY", "HELPER_SOFT_TIMEOUT", "DHCP_TAGS", "KVM", "IMAGE_DIR", "HELPER_ACCEL"]
)
def test_an_empty_value_is_the_default(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, main=f"{name}=''") == load(tmp_path, main="")


@pytest.mark.row(37)
def test_an_empty_network_default_means_none(tmp_path: Path) -> None:
    assert load(tmp_path, main='DEFAULT_NIC_CONFIG=""').default_nic_config == ""


def test_an_empty_list_of_schemes_means_that_no_image_comes_from_a_url(tmp_path: Path) -> None:
    assert load(tmp_path, main='IMAGE_SCHEMES=""').image_schemes == ""


@pytest.mark.row(37)
@pytest.mark.parametrize(
    "value", ["dhcp", "dhcpv6", "slaac", "slaac_dhcp", "dhcp+dhcpv6", "dhcp+slaac", "dhcp+slaac_dhcp"]
)
def test_the_network_defaults_of_old_are_taken(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, main=f"DEFAULT_NIC_CONFIG={value}").default_nic_config == value


@pytest.mark.row(38)
@pytest.mark.parametrize(
    ("text", "seconds"), [("120", 120), ("1.5", 1.5), ("90s", 90), ("2m", 120), ("1h", 3600), ("1d", 86400), (" 5 ", 5)]
)
def test_a_time_is_written_as_for_timeout(tmp_path: Path, text: str, seconds: float) -> None:
    assert load(tmp_path, main=f"HELPER_SOFT_TIMEOUT='{text}'").helper_soft_timeout == seconds


@pytest.mark.parametrize(
    ("word", "meaning"), [("yes", True), ("ON", True), ("1", True), ("no", False), ("False", False)]
)
def test_a_switch_is_yes_or_no(tmp_path: Path, word: str, meaning: bool) -> None:
    assert load(tmp_path, main=f"HELPER_DEBUG={word}").helper_debug is meaning


@pytest.mark.row(37, 38)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("HELPER_SOFT_TIMEOUT", time) for time in ("0", "-1", "x", "1w", "1 m", "inf", "nan", "8d", "9" * 400)),
        *(("HELPER_MEMORY", memory) for memory in ("0", "127", "65537", "512M", "x", "-1", "512.5", "9" * 5000)),
        *(("HELPER_ACCEL", word) for word in ("KVM", "xen")),
        *(("HELPER_CONFIG_DEVICE", word) for word in ("cdrom", "FLOPPY")),
        *(("DEFAULT_NIC_CONFIG", word) for word in ("static", "dhcp,slaac", "slaac+dhcp")),
        *(("HELPER_DEBUG", word) for word in ("maybe", "2")),
        *((name, "images") for name in ("IMAGE_DIR", "HELPER_DIR", "VARIANTS_DIR")),
        *((name, command) for name in ("KVM", "CURL") for command in ('"x', " ")),
        ("UNATTEND", "/nonexistent/unattend.xml"),
    ],
)
def test_a_wrong_value_is_told_by_file_and_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, main=f"{name}='{value}'")
    assert str(caught.value).startswith(f"{tmp_path / MAIN}, line 1: {name}: ")
    assert str(caught.value).rpartition("; ")[2].startswith(("correct it", "remove it"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_wrong_value_in_a_variant_is_told_by_the_variant(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"^{tmp_path / VARIANT}, line 1: HELPER_MEMORY: "):
        load(tmp_path, "v", main="HELPER_MEMORY=512", variant="HELPER_MEMORY=1")


@pytest.mark.parametrize("name", OS_PARAMETERS)
def test_every_os_parameter_may_be_preset_even_empty(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, "v", main=f"{name}=main", variant=f"{name}=''").parameters == {name: ""}


@pytest.mark.row(37)
def test_only_what_counts_in_the_end_is_judged(tmp_path: Path) -> None:
    settings = load(tmp_path, "v", main="DEFAULT_NIC_CONFIG=static", variant="DEFAULT_NIC_CONFIG=slaac")
    assert settings.default_nic_config == "slaac"


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "v", main="\nHELPER_MEMORY=1\nHELPER_DEBUG=x", source="a b", variant="HELPER_ACCEL=xen")
    told = str(caught.value)
    assert "\n" not in told
    for fault in (
        f"{tmp_path / MAIN}, line 2: HELPER_MEMORY: ",
        f"{tmp_path / MAIN}, line 3: HELPER_DEBUG: ",
        f"{tmp_path / SOURCE}, line 1: not an assignment",
        f"{tmp_path / VARIANT}, line 1: HELPER_ACCEL: ",
        "(512)",
        "(auto)",
    ):
        assert told.count(fault) == 1


@pytest.mark.row(40)
@pytest.mark.parametrize("name", sorted(OBSOLETE))
def test_what_has_no_effect_any_more_is_a_warning_with_what_to_do_instead(tmp_path: Path, name: str) -> None:
    (warning,) = load(tmp_path, main=f"{name}=x").warnings
    assert warning == f"{tmp_path / MAIN}, line 1: {name} has no effect any more; {OBSOLETE[name]}"
    assert OBSOLETE[name]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *(("HELPER_MEMROY", "did you mean HELPER_MEMORY?"), ("helper_memory", "did you mean HELPER_MEMORY?")),
        *(("RUN_DIR", "remove it"), ("WARNINGS", "remove it"), ("model_config", "remove it"), ("X", "remove it")),
    ],
)
def test_an_unknown_name_is_a_warning(tmp_path: Path, name: str, hint: str) -> None:
    settings = load(tmp_path, main=f"\n{name}=7")
    assert settings.warnings == (f"{tmp_path / MAIN}, line 2: {name} is not a setting of snf-image; {hint}",)
    assert settings.model_copy(update={"warnings": ()}) == load(tmp_path, main="")


# Every variable that snf-image 0.23 had: none of them is unknown.
OLD_VARIABLES = re.findall(
    r"\w+",
    """
    IMAGE_DEBUG CLOUD_INIT_DEBUG HELPER_DIR HELPER_SOFT_TIMEOUT HELPER_HARD_TIMEOUT HELPER_USER HELPER_MEMORY
    HELPER_DEBUG MULTISTRAP_CONFIG MULTISTRAP_APTPREFDIR XEN_SCRIPTS_DIR XEN_CMD PROGRESS_MONITOR UNATTEND
    WINDOWS_TIMEZONE DHCP_TAGS STATEFUL_DHCPV6_TAGS STATELESS_DHCPV6_TAGS DEFAULT_NIC_CONFIG VARIANTS_DIR VERSION_CHECK
    AWK LOSETUP TIMEOUT CURL TAR DATE KVM MD5SUM BLOCKDEV DD PARTED KPARTX SFDISK INSTALL_MBR
    IMAGE_DIR PITHOS_DB PITHOS_BACKEND_STORAGE PITHOS_DATA PITHOS_RADOS_CEPH_CONF PITHOS_RADOS_POOL_MAPS
    PITHOS_RADOS_POOL_BLOCKS PITHOS_ARCHIPELAGO_CONF PITHCAT_UMASK QEMU_NBD RBD_CEPH_CONF RBD_BLOCK_SIZE
    IMG_ID IMG_FORMAT IMG_PASSWD IMG_PASSWD_HASH IMG_PROPERTIES INST_PROPERTIES IMG_PERSONALITY AUTH_KEYS
    OS_PRODUCT_KEY OS_ANSWER_FILE CONFIG_URL CLOUD_USERDATA
    """,
)


@pytest.mark.parametrize("name", OLD_VARIABLES)
def test_every_variable_of_old_is_honoured_or_its_replacement_is_named(tmp_path: Path, name: str) -> None:
    settings = load(tmp_path, main=f"{name}=")
    assert (name in setting_fields()) + (name in OS_PARAMETERS) + (name in OBSOLETE) == 1
    assert len(settings.warnings) == (name in OBSOLETE)


def test_what_is_secret_is_an_os_parameter() -> None:
    assert set(OS_PARAMETERS) > SECRET_PARAMETERS
    assert {"IMG_PASSWD", "IMG_PASSWD_HASH", "AUTH_KEYS", "CLOUD_USERDATA", "CONFIG_URL"} < SECRET_PARAMETERS


ANSWERS = '<unattend xmlns="urn:schemas-microsoft-com:unattend"/>'


@pytest.mark.row(40)
def test_an_answer_file_of_the_node_is_kept_and_deprecated(tmp_path: Path) -> None:
    answers = tmp_path / "unattend.xml"
    answers.write_text(ANSWERS)
    settings = load(tmp_path, main=f"UNATTEND={answers}")
    assert settings.unattend == str(answers)
    (warning,) = settings.warnings
    assert warning.startswith(f"{tmp_path / MAIN}, line 1: UNATTEND is deprecated; ")


@pytest.mark.row(40)
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "is no XML: no element found"),
        (ANSWERS.replace("/>", ">"), "is no XML: no element found"),
        (
            "<unattend/>",
            "is no answer file: its outermost element is not unattend of urn:schemas-microsoft-com",
        ),
        (f"<!DOCTYPE unattend>{ANSWERS}", "has a document type declaration (DOCTYPE), which no answer file needs"),
        (f"{ANSWERS}{' ' * (1 << 20)}", "is larger than 1048576 bytes, which no answer file is"),
    ],
    ids=["empty", "cut", "another-root", "doctype", "large"],
)
def test_an_answer_file_of_the_node_that_is_none_is_refused(tmp_path: Path, content: str, fault: str) -> None:
    answers = tmp_path / "unattend.xml"
    answers.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, main=f"UNATTEND={answers}")
    assert f"line 1: UNATTEND: '{answers}' {fault}" in str(caught.value)


@pytest.mark.row(39)
@pytest.mark.row(40)
def test_time_zone_and_answer_file_of_the_node_reach_the_job(tmp_path: Path) -> None:
    answers = tmp_path / "unattend.xml"
    answers.write_text(ANSWERS, "utf-16")
    settings = load(tmp_path, main=f"UNATTEND={answers}\nWINDOWS_TIMEZONE='w. europe standard TIME'")
    parameters = {"IMG_ID": "x", "IMG_FORMAT": "diskdump"}
    request = Request.from_environment(
        Instance("vm1.example.com", (Path("/dev/null"),)).environment(), settings, parameters
    )
    job = job_for(request, settings, None, node_answer_file(settings.unattend))
    assert job.windows_timezone == "W. Europe Standard Time"
    assert base64.b64decode(job.secrets.node_answer_file or "").decode("utf-16") == ANSWERS


@pytest.mark.row(39)
def test_every_time_zone_of_windows_is_known_in_any_case(tmp_path: Path) -> None:
    assert len(WINDOWS_TIMEZONES) == 141  # CLDR's 139, and two that Windows has kept from before
    for name in WINDOWS_TIMEZONES:
        settings = load(tmp_path, main=f"WINDOWS_TIMEZONE='{name.upper()}'")
        assert (settings.windows_timezone, settings.warnings) == (name, ())


@pytest.mark.row(39)
def test_a_time_zone_that_windows_does_not_know_is_a_warning(tmp_path: Path) -> None:
    settings = load(tmp_path, main="WINDOWS_TIMEZONE=Europe/Athens")
    assert settings.windows_timezone == "Europe/Athens"
    (warning,) = settings.warnings
    assert warning.startswith(f"{tmp_path / MAIN}, line 1: WINDOWS_TIMEZONE: ")


@pytest.mark.row(36)
def test_the_programs_may_have_options_of_their_own(tmp_path: Path) -> None:
    settings = load(tmp_path, main="KVM='kvm -name x'\nCURL='curl -k'")
    assert (settings.kvm, settings.curl, settings.warnings) == ("kvm -name x", "curl -k", ())


@pytest.mark.row(36)
def test_options_that_the_helper_vm_decides_itself_are_told(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, main="KVM='kvm -enable-kvm -machine x'").warnings
    assert warning.startswith(f"{tmp_path / MAIN}, line 1: KVM: -enable-kvm -machine x is left out; ")


@pytest.mark.parametrize("variant", ["../x", "a/b", ".", "..", ".hidden", "a\n", "a b", "/etc/passwd", "ä", "a\udcff"])
def test_a_variant_is_a_name_and_never_a_path(tmp_path: Path, variant: str) -> None:
    with pytest.raises(ConfigurationError, match="only letters, digits and _"):
        load(tmp_path, variant)


def test_a_file_that_is_no_configuration_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"^{tmp_path / MAIN}, line 2: "):
        load(tmp_path, main="A=1\nif true; then\n")


def test_properties_preset_for_all_instances_are_overridden_one_by_one() -> None:
    env = Instance("vm1.example.com", (Path("/dev/null"),)).environment()
    parameters = {"IMG_ID": "x", "IMG_FORMAT": "diskdump", "INST_PROPERTIES": '{"LOCALE": "C"}'}
    settings = Settings(default_properties='{"timezone": "Europe/Athens", "locale": "el_GR.UTF-8"}')
    request = Request.from_environment(env, settings, parameters)
    assert job_for(request, settings).properties == {"TIMEZONE": "Europe/Athens", "LOCALE": "C"}


def test_preset_properties_that_are_no_object_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"not a JSON object"):
        Settings(default_properties="[1]")
