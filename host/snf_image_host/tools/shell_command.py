# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-shell: a shell, or a command, in the helper VM with the disks of a stopped instance.

The disks are read-only unless the operator says otherwise, and of the node nothing else is there to be seen.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.instance_disks import MAX_DISKS, InstanceDisk
from snf_image_host.disks.storage import open_for_writing
from snf_image_host.operator_log import log_of
from snf_image_host.progress import Progress
from snf_image_host.tools.clusters import ClusterInstance, active_disks, find_instance, on_node
from snf_image_host.tools.looking import Looking
from snf_image_host.tools.subject import idle_disk
from snf_image_host.tools.terminal import joined, terminal_of
from snf_image_host.vm.drives import Attachable
from snf_image_host.vm.helper_vm import HelperVM
from snf_image_shared.errors import ConfigurationError, HelperError, RequestError, SnfImageError
from snf_image_shared.job import Action
from snf_image_shared.process import run_attached
from snf_image_shared.shell import Shell

_PROGRAM = "snf-image-shell"


class ShellError(SnfImageError):
    """The command did not run to its end. Its own exit statuses are lower, but for one that takes the same."""

    exit_code = 255


class _Parser(argparse.ArgumentParser):
    """What stands behind the first -- is the command's, whatever it looks like."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As ArgumentParser says."""
        at = args.index("--") if "--" in args else len(args)
        found, unknown = super().parse_known_args(args[:at], namespace)
        found.command = [*found.command, *args[at + 1 :]]
        return found, unknown


def parser() -> argparse.ArgumentParser:
    """The options; the manual page is made of them."""
    top = _Parser(
        prog=_PROGRAM, description="Run a shell, or a command, in the helper VM with the disks of a stopped instance."
    )
    top.add_argument("instance", nargs="?", metavar="INSTANCE", help="on the master: its disks are activated meanwhile")
    top.add_argument(
        "--disk",
        action="append",
        type=Path,
        default=[],
        metavar="PATH",
        help="in the place of INSTANCE: a disk of this node. May be given again",
    )
    top.add_argument("--rw", action="store_true", help="the disks can be written to")
    top.add_argument("--no-mount", action="store_true", help="nothing is mounted; the disks are there")
    top.add_argument(
        "--timeout", type=_seconds, default=0, metavar="SECONDS", help="kill a command that takes longer (never)"
    )
    top.add_argument("-v", "--verbose", action="store_true", help="show the log, with the helper VM's console")
    top.add_argument("command", nargs="*", metavar="-- COMMAND", help="and its arguments; an interactive shell if not")
    return top


def run(options: argparse.Namespace, root: Path) -> int:
    """The exit status of the command. Raises ShellError for all that is not the command's own failure."""
    try:
        if os.geteuid() != 0:
            raise ConfigurationError(f"the helper VM's jail can only be made by root: run {_PROGRAM} as root")
        if bool(options.instance) == bool(options.disk):
            raise RequestError("give either INSTANCE or --disk PATH")
        with Progress.start("", None, log=log_of(verbose=options.verbose)) as progress:
            return _run(options, root, progress)
    except SnfImageError as error:
        raise ShellError("\n".join(error.lines)) from error


def _run(options: argparse.Namespace, root: Path, progress: Progress) -> int:
    if options.disk:
        return visit(options, tuple(options.disk), Settings.load("", root), progress)
    instance = find_instance(options.instance)
    instance.check_down()
    with active_disks(instance, progress) as disks:
        if instance.is_here:
            return visit(options, disks, Settings.load("", root), progress)
        return run_attached(_on_primary(options, instance, disks), env={"TERM": options.terminal})


def visit(options: argparse.Namespace, paths: Sequence[Path], settings: Settings, progress: Progress) -> int:
    """Run the command beside these disks of this node: its exit status. Raises SnfImageError."""
    if len(paths) > MAX_DISKS:
        raise RequestError(f"the helper VM has room for {MAX_DISKS} disks: give fewer")
    wanted = Shell(
        command=tuple(options.command),
        writable=options.rw,
        mount=not options.no_mount,
        terminal=terminal_of(options.terminal),
        timeout=options.timeout,
    )
    with ExitStack() as stack:
        disks = [stack.enter_context(_opened(path, options, settings)) for path in paths]
        helper_vm = stack.enter_context(HelperVM.ready(settings))
        operator, stream = stack.enter_context(joined(wanted.terminal))
        looking = Looking(helper_vm, settings, progress)
        job = looking.job(Action.SHELL, len(disks), options.instance or "disk")
        looking.run(replace(job, visit=wanted), disks, stream)
        if operator.status is None:
            raise HelperError("the helper VM did not say how the command ended; run it again with -v")
        return operator.status


@contextmanager
def _opened(path: Path, options: argparse.Namespace, settings: Settings) -> Iterator[Attachable]:
    """The disk, which nobody else uses. Raises DiskError."""
    with idle_disk(path) as disk:
        if not options.rw:
            yield disk
            return
    with open_for_writing(InstanceDisk(path), settings) as target:
        yield target


def _on_primary(options: argparse.Namespace, instance: ClusterInstance, disks: Sequence[Path]) -> list[str]:
    """The same command, on the node where the disks are."""
    command = [_PROGRAM, *(f"--disk={disk}" for disk in disks), f"--timeout={options.timeout}"]
    command += ["--rw"] if options.rw else []
    command += ["--no-mount"] if options.no_mount else []
    command += ["--verbose"] if options.verbose else []
    command += ["--", *options.command] if options.command else []
    return on_node(instance.primary, command, terminal=terminal_of(options.terminal) is not None)


def _seconds(text: str) -> int:
    """For argparse."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)
