# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian file trees by mmdebstrap, in name spaces of their own: killed or not, no mount and no process outlives it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper_builder.debian import apt_mirror
from snf_image_shared.process import Limits, run

_SECONDS = 1800.0
# pdeathsig ends the first child with us, kill-child ends the rest, and the mounts go with the name space.
CONFINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_UNWANTED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")


@dataclass(frozen=True)
class Recipe:
    """`variant` is mmdebstrap's; `hooks` are its essential hooks, one shell command each with the root in `$1`."""

    suite: str
    variant: str
    packages: Sequence[str] = ()
    hooks: Sequence[str] = ()


def bootstrap(recipe: Recipe, root: Path) -> None:
    """Fill the new directory `root` with packages of the mirror that this machine's apt uses.

    Raises ProcessError with the last words of mmdebstrap.
    """
    argv = [*CONFINED, "mmdebstrap", "--quiet", "--mode=root", "--format=directory", f"--variant={recipe.variant}"]
    argv += ['--aptopt=Apt::Install-Recommends "false"', "--skip=output/dev"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNWANTED]
    argv += [f"--essential-hook={hook}" for hook in recipe.hooks]
    if recipe.packages:
        argv.append(f"--include={','.join(recipe.packages)}")
    # What a killed mmdebstrap leaves then goes with the directory that was being built.
    env = _proxies() | {"TMPDIR": str(root.parent)}
    run([*argv, recipe.suite, str(root), apt_mirror()], env=env, limits=Limits(timeout=_SECONDS))


def in_root(root: Path, *argv: str) -> None:
    """Run a program of the tree, as it will be found there."""
    run([*CONFINED, "chroot", str(root), *argv])


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if name in os.environ}
