# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs the OS definition, commands, manual and settings below DESTDIR: for `make install` and debian/rules.

The code and the libraries it needs go into a directory of their own, so that no other Python program sees them and a
release of Debian that lacks one of them does not matter. Existing settings are left as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
sys.path.insert(0, str(PROJECT / "helper-image-builder"))

from snf_image_helper_builder.replacement import locked, remove_stale, replacement  # noqa: E402

IMAGE_DIRECTORIES = ("hooks", "variants", "networks/subnets", "networks/instances", "overlays")
SCRIPTS = ("create", "import", "export", "rename", "verify")
SOURCES = ("host", "helper", "shared", "helper-image-builder")
DESCRIPTION = ("pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Places:
    """Directories as they are below DESTDIR now; `prefix` and `etc` as they will be on the node, e.g. /usr and /etc.

    With `takes_over` the settings of `image` are put beside those that ganeti-instance-image has left.
    """

    destdir: Path
    prefix: Path
    etc: Path
    takes_over: bool = True

    def below(self, path: Path) -> Path:
        """Where `path` of the node is written now."""
        return self.destdir / path.relative_to("/")

    @property
    def library(self) -> Path:
        """Our packages and what they need."""
        return self.prefix / "lib/snf-image"


@dataclass(frozen=True)
class Start:
    """How a command starts: what is filled into the template for it."""

    module: str
    arguments: str
    template: str = "script.in"
    function: str = "main"


def main() -> None:
    """Parse the options of `make install` and install everything."""
    os.umask(0o022)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--destdir", default="")
    parser.add_argument("--prefix", default="/usr")
    parser.add_argument("--sysconfdir", default="/etc")
    parser.add_argument("--without-requirements", action="store_true", help="install our own code alone, without pip")
    parser.add_argument(
        "--templates-alone", action="store_true", help="leave the settings of the OS definition image to a postinst"
    )
    options = parser.parse_args()
    prefix, etc = Path(options.prefix), Path(options.sysconfdir)
    if not prefix.is_absolute() or not etc.is_absolute():
        parser.error("PREFIX and SYSCONFDIR must be absolute paths; use DESTDIR to install somewhere else")
    places = Places(Path(options.destdir or "/").resolve(), prefix, etc, not options.templates_alone)
    install_library(places, requirements=not options.without_requirements)
    install_os_definitions(places)
    install_commands(places)
    install_settings(places)
    install_manual(places)
    print(f"Installed below {places.below(prefix)} and {places.below(etc)}.")


def install_library(places: Places, *, requirements: bool) -> None:
    """Our packages, and what they need unless the caller provides that, in place of an older installation.

    Whoever starts a command meanwhile finds the old ones or the new ones.
    """
    library = places.below(places.library)
    with locked(library.parent, lambda: None):
        remove_stale(library)
        with replacement(library, 0o755) as new, _sources() as project:
            if requirements:
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(new), str(project)]
                subprocess.run(pip, check=True)
                shutil.rmtree(new / "bin", ignore_errors=True)
            else:
                for name in SOURCES:
                    shutil.copytree(project / name, new, dirs_exist_ok=True, ignore=shutil.ignore_patterns("ganeti"))


def install_os_definitions(places: Places) -> None:
    """The two directories that Ganeti reads."""
    for definition, version, variants in (
        ("snf-image", "ganeti_api_version", "ganeti/snf-image/variants.list"),
        ("image", "image/ganeti_api_version", "ganeti/instance-image/variants.list"),
    ):
        directory = places.prefix / "share/ganeti/os" / definition
        for name in SCRIPTS:
            _script(places, directory / name, Start("snf_image_host.cli", f'"{name}", ROOT, "{definition}"'))
        _copy(HERE / version, places.below(directory / "ganeti_api_version"))
        _copy(HERE / "parameters.list", places.below(directory / "parameters.list"))
        # Relative, so that it also holds below DESTDIR.
        up = Path(*[".."] * (len(directory.parts) - 1))
        with _in_one_step(places.below(directory / "variants.list")) as link:
            link.symlink_to(up / (places.etc / variants).relative_to("/"))


def install_commands(places: Places) -> None:
    """The administrator's commands."""
    for name, function in (("snf-image-update-helper", "main"), ("snf-image-dump-helper", "dump_main")):
        command = places.prefix / "sbin" / name
        _script(places, command, Start("snf_image_helper_builder.cli", function, "helper-command.in"))
    _script(places, places.prefix / "sbin/snf-image-config", Start("snf_image_host.config_command", "ROOT"))
    for name in ("snf-image-cache", "snf-image-inspect", "snf-image-capture", "snf-image-shell"):
        _script(
            places, places.prefix / "sbin" / name, Start("snf_image_host.cli", f'"{name}", ROOT', function="operate")
        )


def install_settings(places: Places) -> None:
    """Settings and variants; what the administrator has already stays, ganeti-instance-image's included."""
    for source, target in (
        ("snf-image.conf", "snf-image/snf-image.conf"),
        ("variants.list", "ganeti/snf-image/variants.list"),
        ("default.conf", "ganeti/snf-image/variants/default.conf"),
    ):
        _offer(HERE / source, places.below(places.etc / target))
    templates = places.prefix / "share/snf-image/instance-image"
    for template in sorted(path for path in (HERE / "image/etc").rglob("*") if path.is_file()):
        place = template.relative_to(HERE / "image/etc")
        _copy(template, places.below(templates / place))
        if places.takes_over:
            _offer(template, places.below(places.etc / place))
    for name in IMAGE_DIRECTORIES if places.takes_over else ():
        places.below(places.etc / "ganeti/instance-image" / name).mkdir(parents=True, exist_ok=True)


def _offer(source: Path, target: Path) -> None:
    if not target.exists():
        _copy(source, target)


def install_manual(places: Places) -> None:
    """The manual pages."""
    command = [
        sys.executable,
        "-B",
        str(PROJECT / "docs/man/manual.py"),
        str(places.below(places.prefix / "share/man")),
    ]
    subprocess.run(command, check=True)


@contextmanager
def _sources() -> Iterator[Path]:
    """A copy of the project to build from: in place, setuptools would install again what an older build left there."""
    with tempfile.TemporaryDirectory(prefix="snf-image-install-") as scratch:
        copy = Path(scratch, "project")
        for name in SOURCES:
            shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in DESCRIPTION:
            shutil.copyfile(PROJECT / name, copy / name)
        yield copy


def _script(places: Places, path: Path, start: Start) -> None:
    text = (HERE / start.template).read_text(encoding="utf-8")
    values = {
        "@SCRIPT@": path.name,
        "@DEPTH@": str(len(path.parts) - 2),
        "@LIBDIR@": str(places.library.relative_to("/")),
        "@MODULE@": start.module,
        "@FUNCTION@": start.function,
        "@ARGUMENTS@": start.arguments,
    }
    for mark, value in values.items():
        text = text.replace(mark, value)
    with _in_one_step(places.below(path)) as new:
        new.write_text(text, encoding="utf-8")
        new.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    with _in_one_step(target) as new:
        shutil.copyfile(source, new)
        new.chmod(0o644)


@contextmanager
def _in_one_step(target: Path) -> Iterator[Path]:
    """A name for what takes the place of `target`: Python takes half a script, or an empty one, for a whole one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    yield new
    new.replace(target)


if __name__ == "__main__":
    main()
