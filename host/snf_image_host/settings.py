# SPDX-License-Identifier: GPL-2.0-or-later
"""What the administrator's files say: defaults, then snf-image.conf, then the variant. The one place for every default.

Source of the names: contract of snf-image 0.23, configuration variables. Values are data, never executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from snf_image_host.assignments import read_assignments
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.properties import NO, YES

MAIN_FILES = ("etc/snf-image/snf-image.conf", "etc/default/snf-image")
SOURCE_FILE = "etc/snf-image/backends/src/local.conf"
OS_PARAMETERS = (
    "IMG_ID",
    "IMG_FORMAT",
    "IMG_PASSWD",
    "IMG_PASSWD_HASH",
    "IMG_PROPERTIES",
    "INST_PROPERTIES",
    "IMG_PERSONALITY",
    "AUTH_KEYS",
    "OS_PRODUCT_KEY",
    "OS_ANSWER_FILE",
    "CONFIG_URL",
    "CLOUD_USERDATA",
    "IMG_CHECKSUM",
    "HOSTNAME",
    "NETWORK",
    "SPEC",
)
# Variables of snf-image 0.23 whose work is done differently here: harmless in an old file, so they are no error.
OBSOLETE = frozenset(
    (
        *("AWK", "BLOCKDEV", "DATE", "DD", "LOSETUP", "MD5SUM", "PARTED", "TAR", "TIMEOUT", "KPARTX", "SFDISK"),
        *("INSTALL_MBR", "VERSION_CHECK", "XEN_CMD", "XEN_SCRIPTS_DIR", "MULTISTRAP_CONFIG", "MULTISTRAP_APTPREFDIR"),
        *("UNATTEND", "WINDOWS_TIMEZONE", "IMAGE_DEBUG"),
    )
)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Accelerator(StrEnum):
    """How the helper VM's processor is made."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class ConfigDevice(StrEnum):
    """How the job reaches the helper VM; AUTO is a floppy with KVM if it fits on one, else a disk."""

    AUTO = "auto"
    FLOPPY = "floppy"
    DISK = "disk"


def _seconds(value: object) -> object:
    """Accept what timeout(1) does: 120, 2m, 1h, 1d."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", value.strip()) if isinstance(value, str) else None
    return float(found[1]) * _SECONDS[found[2]] if found else value


def _boolean(value: object) -> object:
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in YES | NO:
        return word in YES
    raise ValueError(f"{value!r} is neither yes nor no")


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
NicDefault = Literal["", "dhcp", "dhcpv6", "slaac", "slaac_dhcp", "dhcp+dhcpv6", "dhcp+slaac", "dhcp+slaac_dhcp"]


class Settings(BaseModel):
    """The effective settings. Time in seconds, memory in MiB. `parameters` are OS parameters preset by the files."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    helper_dir: Path
    image_dir: Path
    run_dir: Path
    helper_soft_timeout: Seconds | None = None
    helper_hard_timeout: Seconds = 5.0
    helper_boot_timeout: Seconds | None = None
    helper_user: str = ""
    helper_memory: int = Field(default=512, ge=128, le=65536)
    helper_debug: Flag = False
    helper_accel: Accelerator = Accelerator.AUTO
    helper_config_device: ConfigDevice = ConfigDevice.AUTO
    kvm: str = "qemu-system-x86_64"
    curl: str = "curl"
    fetch_schemes: str = "http https ftp ftps"
    fetch_timeout: Seconds = 60.0
    fetch_max_size: int = Field(default=16 << 20, ge=1024, le=256 << 20)
    storage_user: str = ""
    rename: Flag = True
    progress_monitor: str = ""
    cloud_init_debug: Flag = False
    dhcp_tags: str = "auto dhcp nfdhcpd"
    stateful_dhcpv6_tags: str = "dhcpv6 stateful_dhcpv6"
    stateless_dhcpv6_tags: str = "nfdhcpd stateless_dhcpv6"
    default_nic_config: NicDefault = "dhcp"
    parameters: Mapping[str, str] = Field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, variant: str, root: Path = Path("/")) -> Settings:
        """Read the files below `root` (the file system the provider is installed in) for this variant ("" is none).

        Raises ConfigurationError naming the file and the variable.
        """
        values: dict[str, str] = {}
        origin: dict[str, str] = {}
        for path in _files(root):
            _take(read_assignments(path), path, values, origin)
        variants = Path(values.pop("VARIANTS_DIR", "") or root / "etc/ganeti/snf-image/variants")
        if variant:
            path = variants / f"{_checked_variant(variant)}.conf"
            try:
                _take(read_assignments(path), path, values, origin)
            except FileNotFoundError as error:
                raise ConfigurationError(
                    f"variant {variant!r}: {path} does not exist; create it (it may be empty) or use another variant"
                ) from error
        return cls._build(values, origin, root)

    @classmethod
    def _build(cls, values: dict[str, str], origin: Mapping[str, str], root: Path) -> Settings:
        known = set(cls.model_fields) - {"parameters", "warnings", "run_dir"}
        ignored = sorted(set(values) & OBSOLETE)
        unknown = sorted(set(values) - OBSOLETE - set(OS_PARAMETERS) - {name.upper() for name in known})
        warnings = [f"{origin[name]}: {name} has no effect any more; remove it" for name in ignored]
        warnings += [f"{origin[name]}: {name} is not a setting of snf-image; is it misspelt?" for name in unknown]
        given: dict[str, object] = {
            name: values[name.upper()]
            for name in known
            if values.get(name.upper()) or (name == "default_nic_config" and name.upper() in values)
        }
        given.setdefault("helper_dir", root / "var/lib/snf-image/helper")
        given.setdefault("image_dir", root / "var/lib/snf-image")
        given["run_dir"] = root / "run/snf-image"
        given["parameters"] = {name: values[name] for name in OS_PARAMETERS if name in values}
        given["warnings"] = tuple(warnings)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0]).upper()
            fault = first["msg"].removeprefix("Value error, ")
            raise ConfigurationError(f"{origin.get(name, 'settings')}: {name}: {fault}") from error


def _files(root: Path) -> list[Path]:
    main = [path for path in (root / name for name in MAIN_FILES) if path.exists()][:1]
    source = root / SOURCE_FILE
    return main + ([source] if source.exists() else [])


def _take(new: Mapping[str, str], path: Path, values: dict[str, str], origin: dict[str, str]) -> None:
    values.update(new)
    origin.update(dict.fromkeys(new, str(path)))


def _checked_variant(variant: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", variant) or variant.startswith("."):
        raise ConfigurationError(f"variant {variant!r}: only letters, digits and _ . + - may be in a variant's name")
    return variant
