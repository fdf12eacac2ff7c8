# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings as a manual tells them: snf-image.conf(5) and docs/settings.md are made from entries().

Everything comes from the fields of Settings; nothing is said twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_host.configuration.obsolete import OBSOLETE
from snf_image_host.configuration.settings import as_written, setting_fields
from snf_image_host.parameters.osparams import OS_PARAMETERS


@dataclass(frozen=True)
class Entry:
    """One setting. `default` as the file spells it, without quotes, "" for empty; `description` is plain text."""

    name: str
    default: str
    description: str


def entries() -> tuple[Entry, ...]:
    """All settings in the order of the manual."""
    return tuple(
        Entry(name, as_written(field.default), field.description or "") for name, field in setting_fields().items()
    )


def markdown() -> str:
    """docs/settings.md."""
    rows = "".join(f"| `{each.name}` | {_code(each.default)} | {_cell(each.description)} |\n" for each in entries())
    obsolete = "".join(f"| `{name}` | {_cell(cure)} |\n" for name, cure in OBSOLETE.items())
    return _PAGE.format(rows=rows, obsolete=obsolete, parameters=", ".join(f"`{name}`" for name in OS_PARAMETERS))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_PAGE = """# Settings

`snf-image-config show` prints the settings in force, and where each was given; `snf-image-config check` looks for
faults in all files and variants. This page is written from the program's own table (`make settings-page`).

## Files

From the lowest to the highest; a later file overrides an earlier one, name by name:

1. the defaults below;
2. `/etc/snf-image/snf-image.conf`, or `/etc/default/snf-image` where that does not exist (if both do, the old file is
   ignored, with a warning);
3. `/etc/snf-image/backends/src/local.conf`, for `IMAGE_DIR` alone;
4. `/etc/ganeti/snf-image/variants/NAME.conf` of the variant that the instance uses;
5. for OS parameters: what Ganeti passes, even if it is empty, and then the document that `config_url` names.

Lines are `KEY=value` as in a shell, with `#` comments and the quotes `'…'`, `"…"` and `$'…'`. Nothing is executed or
expanded: `$VAR`, `$(…)`, backquotes and every other construct of a shell are errors that name file and line. An empty
value means the default, whatever an earlier file says; `DEFAULT_NIC_CONFIG=""` and `IMAGE_SCHEMES=""` alone mean
something of their own. Only what counts in the end is checked, so a variant can put right what the main file says. All
faults are told at once. A name that is no setting is a warning.

## Settings

| name | default | meaning |
| --- | --- | --- |
{rows}
The main file and a variant may also preset an OS parameter, by its name in upper case: {parameters}.

## Sources and targets

`/etc/snf-image/backends/src` and `dst` say which kinds of images (`null`, `network`, `local`) and of disks (`uri`,
`local`) this node serves. An empty file `NAME.disabled` turns one off: `create` then refuses such an image or disk,
and every run warns that it is so. `NAME.priority` holds one number from 0 to 99; the higher one is asked first,
among equals the one later in the alphabet; without the file `null` has 30, `network` and `uri` 20, and `local` 10.
`snf-image-config show` prints the order. Programs of your own stand in the same order ([sources.md](sources.md)
says where they lie).

## Names of older versions

They do no harm; each is a warning that says what to do instead.

| name | what to do |
| --- | --- |
{obsolete}"""
