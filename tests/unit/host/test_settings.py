# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's files: what overrides what, what an empty value is, and how a mistake is told."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from snf_image_host.obsolete import OBSOLETE
from snf_image_host.settings import OS_PARAMETERS, Accelerator, ConfigDevice, Settings
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
    assert (dict(settings.parameters), settings.warnings) == ({}, ())


def test_the_sample_file_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, main=SAMPLE.read_text()) == load(tmp_path, main="")


def test_the_sample_file_shows_the_defaults_and_no_mistake(tmp_path: Path) -> None:
    shown = "".join(
        line.removeprefix("#") + "\n"
        for line in SAMPLE.read_text().splitlines()
        if line.startswith("#") and line[1:2].isupper() and "=" in line and "TIMEOUT" not in line and "_DIR" not in line
    )
    assert shown.count("\n") >= 10
    assert load(tmp_path, main=shown) == load(tmp_path, main="")


LEVELS = ("source", "main", "variant")


@pytest.mark.parametrize("present", [found for size in range(4) for found in combinations(LEVELS, size)])
def test_a_later_file_overrides_an_earlier_one(tmp_path: Path, present: tuple[str, ...]) -> None:
    files = {"variant": "", **{level: f"IMAGE_DIR=/{level}\n" for level in present}}
    expected = str(tmp_path / "var/lib/snf-image")
    for level in ("main", "source", "variant"):
        expected = f"/{level}" if level in present else expected
    assert str(load(tmp_path, "v", **files).image_dir) == expected


def test_the_file_of_old_versions_is_read_only_when_there_is_no_new_one(tmp_path: Path) -> None:
    assert load(tmp_path, old="HELPER_MEMORY=1024").helper_memory == 1024
    assert load(tmp_path, old="HELPER_MEMORY=1024", main="").helper_memory == 512


@pytest.mark.parametrize(
    "name", ["HELPER_MEMORY", "HELPER_SOFT_TIMEOUT", "DHCP_TAGS", "KVM", "IMAGE_DIR", "HELPER_ACCEL"]
)
def test_an_empty_value_is_the_default(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, main=f"{name}=''") == load(tmp_path, main="")


def test_an_empty_network_default_means_none(tmp_path: Path) -> None:
    assert load(tmp_path, main='DEFAULT_NIC_CONFIG=""').default_nic_config == ""


@pytest.mark.parametrize(
    "value", ["dhcp", "dhcpv6", "slaac", "slaac_dhcp", "dhcp+dhcpv6", "dhcp+slaac", "dhcp+slaac_dhcp"]
)
def test_the_network_defaults_of_old_are_taken(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, main=f"DEFAULT_NIC_CONFIG={value}").default_nic_config == value


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("HELPER_SOFT_TIMEOUT", time) for time in ("0", "-1", "x", "1w", "1 m", "inf", "nan", "8d", "9" * 400)),
        *(("HELPER_MEMORY", memory) for memory in ("0", "127", "65537", "512M", "x", "-1", "512.5", "9" * 5000)),
        *(("HELPER_ACCEL", word) for word in ("KVM", "xen")),
        *(("HELPER_CONFIG_DEVICE", word) for word in ("cdrom", "FLOPPY")),
        *(("DEFAULT_NIC_CONFIG", word) for word in ("static", "dhcp,slaac", "slaac+dhcp")),
        *(("HELPER_DEBUG", word) for word in ("maybe", "2")),
    ],
)
def test_a_wrong_value_is_told_by_file_and_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, main=f"{name}='{value}'")
    assert str(caught.value).startswith(f"{tmp_path / MAIN}: {name}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_wrong_value_in_a_variant_is_told_by_the_variant(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"^{tmp_path / VARIANT}: HELPER_MEMORY: "):
        load(tmp_path, "v", main="HELPER_MEMORY=512", variant="HELPER_MEMORY=1")


@pytest.mark.parametrize("name", OS_PARAMETERS)
def test_every_os_parameter_may_be_preset_even_empty(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, "v", main=f"{name}=main", variant=f"{name}=''").parameters == {name: ""}


@pytest.mark.parametrize("name", sorted(OBSOLETE))
def test_what_has_no_effect_any_more_is_a_warning(tmp_path: Path, name: str) -> None:
    (warning,) = load(tmp_path, main=f"{name}=x").warnings
    assert warning == f"{tmp_path / MAIN}: {name} has no effect any more; remove it"


@pytest.mark.parametrize(
    "name", ["HELPER_MEMROY", "helper_memory", "RUN_DIR", "WARNINGS", "PARAMETERS", "model_config"]
)
def test_an_unknown_name_is_a_warning(tmp_path: Path, name: str) -> None:
    settings = load(tmp_path, main=f"{name}=7")
    assert settings.warnings == (f"{tmp_path / MAIN}: {name} is not a setting of snf-image; is it misspelt?",)
    assert settings.model_copy(update={"warnings": ()}) == load(tmp_path, main="")


def test_the_program_may_have_options_of_its_own(tmp_path: Path) -> None:
    assert load(tmp_path, main="KVM='kvm -enable-kvm -machine x'").kvm == "kvm -enable-kvm -machine x"


def test_the_variants_lie_where_the_main_file_says(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/w.conf").write_text("HELPER_MEMORY=1024")
    assert load(tmp_path, "w", main=f"VARIANTS_DIR={tmp_path}/own").helper_memory == 1024


def test_a_variant_that_is_not_there_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"variant 'none': {tmp_path}/.*/none.conf does not exist"):
        load(tmp_path, "none")


@pytest.mark.parametrize("variant", ["../x", "a/b", ".", "..", ".hidden", "a\n", "a b", "/etc/passwd", "ä", "a\udcff"])
def test_a_variant_is_a_name_and_never_a_path(tmp_path: Path, variant: str) -> None:
    with pytest.raises(ConfigurationError, match="only letters, digits and _"):
        load(tmp_path, variant)


def test_a_file_that_is_no_configuration_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"^{tmp_path / MAIN}, line 2: "):
        load(tmp_path, main="A=1\nif true; then\n")
