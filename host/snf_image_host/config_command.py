# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-config: the settings in force and where each was given, and every fault of the files. It changes nothing.

Ends with 0, with 2 for wrong arguments, with 3 when the files have a fault; secrets are never shown.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from snf_image_host.configuration.backends import Kind, ranked
from snf_image_host.configuration.disclosure import HIDDEN, disclosed
from snf_image_host.configuration.setting_files import Given, variants
from snf_image_host.configuration.settings import (
    MEANT_WHEN_EMPTY,
    Settings,
    Survey,
    as_written,
    setting_fields,
    survey,
)
from snf_image_host.definitions import Definition
from snf_image_host.hooks.switches import Shipped
from snf_image_host.instance_image.files import VARIANTS_LIST as IMAGE_VARIANTS
from snf_image_host.instance_image.neighbours import faults_beside
from snf_image_host.instance_image.settings import ImageSettings, ImageSurvey, image_setting_fields, image_survey
from snf_image_host.progress import printable
from snf_image_shared.errors import ConfigurationError

_COLUMN = 56  # where the remarks begin


def parser() -> argparse.ArgumentParser:
    """The options; a manual page can be made of them."""
    top = argparse.ArgumentParser(
        prog="snf-image-config", description="Show or check the settings of the Ganeti OS provider snf-image."
    )
    top.add_argument(
        "--definition",
        choices=tuple(Definition),
        default=Definition.SNF_IMAGE,
        help="whose settings: those of snf-image.conf, or of ganeti-instance-image's files (%(default)s)",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="print the settings in force, and where each was given")
    show.add_argument("--variant", default="", metavar="NAME", help="as for an instance of this variant")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    check = commands.add_parser("check", help="look for faults in the files, and end with 3 if there are any")
    check.add_argument("--variant", default="", metavar="NAME", help="check this variant alone, not all of them")
    return top


def main(root: Path, argv: list[str] | None = None) -> int:
    """Run the command for the files below `root` to its exit code."""
    options = parser().parse_args(argv)
    is_image = options.definition == Definition.IMAGE
    if options.command == "check":
        return _check(root, options.variant, image_survey if is_image else survey, is_image=is_image)
    if is_image:
        return _show_image(image_survey(options.variant, root), as_json=options.json)
    found = survey(options.variant, root)
    if found.settings is None:
        return _tell([], found.warnings, found.faults)
    if options.json:
        return _tell([json.dumps(_document(found, found.settings), indent=2)], (), ())
    return _tell(_lines(found, found.settings), found.warnings, ())


def _check(root: Path, variant: str, look: Callable[[str, Path], Survey | ImageSurvey], *, is_image: bool) -> int:
    published = (IMAGE_VARIANTS,) if is_image else ()
    names = [variant] if variant else ["", *variants(root, look("", root).variants_dir, *published)]
    found = [look(name, root) for name in names]
    warnings = dict.fromkeys(warning for each in found for warning in each.warnings)
    faults = dict.fromkeys(fault for each in found for fault in each.faults)
    faults |= dict.fromkeys(fault for each in found for fault in _beside(each, root))
    checked = ", ".join(filter(None, names))
    good = [f"No fault found in the settings{' and the variants ' + checked if checked else ''}."]
    return _tell([] if faults else good, warnings, faults)


def _beside(found: Survey | ImageSurvey, root: Path) -> Iterable[str]:
    """The faults of hooks, networks and overlays of `image`, where its settings have none."""
    if not isinstance(found.settings, ImageSettings):
        return ()
    node = survey("", root).settings
    return faults_beside(found.settings, node.shipped_hooks if node else Shipped.TASKS)


def _show_image(found: ImageSurvey, *, as_json: bool) -> int:
    """The settings of `image`; how the node runs its helper VMs is not among them."""
    if found.settings is None:
        return _tell([], found.warnings, found.faults)
    settings = {name: getattr(found.settings, name.lower()) for name in image_setting_fields()}
    values = {**settings, **found.settings.parameters}
    origins = {name: found.given.get(name) if as_written(values[name]) else None for name in values}
    if as_json:
        document = {
            name: {"value": disclosed(name, value), "origin": _place(origins[name])} for name, value in values.items()
        }
        return _tell([json.dumps({"settings": document, "warnings": found.warnings}, indent=2)], (), ())
    lines = [_line(name, disclosed(name, value), origins[name]) for name, value in values.items()]
    return _tell(lines, found.warnings, ())


def _lines(found: Survey, settings: Settings) -> Iterator[str]:
    """Lines that snf-image.conf could hold, each with its origin as a comment."""
    for name in setting_fields():
        value = disclosed(name, getattr(settings, name.lower()))
        yield _line(name, value, _origin(found, name))
    for name, value in settings.parameters.items():
        yield _line(name, disclosed(name, value), found.given[name])
    for kind, title in ((Kind.SOURCE, "sources"), (Kind.TARGET, "targets")):
        order = ", ".join(f"{backend.name} ({backend.priority})" for backend in ranked(settings.backends, kind))
        yield f"# {title}, in the order in which they are asked: {order or 'none'}"


def _line(name: str, value: str, origin: Given | None) -> str:
    # What is hidden is no value, and must not be read back as one.
    text = f"# {name} {HIDDEN}" if value == HIDDEN else f"{name}={quoted(value)}"
    return f"{text:<{_COLUMN}}  # {printable(str(origin)) if origin else 'default'}"


def quoted(value: str) -> str:
    """The value as the files spell it: readable, on one line, and read back as what it is."""
    if value.isprintable():
        return shlex.quote(value) if value else ""
    pieces = (
        f"\\{letter}" if letter in "\\'" else letter if letter.isprintable() else _bytes(letter) for letter in value
    )
    return f"$'{''.join(pieces)}'"


def _bytes(letter: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", "surrogateescape"))


def _document(found: Survey, settings: Settings) -> dict[str, object]:
    values = {
        name: {"value": disclosed(name, getattr(settings, name.lower())), "origin": _place(_origin(found, name))}
        for name in setting_fields()
    }
    parameters = {
        name: {"value": disclosed(name, value), "origin": _place(found.given[name])}
        for name, value in settings.parameters.items()
    }
    backends = [
        {"kind": each.kind, "name": each.name, "priority": each.priority, "disabled": each.disabled_by is not None}
        for each in settings.backends
    ]
    return {"settings": values, "os_parameters": parameters, "backends": backends, "warnings": found.warnings}


def _origin(found: Survey, name: str) -> Given | None:
    """Where the value that counts was given, or None: it is the default, as it is for an empty one."""
    given = found.given.get(name)
    return given if given and (given.value or name in MEANT_WHEN_EMPTY) else None


def _place(given: Given | None) -> dict[str, object] | None:
    return {"file": str(given.path), "line": given.line} if given else None


def _tell(lines: Iterable[str], warnings: Iterable[str], faults: Iterable[str]) -> int:
    """Print what is asked for, then warnings and faults on standard error. A reader that has gone is no fault."""
    faults = list(faults)
    for stream, text in (
        (sys.stdout, lines),
        (sys.stderr, [f"[WARNING] {printable(warning)}" for warning in warnings]),
        (sys.stderr, [f"[ERROR] {printable(fault)}" for fault in faults]),
    ):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        try:
            stream.writelines(f"{line}\n" for line in text)
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stream.fileno())
    return ConfigurationError.exit_code if faults else 0
