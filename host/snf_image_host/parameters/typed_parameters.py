# SPDX-License-Identifier: GPL-2.0-or-later
"""From the OS parameters as text to their own types, with everything that is wrong with them. Pure: nothing is fetched.

A partial set is no fault here: verify is asked about a cluster's defaults alone, and config_url may bring the rest.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.fetch import parse_url
from snf_image_host.images.checksum import Checksum, parse_checksums
from snf_image_host.images.names import DUMPS, NO_IMAGE
from snf_image_host.parameters.faults import Faults, shown
from snf_image_host.parameters.hostnames import host_name
from snf_image_host.parameters.layout import check_layout
from snf_image_host.parameters.network_document import NetworkDocument, parse_network
from snf_image_host.parameters.osparams import OS_PARAMETERS
from snf_image_host.parameters.personality import parse_personality
from snf_image_host.parameters.spec import spec_members
from snf_image_shared.deployment import Form
from snf_image_shared.errors import RequestError
from snf_image_shared.job import PersonalityFile, Secrets
from snf_image_shared.properties import merge, parse_properties

FORMATS = ("diskdump", "extdump", "ntfsdump", "qcow2", "vmdk", "vhdx", "vdi", "auto", "tarball", "dump")
LARGEST_VALUE = 32 << 20  # characters of one parameter; all of them together must fit on the config device
_LONGEST_PASSWORD = 511  # bytes: CRYPT_MAX_PASSPHRASE_SIZE of crypt(3), less its NUL
_LONGEST_HASH = 512  # characters, as the helper takes them
_PRODUCT_KEY = re.compile(r"[A-Za-z0-9]{5}(-[A-Za-z0-9]{5}){4}")

T = TypeVar("T")


@dataclass(frozen=True)
class Parameters:
    """All OS parameters. None is "not given" and, but for those in `secrets`, "empty" too."""

    image_id: str | None = None
    image_format: str | None = None
    checksums: tuple[Checksum, ...] = ()
    hostname: str | None = None
    network: NetworkDocument | None = None
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    personality: tuple[PersonalityFile, ...] = field(default=(), repr=False)
    answer_file_url: str | None = field(default=None, repr=False)
    config_url: str | None = field(default=None, repr=False)
    secrets: Secrets = field(default_factory=Secrets, repr=False)


def read_parameters(given: Mapping[str, str], settings: Settings, faults: Faults) -> Parameters:
    """`given` by upper-case name. What is wrong is added to `faults`, and not given in the result. Raises nothing."""
    texts = {name: given[name] for name in OS_PARAMETERS if name in given and _is_text(name, given[name], faults)}

    def read(name: str, parse: Callable[[str], T], otherwise: T) -> T:
        """What a parameter says that means nothing when it is empty."""
        text = texts.get(name)
        return faults.parameter(name.lower(), lambda: parse(text), otherwise) if text else otherwise

    def secret(name: str, check: Callable[[str], str]) -> str | None:
        """A secret, which may be given and empty."""
        text = texts.get(name)
        return None if text is None else faults.parameter(name.lower(), lambda: check(text), None)

    nothing: Mapping[str, str] = {}
    image = read("IMG_PROPERTIES", lambda text: parse_properties(text, "img_properties"), nothing)
    instance = read("INST_PROPERTIES", lambda text: parse_properties(text, "inst_properties"), nothing)
    read("SPEC", spec_members, nothing)
    _check_passwords(given, settings, faults)
    found = Parameters(
        image_id=read("IMG_ID", _image_id, None),
        image_format=read("IMG_FORMAT", _image_format, None),
        checksums=read("IMG_CHECKSUM", parse_checksums, ()),
        hostname=read("HOSTNAME", _host_name, None),
        network=read("NETWORK", parse_network, None),
        properties=merge(image, instance).values,
        personality=read("IMG_PERSONALITY", parse_personality, ()),
        answer_file_url=read("OS_ANSWER_FILE", lambda url: parse_url(url, "os_answer_file", settings).text, None),
        config_url=read("CONFIG_URL", lambda url: parse_url(url, "config_url", settings).text, None),
        secrets=Secrets(
            password=secret("IMG_PASSWD", _password),
            password_hash=secret("IMG_PASSWD_HASH", _password_hash),
            authorized_keys=texts.get("AUTH_KEYS"),
            cloud_userdata=secret("CLOUD_USERDATA", _base64),
            product_key=secret("OS_PRODUCT_KEY", _product_key),
        ),
    )
    _check_together(found, faults)
    return found


def _is_text(name: str, text: str, faults: Faults) -> bool:
    """Whether this can go into a file of the guest at all."""
    fault = None
    if len(text) > LARGEST_VALUE:
        fault = f"has {len(text)} characters; the most is {LARGEST_VALUE}"
    elif any("\ud800" <= character <= "\udfff" for character in text):
        # Bytes that are no UTF-8 come out of the environment like this, and half a surrogate pair out of JSON.
        fault = "not valid UTF-8; convert it"
    elif "\0" in text:
        fault = "contains a NUL character; remove it"
    if fault:
        faults.add(name.lower(), fault)
    return not fault


def _check_passwords(given: Mapping[str, str], settings: Settings, faults: Faults) -> None:
    names = [name for name in ("IMG_PASSWD", "IMG_PASSWD_HASH") if name in given]
    if len(names) < 2:
        return
    preset = [name for name in names if given[name] == settings.parameters.get(name)]
    cure = f"; {preset[0]} is preset by the variant or snf-image.conf" if len(preset) == 1 else ""
    faults.add("img_passwd_hash", f"img_passwd and img_passwd_hash exclude each other, empty or not; give one{cure}")


def _check_together(found: Parameters, faults: Faults) -> None:
    if found.checksums and found.image_id == NO_IMAGE:
        faults.add("img_checksum", "there is no image to check, as img_id is null; leave it out")
    if found.image_format in DUMPS and found.image_id == NO_IMAGE:
        text = f"{found.image_format} puts a partition table before an image, and there is none, as img_id is null"
        faults.add("img_format", f"{text}; give diskdump")
    if found.image_format in set(Form):
        faults.parameter("img_properties", lambda: check_layout(found.properties), None)


def _image_id(text: str) -> str:
    if any(ord(character) < 32 for character in text):
        raise RequestError("has a control character in it; correct the name")  # and may be a URL with a password
    return text


def _image_format(text: str) -> str:
    if text not in FORMATS:
        raise RequestError(f"{shown(text)} is not one of {', '.join(FORMATS)}; convert the image")
    return text


def _host_name(text: str) -> str:
    try:
        return host_name(text)
    except ValueError as error:
        raise RequestError(str(error)) from error


def _password(text: str) -> str:
    if any(character in text for character in "\n\r"):
        raise RequestError("a password cannot contain a line break")
    if len(text.encode()) > _LONGEST_PASSWORD:
        raise RequestError(f"a password has at most {_LONGEST_PASSWORD} bytes; give a shorter one")
    return text


def _password_hash(text: str) -> str:
    if not text.isascii() or any(character in ": " or not character.isprintable() for character in text):
        raise RequestError("a hash contains no ':', no blank and no line break; give one crypt(5) hash")
    if len(text) > _LONGEST_HASH:
        raise RequestError(f"a hash has at most {_LONGEST_HASH} characters; is it one?")
    return text


def _base64(text: str) -> str:
    try:
        binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError as error:
        raise RequestError(f"not base64: {error}; encode it with base64") from error
    return text


def _product_key(text: str) -> str:
    if text and not _PRODUCT_KEY.fullmatch(text):
        raise RequestError("not five groups of five letters or digits, joined by hyphens; correct it")
    return text
