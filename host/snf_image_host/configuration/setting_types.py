# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of the settings: how a value is spelt in the files, and what is wrong with one."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from snf_image_host import programs
from snf_image_host.parameters.answer_files import check_answer_file
from snf_image_host.parameters.windows_timezones import windows_timezone
from snf_image_shared.errors import RequestError
from snf_image_shared.properties import NO, YES, parse_properties

FETCH_SCHEMES = ("http", "https", "ftp", "ftps", "file")
IMAGE_SCHEMES = FETCH_SCHEMES[:-1]
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Accelerator(StrEnum):
    """How the helper VM's processor is made."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class Verify(StrEnum):
    """What an image must have to be deployed."""

    NO = "no"
    CHECKSUM = "checksum"
    SIGNATURE = "signature"


class ConfigDevice(StrEnum):
    """How the job reaches the helper VM; AUTO is a floppy with KVM if it fits on one, else a disk."""

    AUTO = "auto"
    FLOPPY = "floppy"
    DISK = "disk"


def _seconds(value: object) -> object:
    """Accept what timeout(1) does: 120, 2m, 1h, 1d."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", value.strip())
    if not found:
        raise ValueError(f"{value[:40]!r} is no time; write seconds, or 90s, 2m, 1h, 1d")
    return float(found[1]) * _SECONDS[found[2]]


def _boolean(value: object) -> object:
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in YES | NO:
        return word in YES
    raise ValueError(f"{value[:40]!r} is neither yes nor no")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not an absolute path")
    return path


def _program(setting: str) -> str:
    try:
        programs.words(setting)
    except ValueError as error:
        raise ValueError(f"not a program with options: {error}") from error
    return setting


def _file(path: str) -> str:
    try:
        is_file = not path or Path(path).is_file()
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from error
    if not is_file:
        raise ValueError(f"there is no file {path!r} on this node")
    return path


def _schemes(words: str) -> str:
    for word in words.split():
        if word not in FETCH_SCHEMES:
            raise ValueError(f"{word[:20]!r} is not one of {', '.join(FETCH_SCHEMES)}")
    return words


def _image_schemes(words: str) -> str:
    for word in words.split():
        if word not in IMAGE_SCHEMES:
            raise ValueError(f"{word[:20]!r} is not one of {', '.join(IMAGE_SCHEMES)}")
    return words


def _hosts(words: str) -> str:
    for word in words.split():
        if not re.fullmatch(r"[A-Za-z0-9.-]+", word):
            ipaddress.ip_network(word)
    return words


def _networks(words: str) -> str:
    for word in words.split():
        ipaddress.ip_network(word)
    return words


def _properties(text: str) -> str:
    try:
        parse_properties(text or "{}", "")
    except RequestError as error:
        raise ValueError(str(error).removeprefix("OS parameter : ")) from error
    return text


Schemes = Annotated[str, AfterValidator(_schemes)]
ImageSchemes = Annotated[str, AfterValidator(_image_schemes)]
Networks = Annotated[str, AfterValidator(_networks)]
Hosts = Annotated[str, AfterValidator(_hosts)]
Directory = Annotated[Path, AfterValidator(_absolute)]
Program = Annotated[str, AfterValidator(_program)]
NodeFile = Annotated[str, AfterValidator(_file)]
AnswerFile = Annotated[NodeFile, AfterValidator(lambda path: check_answer_file(path) if path else path)]
Timezone = Annotated[str, AfterValidator(lambda name: windows_timezone(name) or name)]
PropertySet = Annotated[str, AfterValidator(_properties)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
Flag = Annotated[bool, BeforeValidator(_boolean)]
NicDefault = Literal["", "dhcp", "dhcpv6", "slaac", "slaac_dhcp", "dhcp+dhcpv6", "dhcp+slaac", "dhcp+slaac_dhcp"]
