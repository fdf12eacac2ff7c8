# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's user-data with members of ours in it, for FreeBSD's nuageinit, which reads no vendor-data. Pure.

Nothing here reads YAML: a document is taken for block style, where a key of the top level begins a line. What a user
says of a key stays; of the lists, where both have something to do, ours go before the user's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from snf_image_helper.cloud_init import Json
from snf_image_helper.files.block_yaml import block_yaml
from snf_image_shared.errors import GuestError

CLOUD_CONFIG = "#cloud-config"  # of nuageinit the whole first line, libexec/nuageinit/nuageinit
_KEY = re.compile(r"^(['\"]?)([A-Za-z_][A-Za-z0-9_-]{0,100})\1[ \t]*:(.*)$", re.MULTILINE)
_ITEM = re.compile(r"([ \t]*(?:#[^\n]*)?\n)*(?P<indent> *)-[ \n]")
_LISTS = frozenset({"users", "write_files", "runcmd"})


def is_script(data: bytes) -> bool:
    """Whether it is a program and no document."""
    return data.startswith(b"#!")


def keys_of(data: bytes) -> frozenset[str]:
    """The keys of the top level of a document."""
    return frozenset(match[2] for match in _KEY.finditer(data.decode("utf-8", "replace")))


def merged(data: bytes, ours: Mapping[str, Json]) -> bytes:
    """The user's document, or none, with ours. Raises GuestError for one that nuageinit does not understand."""
    text = _checked(data)
    for key, value in ours.items():
        found = next((match for match in _KEY.finditer(text) if match[2] == key), None)
        if found is None:
            text += "".join(f"{line}\n" for line in block_yaml({key: value}))
        elif key in _LISTS:
            text = _with_items(text, found, value)
    return text.encode()


def _checked(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise GuestError(f"cloud_userdata is no text in UTF-8; {_CURE}") from error
    first, _, rest = text.partition("\n")
    if text.strip() and first.strip() != CLOUD_CONFIG:
        raise GuestError(f"cloud_userdata begins with {first[:40]!r}; {_CURE}")
    if re.search(r"^(---|\.\.\.)", rest, re.MULTILINE):
        raise GuestError(f"cloud_userdata is more than one document; {_CURE}")
    if rest.strip() and not _KEY.search(rest):
        raise GuestError(f"cloud_userdata has no key at the beginning of a line; {_CURE}")
    return f"{CLOUD_CONFIG}\n{rest}{'' if not rest or rest.endswith(chr(10)) else chr(10)}"


def _with_items(text: str, key: re.Match[str], value: Json) -> str:
    """Our items before the first one of the user's."""
    comment = key[3].strip()
    item = _ITEM.match(text, key.end())
    if (comment and not comment.startswith("#")) or item is None:
        raise GuestError(f"cloud_userdata: {key[2]} is no list with an item a line; {_CURE}")
    at = item.start("indent")
    return text[:at] + "".join(f"{line}\n" for line in block_yaml(value, item["indent"])) + text[at:]


_CURE = f"FreeBSD's nuageinit takes a script (#!) or a {CLOUD_CONFIG} of one document in block style"
