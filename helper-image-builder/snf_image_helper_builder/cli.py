# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-update-helper and snf-image-dump-helper: exception -> one line -> exit code."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

from snf_image_helper_builder import build, code, fetch
from snf_image_helper_builder.debian import apt_mirror
from snf_image_helper_builder.download import Origin
from snf_image_helper_builder.dump import dump
from snf_image_helper_builder.recipe import Recipe
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError, DiskError, SnfImageError
from snf_image_shared.manifest import Manifest

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "all_proxy")
HELPER = Path("/var/lib/snf-image/helper")
CACHE = Path("/var/cache/snf-image")
KEYRING = Path("/etc/snf-image/helper-keyring.gpg")
SUITE = "trixie"


class Configured(Protocol):
    """What the administrator's settings say of the helper image; the commands of an installed provider read them."""

    @property
    def helper_dir(self) -> Path: ...

    @property
    def helper_url(self) -> str: ...


Configuration = Callable[[], Configured]


def main(argv: Sequence[str] | None = None, configuration: Configuration | None = None, root: Path = Path("/")) -> int:
    """Run snf-image-update-helper to its exit code. `root` is the file system the provider is installed in."""
    parser = update_parser()
    options = parser.parse_args(argv)
    return _ended(parser.prog, lambda: _update_helper(options, configuration, root))


def dump_main(
    argv: Sequence[str] | None = None, configuration: Configuration | None = None, root: Path = Path("/")
) -> int:
    """Run snf-image-dump-helper to its exit code."""
    parser = dump_parser()
    options = parser.parse_args(argv)
    return _ended(parser.prog, lambda: _dump_helper(options, configuration, root))


def update_parser() -> argparse.ArgumentParser:
    """The options of snf-image-update-helper."""
    parser = argparse.ArgumentParser(
        prog="snf-image-update-helper",
        description="Build the image of the helper VM from Debian packages, or fetch a published one, "
        "or say that it is up to date. However it ends, the old image stays until the new one is complete.",
        epilog=_status("--check found the image incomplete, a published one is not what it should be"),
    )
    add = parser.add_argument
    add("--dest", type=Path, metavar="DIR", help=f"where it goes (HELPER_DIR of snf-image.conf, or {HELPER})")
    add(
        *("-u", "--url"),
        metavar="URL",
        help="fetch it instead of building it: the URL (http, https, file) or path of a tarball that "
        "snf-image-dump-helper made, or of the directory it lies in. Its .sha256 and its signature, .asc, lie beside "
        "it. HELPER_URL in snf-image.conf says the same for good",
    )
    add(
        "--sha256",
        type=_sha256,
        metavar="HEX",
        help="the tarball's sha256, from somewhere you trust; then no signature is asked for",
    )
    add("--keyring", type=Path, metavar="FILE", help=f"with the keys that may have signed it ({KEYRING})")
    add("--build", action="store_true", help="build it here, whatever HELPER_URL says")
    add("--cache", type=Path, metavar="DIR", help=f"for the Debian root it is built from ({CACHE})")
    add("--mirror", metavar="URL", help="Debian mirror to build from (the one of this machine's apt)")
    add("--suite", default=SUITE, help="Debian release to build from (%(default)s)")
    _add_ufs(parser)
    add(
        *("-f", "--force"),
        action="store_true",
        help="build or fetch all of it anew, for instance to get security updates",
    )
    add("--check", action="store_true", help="change nothing: is the helper complete and of this version?")
    add("-q", "--quiet", action="store_true", help="say nothing but errors and warnings")
    add("-y", action="store_true", help="accepted for old scripts; nothing is ever asked")
    add("-c", action=_Refused, help="refused: what is fetched is always checked; see --sha256")
    add("--version", action="version", version=__version__)
    return parser


def _add_ufs(parser: argparse.ArgumentParser) -> None:
    ufs = parser.add_mutually_exclusive_group()
    ufs.add_argument(
        "--with-ufs",
        dest="ufs",
        action="store_const",
        const=True,
        help="its kernel must write UFS, for BSD guests: a module is compiled for it, from Debian's kernel source. "
        "Without either option it does if that can be done, and a warning says if not",
    )
    ufs.add_argument("--without-ufs", dest="ufs", action="store_const", const=False, help="no such module is compiled")


def dump_parser() -> argparse.ArgumentParser:
    """The options of snf-image-dump-helper."""
    parser = argparse.ArgumentParser(
        prog="snf-image-dump-helper",
        description="Pack the installed image of the helper VM into one file for other nodes, with its checksum beside "
        "it. The same image gives the same file.",
        epilog=_status("the helper image is missing or not complete"),
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the tarball and its .sha256 go")
    parser.add_argument(
        "--helper", type=Path, metavar="DIR", help=f"the image to pack (HELPER_DIR of snf-image.conf, or {HELPER})"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _update_helper(options: argparse.Namespace, configuration: Configuration | None, root: Path) -> None:
    helper, published = _configured(configuration, root)
    # Where it is a link, the directory behind it is replaced and the link stays.
    destination = Path(os.path.realpath(options.dest or helper))
    if options.check:
        _check(destination, options.quiet)
        return
    published = "" if options.build else options.url or published
    if (options.sha256 or options.keyring) and not published:
        raise ConfigurationError("--sha256 and --keyring are for a published helper: give its --url")
    say = _silence if options.quiet else _clock()
    env = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    if published:
        key = build.inputs(Recipe(options.suite, ufs=options.ufs is not False), code.packages())
        keyring = (options.keyring or _below(root, KEYRING)).absolute()
        origin = Origin.of(published, env)
        order = fetch.Order(destination, origin, keyring, key, options.sha256, options.force, options.ufs)
        done = fetch.install_published(order, say)
    else:
        done = build.update(
            build.Order(
                destination=destination,
                cache=(options.cache or _below(root, CACHE)).absolute(),
                mirror=options.mirror or apt_mirror(),
                suite=options.suite,
                force=options.force,
                ufs=options.ufs,
                env=env,
            ),
            say,
        )
    say(f"the helper {__version__} is {'ready' if done else 'up to date'} in {destination}")


def _check(helper: Path, quiet: bool) -> None:
    manifest = Manifest.load(helper)
    manifest.check(helper, deep=True)
    if not quiet:
        ufs = "with UFS" if manifest.ufs else "without UFS"
        print(f"{helper}: helper {manifest.version}, Debian {manifest.suite}, Linux {manifest.kernel} {ufs}: complete")


def _dump_helper(options: argparse.Namespace, configuration: Configuration | None, root: Path) -> None:
    helper = Path(os.path.realpath(options.helper or _configured(configuration, root)[0]))
    tarball = dump(helper, options.directory.absolute(), _silence if options.quiet else _clock())
    if not options.quiet:
        path = shlex.quote(str(tarball))
        print(f"{tarball} and its .sha256 are ready. Sign it where your key is:")
        print(f"    gpg --armor --detach-sign {path}")
        print(f"Publish the three files, and on other nodes, with your public key in {KEYRING}:")
        print("    snf-image-update-helper --url URL")


def _configured(configuration: Configuration | None, root: Path) -> tuple[Path, str]:
    """Where the helper lies, and where published ones do."""
    if configuration is None:
        return _below(root, HELPER), ""
    settings = configuration()
    return settings.helper_dir, settings.helper_url


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _ended(command: str, work: Callable[[], None]) -> int:
    """Do the work; what went wrong is one line on standard error."""
    signal.signal(signal.SIGTERM, _terminated)
    # The host tier reads the helper, and the VM the root: neither may depend on who types the command.
    os.umask(0o022)
    try:
        work()
    except SnfImageError as error:
        return _refuse(command, str(error), error.exit_code)
    except OSError as error:
        return _refuse(command, f"{error.filename or 'the system'}: {error.strerror or error}", DiskError.exit_code)
    except KeyboardInterrupt:
        return _refuse(command, "interrupted: everything is as it was", 130)
    return 0


class _Refused(argparse.Action):
    """An option of old that would do harm: it takes no value, and is an error."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parser.error("-c: what is fetched is always checked; give its --sha256 where there is no signature")


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("a sha256 has 64 hexadecimal digits")
    return text.lower()


def _status(refused: str) -> str:
    return (
        f"Exit status: 0 done, 2 wrong usage, {ConfigurationError.exit_code} the machine is not set up for it or "
        f"{refused}, {DiskError.exit_code} no space or an I/O error, 1 anything else."
    )


def _clock() -> Callable[[str], None]:
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {line}", flush=True)

    return say


def _silence(line: str) -> None:
    if line.startswith("warning: "):
        print(line, file=sys.stderr)


def _refuse(command: str, reason: str, status: int) -> int:
    print(f"{command}: {reason}", file=sys.stderr)
    return status


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
