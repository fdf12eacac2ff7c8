# SPDX-License-Identifier: GPL-2.0-or-later
"""The properties LOCALE and KEYMAP for Windows, and the language that its image is in.

Source: Microsoft, "Microsoft-Windows-International-Core"; MUI\\UILanguages has a key for each language that is there.
"""

from __future__ import annotations

import re

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.guest import Guest
from snf_image_helper.windows.registry import HIVE_SYSTEM, control_set, opened
from snf_image_shared.errors import GuestError

LOCALE, KEYMAP = "LOCALE", "KEYMAP"
FALLBACK = "en-US"
_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?")
_PLAIN = frozenset({"C", "POSIX"})
# The keymaps of Linux' consoles and the layouts of X, as far as one language of Windows has the same keys by default.
_LAYOUTS = """
be nl-BE|bg bg-BG|br pt-BR|br-abnt2 pt-BR|ca fr-CA|cf fr-CA|ch de-CH|cz cs-CZ|de de-DE|de-latin1 de-DE|de_CH de-CH
de_CH-latin1 de-CH|dk da-DK|dk-latin1 da-DK|ee et-EE|es es-ES|es-latin1 es-ES|et et-EE|fi fi-FI|fr fr-FR|fr-latin1 fr-FR
fr-latin9 fr-FR|fr_CH fr-CH|gb en-GB|gr el-GR|hr hr-HR|hu hu-HU|ie en-IE|il he-IL|is is-IS|it it-IT|jp ja-JP|jp106 ja-JP
kr ko-KR|la-latin1 es-MX|latam es-MX|lt lt-LT|lv lv-LV|nl nl-NL|no nb-NO|no-latin1 nb-NO|pl pl-PL|pl2 pl-PL|pt pt-PT
pt-latin1 pt-PT|ro ro-RO|ru ru-RU|se sv-SE|se-latin1 sv-SE|sg de-CH|si sl-SI|sk sk-SK|slovene sl-SI|sv-latin1 sv-SE
tr tr-TR|trq tr-TR|ua uk-UA|uk en-GB|us en-US
"""


def language(locale: str) -> str:
    """The language of Windows for a locale as de_DE.UTF-8, or for its own name de-DE. Raises GuestError."""
    word = re.split(r"[.@]", locale.strip(), maxsplit=1)[0].replace("_", "-")
    if word in _PLAIN:
        return FALLBACK
    if not _TAG.fullmatch(word) or "-" not in word:
        raise GuestError(f"property {LOCALE}: {shown(locale[:80])!r} is no locale; write one like de_DE.UTF-8")
    first, *others = word.split("-")
    return "-".join([first.lower(), *(part.title() if len(part) == 4 else part.upper() for part in others)])


def input_locale(keymap: str) -> str:
    """What Windows is to be told as its keyboard. Raises GuestError for a keymap that it has no counterpart of."""
    word = keymap.strip()
    if _TAG.fullmatch(word) and "-" in word and word.partition("-")[2].isupper():
        return word
    known = dict(entry.split() for line in _LAYOUTS.strip().split("\n") for entry in line.split("|"))
    found = known.get(word) or known.get(word.partition("-")[0])
    if found is None:
        raise GuestError(
            f"property {KEYMAP}: {shown(keymap[:80])!r} is no keyboard that is known for Windows; "
            "write one like de, or the language that has it, like de-DE"
        )
    return found


def installed(guest: Guest) -> tuple[str, ...]:
    """The languages in which the image can speak; () if it does not tell."""
    with opened(guest, HIVE_SYSTEM) as hive:
        return hive.keys(rf"{control_set(hive)}\Control\MUI\UILanguages") or ()


def own_language(guest: Guest) -> str:
    """English if the image has it, else its first language."""
    there = [name for name in installed(guest) if _TAG.fullmatch(name)]
    return FALLBACK if FALLBACK in there or not there else there[0]
