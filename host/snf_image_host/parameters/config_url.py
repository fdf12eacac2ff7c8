# SPDX-License-Identifier: GPL-2.0-or-later
"""config_url: the JSON document of an orchestrator, fetched once, whose members are OS parameters and override all.

Cyclades' URL answers a single GET, so create asks it, and nothing else does: not verify, and create not twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.fetch import fetch, parse_url
from snf_image_host.parameters.documents import decode
from snf_image_host.parameters.osparams import OS_PARAMETERS, os_parameters
from snf_image_host.parameters.spec import with_spec
from snf_image_host.progress import Progress
from snf_image_shared.errors import RequestError

_DOCUMENTS = frozenset({"IMG_PROPERTIES", "INST_PROPERTIES", "IMG_PERSONALITY", "NETWORK", "SPEC"})
_PREFIX = "OS parameter config_url: the document"


def all_parameters(env: Mapping[str, str], settings: Settings, progress: Progress) -> dict[str, str]:
    """All OS parameters by upper-case name, those of config_url included. Raises as fetched()."""
    given = os_parameters(env, settings)
    if url := given.get("CONFIG_URL"):
        progress.log(f"Fetching the configuration from {parse_url(url, 'config_url', settings)}...")
    return fetched(given, settings)


def fetched(parameters: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """`parameters` (by upper-case name) overridden by what their CONFIG_URL gives; unchanged without one.

    Raises RequestError, which shows nothing of the document, and ConfigurationError when this node cannot fetch.
    """
    url = parameters.get("CONFIG_URL")
    return {**parameters, **read_document(fetch(url, "config_url", settings))} if url else dict(parameters)


def read_document(document: bytes, name: str = _PREFIX) -> dict[str, str]:
    """The OS parameters of a document by upper-case name; null is "not given", and what is none of ours is left out.

    `name` is the document's in messages. Those that are JSON themselves may be given as text, as Cyclades does, or as
    they are. Raises RequestError with a line for each fault.
    """
    try:
        content = decode(document.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RequestError(f"{name} is not UTF-8; convert it") from error
    except RequestError as error:
        raise RequestError(f"{name} is {error}; correct it") from error
    if not isinstance(content, dict):
        raise RequestError(f"{name} is not a JSON object; write it in {{...}}")
    # Only ASCII: other alphabets have letters as well whose capital is an I or an S of ours.
    members = [(key.upper(), value) for key, value in content.items() if key.isascii()]
    known = [(key, value) for key, value in members if key in OS_PARAMETERS]
    faults = list(_faults(known, name))
    if faults:
        raise RequestError(*faults)
    given = with_spec({key: _text(value) for key, value in known if value is not None})
    if "CONFIG_URL" in given:
        raise RequestError(f"{name} gives a config_url itself; leave that out")
    return given


def _faults(members: list[tuple[str, object]], name: str) -> Iterator[str]:
    keys = [key for key, _ in members]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{name} gives {key.lower()} twice, in other capitals; keep one"
    for key, value in members:
        if isinstance(value, dict | list) and key not in _DOCUMENTS:
            yield f"{name} gives {key.lower()} as an object or an array; give text"
        elif isinstance(value, bool | int | float):
            yield f"{name} gives {key.lower()} as a number, true or false; put it in quotes"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
