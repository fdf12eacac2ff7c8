# SPDX-License-Identifier: GPL-2.0-or-later
"""The Ganeti OS interface, version 20: environment -> Request, checked once. Below this edge nobody reads os.environ.

Source: ganeti-os-interface(7), ganeti lib/backend.py OSEnvironment, and what Ganeti 3.0.2 was seen to pass.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from snf_image_host.disks import MAX_DISKS, InstanceDisk, disks_from_environment
from snf_image_host.nics import nics_from_environment
from snf_image_host.os_interface import check_api_version
from snf_image_host.settings import Settings
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Nic, PersonalityFile, Secrets
from snf_image_shared.properties import merge, parse_properties

FORMATS = ("diskdump",)
HYPERVISORS = ("kvm", "xen-hvm", "xen-pvm", "fake", "lxc", "chroot")
_LATER = {
    "CONFIG_URL": "fetching parameters from a URL is not part of this version; give them directly",
    "OS_ANSWER_FILE": "Windows answer files are not part of this version",
    "OS_PRODUCT_KEY": "Windows product keys are not part of this version",
}


def _hostname(name: str) -> str:
    # An underscore is no part of a host name (RFC 1123), but Ganeti allows it in the name of an instance.
    label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    if len(name) > 253 or not re.fullmatch(rf"{label}(\.{label})*", name):
        raise ValueError("not a host name (letters, digits and hyphens, separated by dots, up to 253 characters)")
    return name


class Request(BaseModel):
    """What Ganeti asks for, complete and checked as far as it can be without touching network or disk."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    instance: Annotated[str, AfterValidator(_hostname)]
    hostname: Annotated[str, AfterValidator(_hostname)]
    hypervisor: Literal[HYPERVISORS]  # type: ignore[valid-type]  # pydantic takes the tuple, mypy wants the words
    disks: tuple[InstanceDisk, ...] = Field(min_length=1, max_length=MAX_DISKS)
    image_id: str
    image_format: Literal[FORMATS]  # type: ignore[valid-type]
    properties: Mapping[str, str] = Field(default_factory=dict)
    personality: tuple[PersonalityFile, ...] = Field(default=(), repr=False)
    nics: tuple[Nic, ...] = ()
    secrets: Secrets = Field(default_factory=Secrets, repr=False)
    guest_environment: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, env: Mapping[str, str], settings: Settings, parameters: Mapping[str, str]) -> Request:
        """`parameters` are all OS parameters by upper-case name, those of config_url included; see os_parameters().

        Raises RequestError naming the variable or the OS parameter (in lower case) and the cure.
        """
        check_api_version(env)
        for name in ("INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT"):
            if not env.get(name):
                raise RequestError(f"{name} is missing from the environment; Ganeti sets it, so call me through Ganeti")
        check_parameters(parameters)
        given = {
            "instance": env["INSTANCE_NAME"],
            "hostname": env["INSTANCE_NAME"],
            "hypervisor": env["HYPERVISOR"],
            "disks": disks_from_environment(env),
            "image_id": _mandatory(parameters, "IMG_ID"),
            "image_format": _mandatory(parameters, "IMG_FORMAT"),
            "properties": _properties(parameters),
            "personality": _personality(parameters.get("IMG_PERSONALITY", "")),
            "nics": nics_from_environment(env, settings),
            "secrets": _secrets(parameters),
            "guest_environment": _guest_environment(env, parameters),
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise RequestError(_explain(error)) from error


def check_parameters(parameters: Mapping[str, str]) -> None:
    """What holds for a partial set of OS parameters as well: verify asks this. Raises RequestError."""
    for name, why in _LATER.items():
        if parameters.get(name):
            raise RequestError(f"OS parameter {name.lower()}: {why}")
    if "IMG_PASSWD" in parameters and "IMG_PASSWD_HASH" in parameters:
        raise RequestError("OS parameters img_passwd and img_passwd_hash exclude each other; give one of them")
    if parameters.get("IMG_FORMAT") and parameters["IMG_FORMAT"] not in FORMATS:
        raise RequestError(
            f"OS parameter img_format: {parameters['IMG_FORMAT'][:40]!r} is not one of {', '.join(FORMATS)}"
        )
    for name, value in parameters.items():
        if not _is_utf8(value):
            raise RequestError(f"OS parameter {name.lower()}: not valid UTF-8; convert it")
    if any(character in parameters.get("IMG_PASSWD", "") for character in "\n\r\0"):
        raise RequestError("OS parameter img_passwd: a password cannot contain a line break")
    if any(character in parameters.get("IMG_PASSWD_HASH", "") for character in "\n\r\0:"):
        raise RequestError("OS parameter img_passwd_hash: a hash cannot contain ':' or a line break")
    _properties(parameters)
    _personality(parameters.get("IMG_PERSONALITY", ""))


def _is_utf8(text: str) -> bool:
    """Bytes that are not come out of the environment as lone surrogates, which no file of the guest can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _mandatory(parameters: Mapping[str, str], name: str) -> str:
    if not parameters.get(name):
        raise RequestError(
            f"OS parameter {name.lower()} is missing; give it with -O {name.lower()}=..., or preset {name} in a variant"
        )
    return parameters[name]


def _properties(parameters: Mapping[str, str]) -> Mapping[str, str]:
    image = parse_properties(parameters.get("IMG_PROPERTIES") or "{}", "img_properties")
    instance = parse_properties(parameters.get("INST_PROPERTIES") or "{}", "inst_properties")
    return merge(image, instance).values


def _personality(text: str) -> tuple[PersonalityFile, ...]:
    if not text:
        return ()
    try:
        decoded = json.loads(text, object_pairs_hook=_members)
        # In JSON mode strict means JSON's own types: "288" and true are no numbers, but an array is a tuple.
        files = _PERSONALITY.validate_json(json.dumps(decoded), strict=True)
    except ValidationError as error:
        raise RequestError(f"OS parameter img_personality: {_explain(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"OS parameter img_personality: not a JSON array of files: {error}") from error
    return tuple(_personality_file(number, file) for number, file in enumerate(files))


_PERSONALITY = TypeAdapter(tuple[PersonalityFile, ...])


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice; keep one of them")
    return members


def _personality_file(number: int, file: PersonalityFile) -> PersonalityFile:
    """Check one file; its contents come back as base64 without the line breaks that base64(1) puts in."""
    where = f"OS parameter img_personality: file {number} ({file.path[:60]!r})"
    if not file.path.startswith("/") or "\0" in file.path or ".." in file.path.split("/"):
        raise RequestError(f"{where}: the path must be absolute and without '..'")
    if not file.path.strip("/."):
        raise RequestError(f"{where}: the path names no file")
    if not 0 <= file.mode <= 0o7777:
        raise RequestError(f"{where}: mode {str(file.mode)[:20]} is not a decimal number from 0 to 4095 (288 is 0440)")
    contents = "".join(file.contents.split())
    try:
        base64.b64decode(contents, validate=True)
    except ValueError as error:
        raise RequestError(f"{where}: contents are not base64: {error}") from error
    return replace(file, contents=contents)


def _secrets(parameters: Mapping[str, str]) -> Secrets:
    return Secrets(
        password=parameters.get("IMG_PASSWD"),
        password_hash=parameters.get("IMG_PASSWD_HASH"),
        authorized_keys=parameters.get("AUTH_KEYS"),
        cloud_userdata=parameters.get("CLOUD_USERDATA"),
    )


def _guest_environment(env: Mapping[str, str], parameters: Mapping[str, str]) -> dict[str, str]:
    """What a custom task of the image finds in its environment, named as snf-image always named it."""
    nics = {f"SNF_IMAGE_{name}": value for name, value in env.items() if name.startswith("NIC_")}
    known = {
        "SNF_IMAGE_TYPE": parameters.get("IMG_FORMAT", ""),
        "SNF_IMAGE_HOSTNAME": env["INSTANCE_NAME"],
        "HYPERVISOR": env["HYPERVISOR"],
    }
    return {**nics, **known}


_VARIABLES = {
    "instance": "INSTANCE_NAME",
    "hypervisor": "HYPERVISOR",
    "disks": "DISK_*",
    "image_id": "OS parameter img_id",
    "image_format": "OS parameter img_format",
}


def _explain(error: ValidationError) -> str:
    """The first fault of a model in one line, without the value: it may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = [str(part) for part in first["loc"]]
    where[:1] = [_VARIABLES.get(where[0], where[0])] if where else []
    place = ".".join(where)[:80]
    fault = first["msg"].removeprefix("Value error, ")
    return f"{place}: {fault}" if place else fault
