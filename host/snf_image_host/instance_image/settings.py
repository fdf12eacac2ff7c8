# SPDX-License-Identifier: GPL-2.0-or-later
"""What ganeti-instance-image's files say, checked: the one place for each of its settings, its default and meaning.

Names and defaults are those of instance-image 0.7.3 (README, common.sh, defaults). Values are data, never executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from snf_image_host.configuration.setting_files import Given
from snf_image_host.configuration.setting_types import IMAGE_SCHEMES, Directory, Flag
from snf_image_host.configuration.settings import as_written
from snf_image_host.instance_image.files import CONFIGURATION, ImageFiles
from snf_image_host.parameters.layout import Features
from snf_image_host.parameters.osparams import OS_PARAMETERS
from snf_image_shared.deployment import FILE_SYSTEMS, BootMode, TableType
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.properties import NO

_CACHE = Path("/var/cache/ganeti-instance-image")
_LARGEST = 1 << 24  # MiB of one partition


class ImageType(StrEnum):
    """The values of IMAGE_TYPE."""

    TARBALL = "tarball"
    DUMP = "dump"
    QEMU = "qemu"
    RAW = "raw"
    QCOW2 = "qcow2"

    @property
    def is_archive(self) -> bool:
        """Whether the image is no disk: partitions and file systems are made here."""
        return self in {ImageType.TARBALL, ImageType.DUMP}


def _only_install(value: object) -> object:
    """CDINSTALL: everything but "no" was taken for yes, so another way to say no has to be put right by its author."""
    word = str(value).strip()
    if word != "no" and word.lower() in NO:
        raise ValueError(f"{word!r} was always taken for yes; write no, or yes to leave the disks alone")
    return word != "no"


def _file_system(name: str) -> str:
    if name not in FILE_SYSTEMS:
        raise ValueError(f"{name[:40]!r} is not one of {', '.join(FILE_SYSTEMS)}")
    return name


def _url(text: str) -> str:
    if text and text.partition("://")[0].lower() not in IMAGE_SCHEMES:
        raise ValueError(f"not a URL that begins with one of {', '.join(f'{each}://' for each in IMAGE_SCHEMES)}")
    return text


def _one_name(text: str) -> str:
    if text in {".", ".."} or "/" in text or "\0" in text:
        raise ValueError(f"{text[:40]!r} is no name of a directory in OVERLAYS_DIR")
    return text


_OnlyInstall = Annotated[bool, BeforeValidator(_only_install)]
_FileSystem = Annotated[str, AfterValidator(_file_system)]
_UrlOrNone = Annotated[str, AfterValidator(_url)]
_OneName = Annotated[str, AfterValidator(_one_name)]


class ImageSettings(BaseModel):
    """The effective settings of the OS definition `image`; sizes in MiB. An empty value is the default.

    A field with a description is a setting: the files may give it by its name in upper case. `parameters` are OS
    parameters preset by the files. `variables` is everything that a hook finds after sourcing common.sh.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    cdinstall: _OnlyInstall = Field(
        default=False, description="no: deploy. Anything else: the disks are left alone, also on a reinstallation."
    )
    nomount: Flag = Field(
        default=False, description="yes: the image is copied and nothing else is done; rename changes nothing."
    )
    image_name: str = Field(default="", description="The image's name, as in NAME-ARCH.qcow2.")
    arch: str = Field(default="", description="The image's architecture, as in NAME-ARCH.qcow2.")
    image_type: ImageType = Field(
        default=ImageType.DUMP, description="What the image is: tarball, dump, qemu, raw or qcow2."
    )
    image_dir: Directory = Field(default=_CACHE, description="Where the images lie.")
    image_url: _UrlOrNone = Field(
        default="", description="Where they are fetched from instead: the URL of a directory. Empty: IMAGE_DIR."
    )
    image_verify: Flag = Field(
        default=True,
        description="yes: what comes from IMAGE_URL needs a checksum beside it: NAME.sha256, NAME.sha512, SHA256SUMS, "
        "SHA512SUMS, or as ever NAME.sig with a line of sha1sum, which is worth a warning.",
    )
    image_cleanup: Flag = Field(default=False, description="yes: what was fetched from IMAGE_URL is not kept.")
    cache_dir: Directory = Field(
        default=_CACHE, description="Where it is kept otherwise: in the directory snf-image in there, root's alone."
    )
    swap: Flag = Field(default=True, description="yes: a swap partition (tarball and dump).")
    swap_size: int | None = Field(
        default=None, ge=0, le=_LARGEST, description="Its size in MiB. Empty: as much as the instance has memory."
    )
    boot_size: int = Field(
        default=100, ge=1, le=_LARGEST, description="MiB of /boot; there is none where the hypervisor brings a kernel."
    )
    filesystem: _FileSystem = Field(default="ext3", description="ext2, ext3, ext4, xfs or btrfs (tarball and dump).")
    filesystem_features: Features | None = Field(
        default=None, description="conservative: as old guests can read them; or current. Empty: conservative."
    )
    partition_table: TableType | None = Field(
        default=None, description="msdos or gpt. Empty: msdos, but gpt for UEFI and for disks of more than 2 TiB."
    )
    boot_mode: BootMode | None = Field(
        default=None, description="bios or uefi: which firmware the instance starts with. Empty: bios."
    )
    grow: Flag = Field(
        default=False,
        description="yes: the last partition and its file system take all of the disk (qemu, raw and qcow2).",
    )
    fdisk: Literal["sfdisk", "parted"] = Field(
        default="sfdisk", description="sfdisk or parted: no difference, partitions begin and end at whole MiB."
    )
    kernel_path: str | None = Field(
        default=None, description="As if the instance had this kernel_path. Empty: the instance's own."
    )
    kernel_args: str = Field(default="", description="More arguments for the guest's kernel (with the hook grub).")
    overlay: _OneName = Field(default="", description="The directory in OVERLAYS_DIR that is copied into the guest.")
    customize_dir: Directory = Field(default=Path(f"/{CONFIGURATION}/hooks"), description="Where the hooks lie.")
    variants_dir: Directory = Field(
        default=Path(f"/{CONFIGURATION}/variants"),
        description="Where the variants' files, NAME.conf, lie. A variant's file cannot change it.",
    )
    networks_dir: Directory = Field(
        default=Path(f"/{CONFIGURATION}/networks"), description="Where instances/NAME and subnets/SUBNET lie."
    )
    overlays_dir: Directory = Field(default=Path(f"/{CONFIGURATION}/overlays"), description="Where the overlays lie.")
    export_dir: Directory = Field(
        default=Path("/tmp"),  # noqa: S108 - its default was always this, and it is not used
        description="Has no effect any more: nothing is put on the node for an export.",
    )
    image_debug: Flag = Field(
        default=False, description="yes: the log also tells the settings in force. So does Ganeti's --debug."
    )
    cinit_user: str = Field(default="", description="The user that the hook cloud-init makes.")
    cinit_ssh_key: str = Field(default="", description="That user's public key.")
    cinit_ssh_pwauth: Flag = Field(default=False, description="yes: cloud-init lets ssh take passwords.")
    cinit_disable_root: Flag = Field(default=False, description="yes: cloud-init lets nobody in as root.")
    cinit_manage_resolv_conf: Flag = Field(
        default=False, description="yes: cloud-init writes resolv.conf, from the three below."
    )
    dns_servers: str = Field(default="", description="Name servers, separated by blanks (hook cloud-init).")
    dns_search: str = Field(default="", description="Domains to search, separated by blanks (hook cloud-init).")
    dns_domain: str = Field(
        default="", description="The domain, for hooks of yours: cloud-init is told that of the instance's name."
    )

    parameters: Mapping[str, str] = Field(default_factory=dict, repr=False)
    variables: Mapping[str, str] = Field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, variant: str, root: Path = Path("/"), env: Mapping[str, str] | None = None) -> ImageSettings:
        """Read the files below `root` for this variant ("" is none); `env` is what Ganeti passes.

        Raises ConfigurationError with all faults of the files, each naming file, line, variable and cure.
        """
        return image_survey(variant, root, env).checked()


@dataclass(frozen=True)
class ImageSurvey:
    """What the files say for one variant: where each value was given, and the settings unless there are faults."""

    settings: ImageSettings | None
    given: Mapping[str, Given]
    variants_dir: Path
    faults: tuple[str, ...]
    warnings: tuple[str, ...]

    def checked(self) -> ImageSettings:
        """Raises ConfigurationError with all faults."""
        if self.settings is None:
            raise ConfigurationError("; ".join(self.faults))
        return self.settings


def image_survey(variant: str, root: Path, env: Mapping[str, str] | None = None) -> ImageSurvey:
    """Read and judge all files. Raises nothing: what is wrong is in the result."""
    fields = image_setting_fields()
    standard = {name: _default(field, root) for name, field in fields.items()}
    written = {name: as_written(value) for name, value in standard.items()}
    files = ImageFiles(root, variant, {**written, **dict.fromkeys(OS_PARAMETERS, "")}, env or {})
    files.read()
    values = {name.lower(): files.values[name].value for name in fields if _is_given(name, files.values)}
    defaults = {name.lower(): value for name, value in standard.items() if isinstance(value, Path)}
    warnings = tuple(files.doubts())
    rest = {
        "parameters": {name: files.values[name].value for name in OS_PARAMETERS if name in files.values},
        "variables": {name: text for name, text in files.variables.items() if name not in OS_PARAMETERS},
        "warnings": warnings,
    }
    try:
        settings = ImageSettings.model_validate({**defaults, **values, **rest})
    except ValidationError as error:
        faults = [_fault(str(each["loc"][0]), each["msg"], files.values) for each in error.errors(include_input=False)]
        return ImageSurvey(None, files.values, files.variants_dir, (*files.faults, *faults), warnings)
    found = tuple(files.faults)
    return ImageSurvey(None if found else settings, files.values, files.variants_dir, found, warnings)


def image_setting_fields() -> dict[str, FieldInfo]:
    """Each setting by its name in the files, in the order of the manual."""
    return {name.upper(): field for name, field in ImageSettings.model_fields.items() if field.description}


def _default(field: FieldInfo, root: Path) -> object:
    return root / field.default.relative_to("/") if isinstance(field.default, Path) else field.default


def _is_given(name: str, values: Mapping[str, Given]) -> bool:
    return name in values and bool(values[name].value)


def _fault(field: str, message: str, given: Mapping[str, Given]) -> str:
    name = field.upper()
    default = as_written(ImageSettings.model_fields[field].default)
    cure = f"correct it, or remove it for the default ({default})" if default else "correct it, or remove it"
    return f"{given[name]}: {name}: {message.removeprefix('Value error, ')}; {cure}"
