# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual: a page for every command and for the settings, made of the program's own tables, in order for man(1)."""

from __future__ import annotations

import re
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from snf_image_helper_builder.cli import dump_parser, update_parser
from snf_image_host.config_command import parser as config_parser
from snf_image_host.configuration.settings import setting_fields
from snf_image_host.inspection.command import parser as inspect_parser
from snf_image_host.parameters.osparams import REGISTRY
from snf_image_host.tools.capture_command import parser as capture_parser
from snf_image_host.tools.shell_command import parser as shell_parser

PROJECT = Path(__file__).resolve().parents[2]
PAGES = (
    "snf-image-update-helper.8",
    "snf-image-dump-helper.8",
    "snf-image-cache.8",
    "snf-image-inspect.8",
    "snf-image-capture.8",
    "snf-image-shell.8",
    "snf-image-config.8",
    "snf-image.conf.5",
    "snf-image.7",
)
pytestmark = pytest.mark.row(194)


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as /usr/share/man is one."""
    directory = tmp_path_factory.mktemp("man")
    # Not told where it is started, and with a locale of no use.
    command = [sys.executable, "-B", str(PROJECT / "docs/man/manual.py"), str(directory)]
    subprocess.run(command, check=True, cwd="/", env={"LC_ALL": "C"}, umask=0o077)
    return directory


def page(manual: Path, name: str) -> Path:
    return manual / f"man{name[-1]}" / name


def shown(manual: Path, name: str) -> str:
    """What man(1) shows, in lines without an end and with plain minus signs."""
    env = {"MANWIDTH": "1000", "LC_ALL": "C", "PATH": "/usr/bin:/bin", "MAN_KEEP_FORMATTING": ""}
    command = ["man", "--local-file", str(page(manual, name))]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def test_every_page_is_there_and_nothing_else(manual: Path) -> None:
    assert sorted(path.name for path in manual.rglob("*.*")) == sorted(PAGES)
    assert {path.stat().st_mode & 0o777 for path in manual.rglob("*.*")} == {0o644}


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_and_groff_have_no_complaint(manual: Path, name: str) -> None:
    for command in (["mandoc", "-T", "lint", "-W", "warning"], ["groff", "-ww", "-man", "-T", "utf8", "-z"]):
        done = subprocess.run([*command, str(page(manual, name))], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    "parser",
    [update_parser(), dump_parser(), config_parser(), inspect_parser(), capture_parser(), shell_parser()],
    ids=lambda parser: parser.prog,
)
def test_the_page_of_a_command_has_all_that_its_help_has(manual: Path, parser: ArgumentParser) -> None:
    text = shown(manual, f"{parser.prog}.8")
    assert set(re.findall(r"--[a-z0-9-]+", parser.format_help())) - {"--help"} <= set(re.findall(r"--[a-z0-9-]+", text))
    assert "EXIT STATUS" in text


def test_snf_image_conf_has_every_setting(manual: Path) -> None:
    text = shown(manual, "snf-image.conf.5")
    for name, field in setting_fields().items():
        assert re.search(rf"(?m)^ +{name}\b", text), name
        assert field.description and field.description.replace("`", "")[:30] in text


def test_snf_image_has_every_os_parameter_and_property(manual: Path) -> None:
    text = shown(manual, "snf-image.7")
    for parameter in REGISTRY:
        assert re.search(rf"(?m)^ +{parameter.name}\b", text), parameter.name
    properties = re.findall(r"(?m)^\| `([A-Z_]+)` \|", (PROJECT / "docs/properties.md").read_text())
    assert len(properties) > 10
    for name in properties:
        assert re.search(rf"(?m)^ +{name}\b", text), name
