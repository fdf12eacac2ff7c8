# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's files: where they lie, which one counts, and that those of real clusters are read as they are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_shared.errors import ConfigurationError

MAIN = "etc/snf-image/snf-image.conf"
OLD = "etc/default/snf-image"
BACKENDS = "etc/snf-image/backends"
VARIANTS = "etc/ganeti/snf-image/variants"
LIST = "etc/ganeti/snf-image/variants.list"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.row(35)
def test_the_file_of_old_versions_is_read_where_it_is_the_only_one(tmp_path: Path) -> None:
    settings = Settings.load("", write(tmp_path, {OLD: "HELPER_MEMORY=1024"}))
    assert settings.helper_memory == 1024
    assert settings.warnings == (
        f"{tmp_path / OLD}: this is where old versions had their settings; move the file to {tmp_path / MAIN}",
    )


@pytest.mark.row(35)
def test_the_new_file_wins_and_the_old_one_is_told_of(tmp_path: Path) -> None:
    settings = Settings.load("", write(tmp_path, {OLD: "HELPER_MEMORY=1024\nDHCP_TAGS=x", MAIN: ""}))
    assert (settings.helper_memory, settings.dhcp_tags) == (512, "auto dhcp nfdhcpd")
    (warning,) = settings.warnings
    assert warning.startswith(f"{tmp_path / OLD}: ignored, because {tmp_path / MAIN} exists; ")


def test_a_source_may_set_what_is_its_own_and_nothing_else(tmp_path: Path) -> None:
    local = f"{BACKENDS}/src/local.conf"
    settings = Settings.load("", write(tmp_path, {local: "IMAGE_DIR=/x\nHELPER_MEMORY=1024\nDD='dd bs=4M'\nFOO=1"}))
    assert (str(settings.image_dir), settings.helper_memory) == ("/x", 512)
    about = f"{tmp_path / local}, line"
    assert [warning.split(";")[0] for warning in settings.warnings] == [
        f"{about} 2: HELPER_MEMORY has no effect in this file",
        f"{about} 3: DD has no effect any more",
        f"{about} 4: FOO is not a setting of snf-image",
    ]


@pytest.mark.parametrize("name", ["src/network", "src/null", "src/pithos", "dst/local", "dst/uri", "dst/rbd"])
def test_the_file_of_every_source_and_target_is_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"{BACKENDS}/{name}.conf": "CURL='curl -k'\n"})
    settings = Settings.load("", tmp_path)
    assert (settings.curl, len(settings.warnings)) == ("curl", 1)
    write(tmp_path, {f"{BACKENDS}/{name}.conf": "CURL=$(curl)\n"})
    with pytest.raises(ConfigurationError, match=f"^{tmp_path}/{BACKENDS}/{name}.conf, line 1: "):
        Settings.load("", tmp_path)


def test_verify_in_the_file_of_a_source_is_for_its_images_alone(tmp_path: Path) -> None:
    write(tmp_path, {MAIN: "VERIFY=checksum\nVERIFY_LOCAL=checksum"})
    write(tmp_path, {f"{BACKENDS}/src/local.conf": "VERIFY=no", f"{BACKENDS}/dst/local.conf": "VERIFY=no"})
    settings = Settings.load("", tmp_path)
    assert (settings.verify, settings.verify_local, settings.verify_network) == ("checksum", "no", None)
    assert settings.warnings == (
        f"{tmp_path}/{BACKENDS}/dst/local.conf, line 1: VERIFY has no effect in this file; set it in {tmp_path / MAIN}",
    )
    write(tmp_path, {f"{BACKENDS}/src/network.conf": "VERIFY=checksum", f"{VARIANTS}/v.conf": "VERIFY_NETWORK=no"})
    assert Settings.load("", tmp_path).verify_network == "checksum"
    assert Settings.load("v", tmp_path).verify_network == "no"
    write(tmp_path, {f"{BACKENDS}/src/network.conf": "VERIFY=perhaps"})
    with pytest.raises(ConfigurationError, match=r"network\.conf, line 1: VERIFY_NETWORK: .*'no', 'checksum' or 'sign"):
        Settings.load("", tmp_path)


@pytest.mark.parametrize("name", ["VERIFY", "VERIFY_LOCAL", "VERIFY_NETWORK", "VERIFY_PROGRAM"])
def test_signatures_without_a_keyring_are_a_fault_of_the_files(tmp_path: Path, name: str) -> None:
    write(tmp_path, {MAIN: f"\n{name}=signature"})
    with pytest.raises(ConfigurationError) as caught:
        Settings.load("", tmp_path)
    cure = "signature needs VERIFY_KEYRING; name the file of the publishers' keys there"
    assert str(caught.value) == f"{tmp_path / MAIN}, line 2: {name}: {cure}"
    write(tmp_path, {MAIN: f"{name}=signature\nVERIFY_KEYRING={tmp_path}/keys", "keys": "x"})
    assert Settings.load("", tmp_path).verify_keyring == f"{tmp_path}/keys"


def test_the_variants_lie_where_the_main_file_says(tmp_path: Path) -> None:
    write(tmp_path, {MAIN: f"VARIANTS_DIR={tmp_path}/own", "own/w.conf": "HELPER_MEMORY=1024"})
    assert Settings.load("w", tmp_path).helper_memory == 1024


@pytest.mark.row(17)
@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            {f"{VARIANTS}/a.conf": "", LIST: "# Ganeti's\nb\n\nnone\n"},
            "variant 'none': {root}/etc/ganeti/snf-image/variants/none.conf does not exist, though "
            "{root}/etc/ganeti/snf-image/variants.list offers it; create it (it may be empty)",
        ),
        (
            {f"{VARIANTS}/a.conf": "", LIST: "b\n#none\n"},
            "variant 'none': there is no such variant; use one of a, b, or create "
            "{root}/etc/ganeti/snf-image/variants/none.conf: it does not exist",
        ),
        (
            {LIST: "none\n"},
            "variant 'none': VARIANTS_DIR {root}/etc/ganeti/snf-image/variants does not exist; "
            "create it, with a file none.conf in it",
        ),
    ],
    ids=["published", "unpublished", "no directory"],
)
def test_a_variant_that_is_not_there_is_told_by_what_is_wrong_with_it(
    tmp_path: Path, files: dict[str, str], text: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load("none", write(tmp_path, files))
    assert str(caught.value) == text.format(root=tmp_path)


def test_a_main_file_that_cannot_be_read_is_not_followed_by_guesses_about_its_variants(tmp_path: Path) -> None:
    write(tmp_path, {MAIN: "VARIANTS_DIR=$HOME\n"})
    with pytest.raises(ConfigurationError) as caught:
        Settings.load("v", tmp_path)
    assert "variant" not in str(caught.value)


# As the predecessor's deployment tool wrote it for a Synnefo cluster, and as version 0.22 of it had been configured.
SYNNEFO = """# Configuration file of snf-image
IMAGE_DEBUG="no"
# IMAGE_DIR="/var/lib/snf-image"
IMAGE_DIR="/srv/okeanos"

# HELPER_DIR: where the helper VM's files lie
#HELPER_DIR="/var/lib/snf-image/helper/"
HELPER_SOFT_TIMEOUT="240"
HELPER_HARD_TIMEOUT="10s"
HELPER_USER="nobody"
HELPER_MEMORY="768"   # MiB

export PITHOS_DB="sqlite:////var/lib/pithos/backend.db"
PITHOS_DATA="/srv/pithos/data"
PITHOS_BACKEND_STORAGE="rados"
PITHCAT_UMASK=007
PROGRESS_MONITOR="snf-progress-monitor"
UNATTEND=""
DHCP_TAGS='auto dhcp nfdhcpd'
STATELESS_DHCPV6_TAGS="nfdhcpd stateless_dhcpv6"
DEFAULT_NIC_CONFIG="dhcp"
XEN_CMD=xm; VERSION_CHECK=no
KVM="qemu-system-x86_64 -enable-kvm -machine pc-i440fx-2.1,accel=kvm"
CURL="curl -k"
"""


def test_the_configuration_of_a_synnefo_cluster_is_read_as_it_is(tmp_path: Path) -> None:
    settings = Settings.load("", write(tmp_path, {MAIN: SYNNEFO}))
    assert str(settings.image_dir) == "/srv/okeanos"
    assert (settings.helper_soft_timeout, settings.helper_hard_timeout) == (240, 10)
    assert (settings.helper_user, settings.helper_memory) == ("nobody", 768)
    assert (settings.progress_monitor, settings.curl) == ("snf-progress-monitor", "curl -k")
    assert [warning.partition(": ")[2].split()[0].rstrip(":") for warning in settings.warnings] == [
        *("PITHOS_DB", "PITHOS_DATA", "PITHOS_BACKEND_STORAGE", "PITHCAT_UMASK", "XEN_CMD", "VERSION_CHECK", "KVM"),
    ]


PROPERTIES = {
    "OSFAMILY": "linux",
    "ROOT_PARTITION": "1",
    "USERS": "root user",
    "DESCRIPTION": 'Bob\'s "Debian"\nwith $HOME and `id`, ünïcode, a \\ and a tab\t',
}
# What snf-image-creator 0.11 writes beside an image: bash's own quoting of IMG_ID, IMG_FORMAT and IMG_PROPERTIES.
CREATOR = r"""IMG_FORMAT=diskdump
IMG_ID=debian-8.diskdump
IMG_PROPERTIES=$'{"OSFAMILY": "linux", "DESCRIPTION": "it\'s a \\"Debian\\"", "USERS": "root"}'
"""


@pytest.mark.row(18)
def test_the_variant_file_of_the_image_creator_is_read_as_it_is(tmp_path: Path) -> None:
    settings = Settings.load("debian", write(tmp_path, {f"{VARIANTS}/debian.conf": CREATOR}))
    assert (settings.parameters["IMG_ID"], settings.parameters["IMG_FORMAT"]) == ("debian-8.diskdump", "diskdump")
    assert json.loads(settings.parameters["IMG_PROPERTIES"]) == {
        "OSFAMILY": "linux",
        "DESCRIPTION": 'it\'s a "Debian"',
        "USERS": "root",
    }
    assert settings.warnings == ()


@pytest.mark.row(18)
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 4])
def test_what_bash_prints_of_the_creators_variables_is_read_back(
    tmp_path: Path, ascii_only: bool, indent: int | None
) -> None:
    properties = json.dumps(PROPERTIES, indent=indent, ensure_ascii=ascii_only)
    script = 'IMG_ID=$1 IMG_FORMAT=$2 IMG_PROPERTIES=$3; set -- ""; set | grep ^IMG_'
    written = subprocess.run(
        ["/bin/bash", "-c", script, "bash", "it's an image", "diskdump", properties],
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    ).stdout.decode()
    settings = Settings.load("w", write(tmp_path, {f"{VARIANTS}/w.conf": written}))
    assert dict(settings.parameters) == {
        "IMG_ID": "it's an image",
        "IMG_FORMAT": "diskdump",
        "IMG_PROPERTIES": properties,
    }
    assert json.loads(settings.parameters["IMG_PROPERTIES"]) == PROPERTIES
