# SPDX-License-Identifier: GPL-2.0-or-later
"""The OS parameter img_personality: files to put into the guest."""

from __future__ import annotations

import base64
from dataclasses import replace

from pydantic import TypeAdapter

from snf_image_host.parameters.documents import decode, validate
from snf_image_host.parameters.faults import shown
from snf_image_shared.errors import RequestError
from snf_image_shared.job import PersonalityFile

PERSONALITY: TypeAdapter[tuple[PersonalityFile, ...]] = TypeAdapter(tuple[PersonalityFile, ...])


def parse_personality(text: str) -> tuple[PersonalityFile, ...]:
    """The files of a JSON array; empty text is none. Raises RequestError with a line for each fault.

    Contents come back as base64 without the line breaks that base64(1) puts in.
    """
    if not text:
        return ()
    document = decode(text)
    if not isinstance(document, list):
        raise RequestError("not a JSON array of files")
    files = validate(document, PERSONALITY, secret=True)
    lines = [
        f"[{number}] ({shown(file.path)}): {fault}" for number, file in enumerate(files) for fault in _faults(file)
    ]
    if lines:
        raise RequestError(*lines)
    return tuple(replace(file, contents="".join(file.contents.split())) for file in files)


def _faults(file: PersonalityFile) -> list[str]:
    found = []
    if not file.path.startswith("/") or "\0" in file.path or ".." in file.path.split("/"):
        found.append("the path must be absolute and without '..'")
    elif not file.path.strip("/."):
        found.append("the path names no file")
    if not 0 <= file.mode <= 0o7777:
        found.append(f"mode {str(file.mode)[:20]} is not a decimal number from 0 to 4095 (288 is 0440)")
    try:
        base64.b64decode("".join(file.contents.split()), validate=True)
    except ValueError as error:
        found.append(f"contents are not base64: {error}")
    return found
