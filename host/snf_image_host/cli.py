# SPDX-License-Identifier: GPL-2.0-or-later
"""The five scripts that Ganeti calls, and the operator's commands: exception -> one line -> exit code."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

from snf_image_host.definitions import Definition
from snf_image_host.kernel import forget_environment
from snf_image_host.progress import printable
from snf_image_shared.errors import RequestError, SnfImageError

USAGE = """usage: {command}{arguments}

Part of the Ganeti OS provider snf-image. Ganeti runs it and passes everything in environment variables
(ganeti-os-interface(7)); there is nothing to run by hand. See snf-image.conf for the settings.
"""
INTERNAL_ERROR = 1
_STDERR = 2
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def main(command: str, root: Path, definition: str = Definition.SNF_IMAGE, argv: list[str] | None = None) -> int:
    """Run one OS script to its exit code: 0, or the one of the error's class, or 128 + the signal that ended it."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(_usage(command))
        return 0
    if arguments != (["parameters"] if command == "verify" else []):
        sys.stderr.write(_usage(command))
        return RequestError.exit_code
    _prepare()
    # A monitor or a log reader that is gone must not take the deployment with it; writes then fail with EPIPE.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    env = dict(os.environ)
    os.environ.clear()
    forget_environment()
    wanted = Definition(definition)
    return _ended(command, lambda: _script(command, wanted)(wanted.in_newest_version(env), root))


def operate(command: str, root: Path, argv: list[str] | None = None) -> int:
    """Run one of the operator's commands, which has options of its own, to its exit code, as main() does."""
    module = _command(command)
    options = module.parser().parse_args(sys.argv[1:] if argv is None else argv)
    options.terminal = os.environ.get("TERM", "")
    _prepare()
    return _ended(command, lambda: module.run(options, root))


def _ended(command: str, work: Callable[[], int | None]) -> int:
    """The exit code that says how `work` ended; the last line of standard error says why."""
    try:
        return work() or 0
    except SystemExit as end:
        _say(
            f"[ERROR] {command} was ended by {signal.Signals(int(end.code or 0) - 128).name}; everything is cleaned up"
        )
        return int(end.code or 0)
    except SnfImageError as error:
        for line in error.lines:
            _say(f"[ERROR] {printable(line)}")
        return error.exit_code
    except Exception as error:  # the one place: an administrator needs the traceback and the last line
        traceback.print_exception(error)
        _say(f"[ERROR] internal error in {command}: {printable(str(error))}; please report it with the lines above")
        return INTERNAL_ERROR
    finally:
        _let_go_of_log()


def _script(command: str, definition: Definition) -> Callable[[Mapping[str, str], Path], None]:
    """Each story is imported when it is wanted: verify needs none of the machinery of create."""
    match command, definition:
        case "create", Definition.IMAGE:
            from snf_image_host.instance_image import create as image_create  # noqa: PLC0415

            return image_create.create
        case "export", Definition.IMAGE:
            from snf_image_host.instance_image import export as image_export  # noqa: PLC0415

            return image_export.export_disk
        case "import", Definition.IMAGE:
            from snf_image_host.instance_image import import_ as image_import  # noqa: PLC0415

            return image_import.import_disk
        case "rename", Definition.IMAGE:
            from snf_image_host.instance_image import rename as image_rename  # noqa: PLC0415

            return image_rename.rename
        case "verify", Definition.IMAGE:
            from snf_image_host.instance_image import verify as image_verify  # noqa: PLC0415

            return image_verify.verify
        case _, Definition.SNF_IMAGE:
            return _own_script(command)
        case _:
            raise RequestError(f"{command} is not there for the OS definition {definition}")


def _own_script(command: str) -> Callable[[Mapping[str, str], Path], None]:
    match command:
        case "create":
            from snf_image_host.create import create  # noqa: PLC0415

            return create
        case "import" | "export":
            from snf_image_host import transfer  # noqa: PLC0415

            return transfer.import_disk if command == "import" else transfer.export_disk
        case "verify":
            from snf_image_host.verify import verify  # noqa: PLC0415

            return verify
        case "rename":
            from snf_image_host.rename import rename  # noqa: PLC0415

            return rename
        case _:
            raise RequestError(f"{command!r} is no script of the Ganeti OS interface")


class _Command(Protocol):
    """What the module of a command offers; `run` raises SnfImageError."""

    def parser(self) -> ArgumentParser: ...
    def run(self, options: Namespace, root: Path) -> int | None: ...


def _command(command: str) -> _Command:
    match command:
        case "snf-image-cache":
            from snf_image_host import cache_command  # noqa: PLC0415

            return cache_command
        case "snf-image-inspect":
            from snf_image_host.inspection import command as inspect_command  # noqa: PLC0415

            return inspect_command
        case "snf-image-capture":
            from snf_image_host.tools import capture_command  # noqa: PLC0415

            return capture_command
        case "snf-image-shell":
            from snf_image_host.tools import shell_command  # noqa: PLC0415

            return shell_command
        case _:
            raise RequestError(f"{command!r} is none of the operator's commands")


def _prepare() -> None:
    _occupy_standard_descriptors()
    # No core dump of ours or of QEMU's: both hold secrets. 1 turns off even what is piped to a collector (core(5)).
    with suppress(ValueError):  # not root, and the limit is 0 already
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    for number in _ENDING:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """Turn a signal into an exception that unwinds every `with`; a second one changes nothing.

    It says nothing here: the signal may have come in the middle of a line.
    """
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _occupy_standard_descriptors() -> None:
    """One that is closed would be given to the disk, and what is said there would be written onto it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)


def _usage(command: str) -> str:
    return USAGE.format(command=command, arguments=" parameters" if command == "verify" else "")


def _say(line: str) -> None:
    """The last line of the log is the one that Ganeti shows to a person."""
    try:
        sys.stderr.write(line.encode("ascii", "backslashreplace").decode("ascii") + "\n")
        sys.stderr.flush()
    except OSError:
        pass


def _let_go_of_log() -> None:
    """Drop what nobody reads any more: Python would try again at its end, and turn any exit code into 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stderr.fileno())
