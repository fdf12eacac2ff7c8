# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of `image` as its defaults file and docs/instance-image.md tell them; nothing is said twice."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from snf_image_host.configuration.settings import as_written
from snf_image_host.configuration.settings_manual import Entry
from snf_image_host.instance_image.settings import image_setting_fields

_WIDTH = 100
_HEAD = """\
# Settings of the Ganeti OS definition image. A variant's file in /etc/ganeti/instance-image/variants overrides them.
# Lines are KEY=value as in a shell, and may refer to what stands before them as $KEY; nothing is ever executed.
# How the node runs the virtual machine in which the images are worked on is said in /etc/snf-image/snf-image.conf.
# 'snf-image-config --definition image show' prints what is in force.
"""


def entries() -> tuple[Entry, ...]:
    """All settings in the order of the manual."""
    return tuple(
        Entry(name, as_written(field.default), field.description or "")
        for name, field in image_setting_fields().items()
    )


def defaults_file() -> str:
    """The text of etc/default/ganeti-instance-image, which sets nothing."""
    return _HEAD + "".join(_paragraphs())


def _paragraphs() -> Iterator[str]:
    for each in entries():
        text = textwrap.fill(each.description, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        yield f"\n{text}\n#{each.name}={each.default}\n"


def table() -> str:
    """The rows of docs/instance-image.md."""
    rows = "".join(f"| `{each.name}` | {_code(each.default)} | {each.description} |\n" for each in entries())
    return f"| name | default | meaning |\n| --- | --- | --- |\n{rows}"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
