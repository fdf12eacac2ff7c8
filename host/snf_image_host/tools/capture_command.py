# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-capture: an image made of an instance that is stopped, or of a disk that nobody uses.

The node reads the disk as bytes, the helper VM reads what is in it; nothing is written to it. The image appears under
its name, with its checksum and what is known of it beside it, when all of it is there, and never in the place of
another.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from enum import StrEnum
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.operator_log import log_of
from snf_image_host.progress import Progress
from snf_image_host.tools.capturing import Capture, Kind, capture
from snf_image_host.tools.clusters import ClusterInstance, active_disks, find_instance, on_node
from snf_image_host.tools.compressors import Compression
from snf_image_host.tools.lifeline import lifeline
from snf_image_host.tools.new_images import check_name
from snf_image_shared.errors import ConfigurationError, RequestError, SnfImageError
from snf_image_shared.process import Limits, run_on_line

ARCHITECTURE = "x86_64"
_PROGRAM = "snf-image-capture"
_PATIENCE = 7 * 24 * 3600.0  # seconds


class RemoteError(SnfImageError):
    """The command failed on another node, which has said why; it is our exit status as well."""

    def __init__(self, node: str, status: int) -> None:
        self.exit_code = status if status > 0 else SnfImageError.exit_code
        super().__init__(f"{_PROGRAM} on {node} ended with status {status}; why it did is told above")


def parser() -> argparse.ArgumentParser:
    """The options; the manual page is made of them."""
    top = argparse.ArgumentParser(prog=_PROGRAM, description="Make an image of an instance that is stopped.")
    top.add_argument("instance", nargs="?", metavar="INSTANCE", help="on the master: its disks are activated meanwhile")
    top.add_argument(
        "--disk",
        action="append",
        type=Path,
        default=[],
        metavar="PATH",
        help="in the place of INSTANCE: a disk of this node, a snapshot perhaps. May be given again, for raw and qcow2",
    )
    top.add_argument(
        "-t", "--type", required=True, type=_one_of(Kind), metavar="TYPE", help="tarball, dump, qcow2 or raw"
    )
    top.add_argument("-d", "--directory", type=Path, metavar="DIR", help="IMAGE_DIR of the OS definition image")
    top.add_argument("-n", "--name", default="", metavar="NAME", help="as in NAME-ARCH.qcow2; INSTANCE if not given")
    top.add_argument("-a", "--arch", default=ARCHITECTURE, metavar="ARCH", help="as in NAME-ARCH.qcow2 (%(default)s)")
    top.add_argument(
        "--compress",
        type=_one_of(Compression),
        metavar="HOW",
        help="gz, xz, zst or none. If not given: gz for a tarball and inside of a qcow2, none for raw and dump",
    )
    top.add_argument("--all-disks", action="store_true", help="of INSTANCE, not the first alone (raw and qcow2)")
    top.add_argument(
        "--kernel-path", default="", metavar="PATH", help="with --disk: the kernel that the hypervisor brings, if any"
    )
    top.add_argument(
        "--until-eof", action="store_true", help="end, and leave nothing, when standard input ends: for use behind ssh"
    )
    top.add_argument("-v", "--verbose", action="store_true", help="show the log, with the helper VM's console")
    return top


def run(options: argparse.Namespace, root: Path) -> None:
    """Do what the options say, with the settings below `root`. Raises SnfImageError."""
    if os.geteuid() != 0:
        raise ConfigurationError(f"the helper VM's jail can only be made by root: run {_PROGRAM} as root")
    if bool(options.instance) == bool(options.disk):
        raise RequestError("give either INSTANCE or --disk PATH")
    if not options.instance and not options.name:
        raise RequestError("a disk has no name of its own: give the image's by -n")
    asked = Capture(
        kind=options.type,
        stem=check_name(f"{options.name or options.instance}-{options.arch}"),
        directory=(options.directory or ImageSettings.load("", root).image_dir).absolute(),
        compression=options.type.compression(options.compress),
        kernel_path=options.kernel_path,
    )
    until_eof = lifeline() if options.until_eof else nullcontext()
    with until_eof, Progress.start("", None, log=log_of(verbose=options.verbose)) as progress:
        if options.disk:
            names = capture(asked, tuple(options.disk), Settings.load("", root), progress)
        else:
            names = _of_instance(options, asked, root, progress)
    sys.stdout.writelines(f"{name}\n" for name in names)


def _of_instance(options: argparse.Namespace, asked: Capture, root: Path, progress: Progress) -> list[str]:
    instance = find_instance(options.instance)
    instance.check_down()
    with ExitStack() as stack:
        disks = stack.enter_context(active_disks(instance, progress))
        if not options.all_disks:
            disks = disks[:1]
        if not instance.is_here:
            return _on_primary(options, instance, disks)
        asked = asked.of(instance.kernel_path, lambda: find_instance(instance.name).check_down())
        return capture(asked, disks, Settings.load("", root), progress)


def _on_primary(options: argparse.Namespace, instance: ClusterInstance, disks: tuple[Path, ...]) -> list[str]:
    """The same command, on the node where the disks are, and the image with them. It ends there if it ends here."""
    command = [_PROGRAM, "--until-eof", *(f"--disk={disk}" for disk in disks), f"--type={options.type}"]
    command += [f"--name={options.name or options.instance}", f"--arch={options.arch}"]
    command += [f"--kernel-path={instance.kernel_path}"] if instance.kernel_path else []
    command += [f"--compress={options.compress}"] if options.compress else []
    command += [f"--directory={options.directory.absolute()}"] if options.directory else []
    command += ["--verbose"] if options.verbose else []
    done = run_on_line(on_node(instance.primary, command), _tell, Limits(timeout=_PATIENCE))
    if done.status:
        raise RemoteError(instance.primary, done.status)
    names = [f"{instance.primary}:{line}" for line in done.stdout.splitlines()]
    try:
        find_instance(instance.name).check_down()
    except RequestError as error:
        raise RequestError(f"remove {' '.join(names)}, which may be torn: {error}") from error
    return names


def _tell(said: bytes) -> None:
    """What the other node says is for the operator as it is."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), said)


def _one_of(values: type[StrEnum]) -> Callable[[str], StrEnum]:
    """For argparse, whose own words name our class."""

    def read(text: str) -> StrEnum:
        try:
            return values(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(values)}") from None

    return read
