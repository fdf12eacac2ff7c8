# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the manual pages: options from the commands' own parsers, settings, OS parameters and properties from theirs.

What is only prose is in the templates beside this file. `make install` and the Debian packages run it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import jinja2

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path[:0] = [str(HERE), *(str(PROJECT / name) for name in ("host", "shared", "helper-image-builder"))]

import roff  # noqa: E402

from snf_image_helper_builder.cli import dump_parser, update_parser  # noqa: E402
from snf_image_host import cache_command, config_command  # noqa: E402
from snf_image_host.configuration import settings_manual  # noqa: E402
from snf_image_host.inspection import command as inspect_command  # noqa: E402
from snf_image_host.parameters.osparams import REGISTRY  # noqa: E402
from snf_image_host.tools import capture_command, shell_command  # noqa: E402
from snf_image_shared import __version__  # noqa: E402


@dataclass(frozen=True)
class Option:
    """One entry of an OPTIONS section, in roff."""

    tag: str
    text: str


@dataclass(frozen=True)
class Command:
    """What a page needs of a parser, in roff; `parts` are subcommands with options of their own."""

    name: str
    description: str
    synopsis: str
    options: list[Option]
    parts: list[Command]


def main() -> None:
    """Write every page below the directory that the command line names, as man(1) looks for them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path, metavar="DIR", help="such as /usr/share/man")
    output = arguments.parse_args().output
    for name, text in pages().items():
        path = output / f"man{name.rpartition('.')[2]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)


def pages() -> dict[str, str]:
    """File name -> page."""
    # Nothing here is HTML: the values are roff already, or go through the filters below.
    frame = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined)  # noqa: S701
    frame.trim_blocks = frame.lstrip_blocks = True
    frame.filters |= {"text": roff.text, "bold": roff.bold, "inline": roff.inline}
    values = {"version": __version__, "date": _date()}
    commands = [
        update_parser(),
        dump_parser(),
        config_command.parser(),
        cache_command.parser(),
        inspect_command.parser(),
        capture_command.parser(),
        shell_command.parser(),
    ]
    documents = {f"{each.prog}.8": {"command": _command(each)} for each in commands}
    done = {name: frame.get_template(f"{name}.j2").render(values | more) for name, more in documents.items()}
    settings = roff.page("".join(settings_manual.markdown().partition("## ")[1:]), ".SH")
    done["snf-image.conf.5"] = frame.get_template("snf-image.conf.5.j2").render(values, settings=settings)
    properties = roff.page((PROJECT / "docs/properties.md").read_text(encoding="utf-8"), ".SS")
    overview = frame.get_template("snf-image.7.j2")
    done["snf-image.7"] = overview.render(values, parameters=REGISTRY, properties=properties)
    return {name: roff.tidy(page) for name, page in done.items()}


def _command(parser: argparse.ArgumentParser) -> Command:
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ").removeprefix(parser.prog)
    return Command(
        name=parser.prog,
        description=roff.text(parser.description or ""),
        synopsis=f"{roff.bold(parser.prog)}{roff.text(usage)}",
        options=list(_options(parser)),
        parts=[_command(each) for each in _subcommands(parser)],
    )


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or "-h" in action.option_strings:
            continue
        value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        words = [roff.bold(word) for word in action.option_strings]
        if action.nargs != 0:
            words = [f"{word} \\fI{roff.text(value)}\\fR" for word in words] or [f"\\fI{roff.text(value)}\\fR"]
        yield Option(", ".join(words), roff.text((action.help or "") % {"default": action.default}))


def _subcommands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found: list[argparse.ArgumentParser] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summary = {choice.dest: choice.help for choice in action._choices_actions}
            for name, each in action.choices.items():
                each.description = each.description or (summary[name] or "").capitalize() + "."
                found.append(each)
    return found


def _date() -> str:
    """Of the newest entry of the packages' change log: the same pages whenever they are written."""
    lines = (PROJECT / "debian/changelog").read_text(encoding="utf-8").splitlines()
    return (
        parsedate_to_datetime(next(line for line in lines if line.startswith(" -- ")).rpartition(">  ")[2])
        .date()
        .isoformat()
    )


if __name__ == "__main__":
    main()
