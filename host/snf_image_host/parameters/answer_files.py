# SPDX-License-Identifier: GPL-2.0-or-later
"""Answer files for Windows on their way to the helper. That of the node is its administrator's and is checked here.

What os_answer_file brings is a tenant's: only the helper reads it.
"""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree as ET

from snf_image_shared.errors import ConfigurationError

_LIMIT = 1 << 20  # bytes, as in the helper
_ROOT = "{urn:schemas-microsoft-com:unattend}unattend"


def check_answer_file(path: str) -> str:
    """The path, if an answer file is there. Raises ValueError with what is wrong."""
    _read(path)
    return path


def node_answer_file(path: str) -> str | None:
    """The file of the setting UNATTEND in base64, None without one. Raises ConfigurationError."""
    if not path:
        return None
    try:
        return base64.b64encode(_read(path)).decode()
    except ValueError as error:
        raise ConfigurationError(f"UNATTEND: {error}") from error


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from error
    if len(content) > _LIMIT:
        raise ValueError(f"{path!r} is larger than {_LIMIT} bytes, which no answer file is")
    if any("<!DOCTYPE".encode(encoding) in content for encoding in ("utf-8", "utf-16-le", "utf-16-be")):
        raise ValueError(f"{path!r} has a document type declaration (DOCTYPE), which no answer file needs; remove it")
    try:
        root = ET.fromstring(content)  # noqa: S314  # the administrator's own file, and without entities
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path!r} is no XML: {error}") from error
    if root.tag != _ROOT:
        raise ValueError(f"{path!r} is no answer file: its outermost element is not unattend of {_ROOT[1:-9]}")
    return content
