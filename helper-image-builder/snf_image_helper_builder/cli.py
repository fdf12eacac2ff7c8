# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-update-helper: the command that makes and checks the helper image. Exception -> one line -> exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from snf_image_helper_builder.build import Order, update
from snf_image_helper_builder.debian import apt_mirror
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError, DiskError, SnfImageError
from snf_image_shared.manifest import Manifest

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def main(argv: list[str] | None = None, root: Path = Path("/")) -> int:
    """Run the command to its exit code. `root` is the file system the provider is installed in."""
    options = _parser(root).parse_args(argv)
    signal.signal(signal.SIGTERM, _terminated)
    # The host tier reads the helper, and the VM the root: neither may depend on who types the command.
    os.umask(0o022)
    try:
        return _check(options) if options.check else _update(options)
    except SnfImageError as error:
        return _refuse(str(error), error.exit_code)
    except OSError as error:
        return _refuse(f"{error.filename or 'the system'}: {error.strerror or error}", DiskError.exit_code)
    except KeyboardInterrupt:
        return _refuse("interrupted: the helper is as it was", 130)


def _update(options: argparse.Namespace) -> int:
    say = _silence if options.quiet else _clock()
    order = Order(
        destination=options.dest.absolute(),
        cache=options.cache.absolute(),
        mirror=options.mirror or apt_mirror(),
        suite=options.suite,
        force=options.force,
        env={name: os.environ[name] for name in _PROXIES if name in os.environ},
    )
    done = update(order, say)
    say(f"the helper {__version__} is {'ready' if done else 'up to date'} in {order.destination}")
    return 0


def _check(options: argparse.Namespace) -> int:
    manifest = Manifest.load(options.dest)
    manifest.check(options.dest, deep=True)
    if not options.quiet:
        print(f"{options.dest}: helper {manifest.version}, Debian {manifest.suite}, Linux {manifest.kernel}: complete")
    return 0


def _parser(root: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snf-image-update-helper",
        description="Build the image of the helper VM from Debian packages, or say that it is up to date.",
        epilog=f"Exit status: 0 done, 2 wrong usage, {ConfigurationError.exit_code} the machine is not set up for it "
        f"or --check found the helper incomplete, {DiskError.exit_code} no space or an I/O error, 1 anything else.",
    )
    add = parser.add_argument
    add(
        "--dest",
        type=Path,
        default=root / "var/lib/snf-image/helper",
        metavar="DIR",
        help="where it goes (%(default)s)",
    )
    add("--cache", type=Path, default=root / "var/cache/snf-image", metavar="DIR", help="for the root (%(default)s)")
    add("--mirror", metavar="URL", help="Debian mirror (the one of this machine's apt)")
    add("--suite", default="trixie", help="Debian release (%(default)s)")
    add("--force", action="store_true", help="build all of it anew, for instance to get security updates")
    add("--check", action="store_true", help="build nothing: is the helper complete and of this version?")
    add("-q", "--quiet", action="store_true", help="say nothing but errors")
    add("--version", action="version", version=__version__)
    return parser


def _clock() -> Callable[[str], None]:
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {line}", flush=True)

    return say


def _silence(_line: str) -> None:
    pass


def _refuse(reason: str, status: int) -> int:
    print(f"snf-image-update-helper: {reason}", file=sys.stderr)
    return status


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
