# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of the helper VM: started in its jail, watched over QMP and three serial ports, ended by deadlines.

All the asyncio there is. The VM is believed in one thing only: done or failed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import termios
import tty
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from qemu.qmp import QMPClient, QMPError

from snf_image_host.configuration.setting_types import Accelerator, ConfigDevice
from snf_image_host.configuration.settings import Settings
from snf_image_host.programs import qemu_words
from snf_image_host.progress import Progress, printable
from snf_image_host.vm.accelerator import KVM_DEVICE, accelerators, kvm_groups, remember_failure
from snf_image_host.vm.deadlines import BOOT_DEADLINE, FAILED, SOFT_DEADLINE, NeverBootedError, wait_for_end
from snf_image_host.vm.drives import Attachable, Drive
from snf_image_host.vm.floppy import Floppy
from snf_image_host.vm.helper_image import HelperImage, open_helper_image
from snf_image_host.vm.jail import Jail, check_programs
from snf_image_host.vm.leash import leash
from snf_image_host.vm.qemu import PORTS, Machine, arguments
from snf_image_host.vm.serial_ports import Console, Report, Result, drain
from snf_image_host.vm.stream_port import Stream, StreamPair, carried, stream_pair
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError, HelperError
from snf_image_shared.manifest import CURE
from snf_image_shared.report import Event, EventKind

_SHOWN_ERRORS = 3  # of a helper that fails, in the last line; all of them are in the log
T = TypeVar("T")
_SHUTDOWN, _IO_ERROR = "SHUTDOWN", "BLOCK_IO_ERROR"  # QMP's events
_GUEST_SHUTDOWN = "guest-shutdown"  # QMP's ShutdownCause of a guest that powers itself off


@dataclass(frozen=True)
class Payload:
    """What one run gets: the instance's disks (owned by the caller), the config device, and a descriptor to keep open.

    `guard`, if any, is inherited by the VM's processes and used by nobody: its closing tells that they are all gone.
    `inputs` are files that it reads as disks, in the order of input_serial(). `stream` is what it reads an archive
    from, or writes one to. `patience` are seconds that it may take longer than a VM that only customises.
    """

    disks: tuple[Attachable, ...]
    floppy: Floppy
    guard: int | None
    hypervisor: str
    inputs: tuple[Drive, ...] = ()
    stream: Stream | None = None
    patience: float = 0.0

    @property
    def guards(self) -> tuple[int, ...]:
        """`guard` as a tuple."""
        return () if self.guard is None else (self.guard,)


@dataclass
class _Run:
    """What one attempt learns."""

    console: Console
    report: Report
    result: Result = field(default_factory=Result)
    shutdown: str | None = None
    lost_write: str | None = None


class HelperVM:
    """A helper VM that could be started: programs, accelerator and helper image are there and fit together."""

    @classmethod
    @contextmanager
    def ready(cls, settings: Settings) -> Iterator[HelperVM]:
        """Check all that can be checked and hold the helper image open, whatever is put in its place meanwhile.

        Raises ConfigurationError; run() raises HelperError.
        """
        if os.uname().machine != "x86_64":
            raise ConfigurationError(f"this node is {os.uname().machine}; the helper VM needs an x86_64 node")
        with open_helper_image(settings.helper_dir) as image:
            yield cls(settings, image)

    def __init__(self, settings: Settings, image: HelperImage) -> None:
        self._program = _program(settings.kvm)
        check_programs(self._program[0], "bwrap", "setpriv", "mke2fs")
        self._settings = settings
        self._accelerators = accelerators(settings)
        Jail(settings.helper_user).argv([])  # refuses a user that is not there
        self._image = image

    @property
    def config_device(self) -> ConfigDevice:
        """What HELPER_CONFIG_DEVICE=auto means here: emulated, a floppy takes a second longer than a disk."""
        wanted = self._settings.helper_config_device
        emulated = self._accelerators[0] is Accelerator.TCG
        return ConfigDevice.DISK if wanted is ConfigDevice.AUTO and emulated else wanted

    def run(self, payload: Payload, progress: Progress) -> str:
        """Boot, wait for SUCCESS and power-off; what an INSPECT found. Raises HelperError unless all agree on it."""
        first, *others = self._accelerators
        try:
            return run_to_end(self._attempt(first, payload, progress))
        except NeverBootedError as failure:
            if not others:
                raise
            progress.warning(f"the helper VM does not start with {first}; trying {others[0]}. {failure}")
            return self._fall_back(others[0], payload, progress)

    def _fall_back(self, accelerator: Accelerator, payload: Payload, progress: Progress) -> str:
        """A second attempt; once it has booted, the first accelerator is not tried again until the node reboots."""
        try:
            found = run_to_end(self._attempt(accelerator, payload, progress))
        except NeverBootedError:
            raise
        except HelperError:
            remember_failure(self._settings)
            raise
        remember_failure(self._settings)
        return found

    async def _attempt(self, accelerator: Accelerator, payload: Payload, progress: Progress) -> str:
        run = _Run(Console(progress.helper_line), Report(lambda event: _show(event, progress)))
        with _socket_pairs() as (ours, theirs), stream_pair(payload.stream) as pair, leash() as held:
            machine = self._machine(accelerator, payload, theirs, pair)
            kvm = accelerator is Accelerator.KVM
            jail = Jail(
                self._settings.helper_user,
                kvm_groups() if kvm else (),
                self._image.files,
                (KVM_DEVICE,) if kvm else (),
                machine.sockets,
            )
            for fd in jail.descriptors:
                os.lseek(fd, 0, os.SEEK_SET)
            inherited = (*machine.descriptors, *payload.guards, *jail.descriptors, held)
            progress.log(f"{_now()} VM START")
            try:
                with carried(pair):
                    async with _process(jail.argv(arguments(machine)), inherited) as process:
                        for end in (*theirs, *(pair.theirs if pair else ())):
                            end.close()
                        await self._watch(process, run, ours, payload, accelerator)
            finally:
                progress.log(f"{_now()} VM STOP")
        self._judge(run, process.returncode, progress)
        return run.report.findings

    def _machine(
        self, accelerator: Accelerator, payload: Payload, theirs: tuple[socket.socket, ...], pair: StreamPair | None
    ) -> Machine:
        ports = tuple(end.fileno() for end in theirs)
        return Machine(
            program=self._program,
            accelerator=accelerator,
            memory=self._settings.helper_memory,
            image=self._image.root,
            disks=tuple(disk.drive() for disk in payload.disks),
            config=Drive(payload.floppy.fd),
            config_device=payload.floppy.device,
            ports=ports[1:] if self._settings.helper_debug else ports[1 : len(PORTS)],
            monitor=ports[0],
            hypervisor=payload.hypervisor,
            inputs=payload.inputs,
            stream=pair.fileno if pair else None,
        )

    async def _watch(
        self,
        process: asyncio.subprocess.Process,
        run: _Run,
        ours: tuple[socket.socket, ...],
        payload: Payload,
        accelerator: Accelerator,
    ) -> None:
        """Read everything until QEMU has ended, or end it at a deadline. Raises HelperError for the deadlines."""
        monitor, console, result, report, debug = ours
        qmp = QMPClient("helper-vm")
        boot_deadline = self._boot_deadline(accelerator)
        soft_deadline = (self._settings.helper_soft_timeout or SOFT_DEADLINE[accelerator]) + payload.patience
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_watch_monitor(qmp, monitor, run))
            readers = [
                group.create_task(_read_port(console, run.console.feed)),
                group.create_task(_read_port(result, run.result.feed)),
                group.create_task(_read_port(report, run.report.feed)),
                group.create_task(_log_qemu(process, run.console)),
            ]
            shell = group.create_task(_debug_terminal(debug, run.console)) if self._settings.helper_debug else None
            ended = group.create_task(process.wait())
            late = await wait_for_end(ended, run.report.booted, boot_deadline, soft_deadline, payload.stream)
            if late:
                await self._stop(process, qmp)
            await asyncio.gather(*readers)
            watcher.cancel()
            if shell:
                shell.cancel()
        if late:
            raise late

    async def _stop(self, process: asyncio.subprocess.Process, qmp: QMPClient) -> None:
        """Ask QEMU to quit, and kill it when it does not within HELPER_HARD_TIMEOUT."""
        try:
            async with asyncio.timeout(self._settings.helper_hard_timeout):
                await qmp.execute("quit")
                await process.wait()
        except (TimeoutError, QMPError):
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _judge(self, run: _Run, status: int | None, progress: Progress) -> None:
        """Say success only if the result port, the exit status, the way it ended and the report all agree."""
        if run.report.version not in {None, __version__}:
            raise HelperError(
                f"{FAILED} The helper is of version {run.report.version!r}, this host of {__version__}; {CURE}"
            )
        booted = run.report.booted.is_set()
        if status or not booted:
            error = HelperError if booted else NeverBootedError
            raise error(f"{FAILED} {_end_of_qemu(status or 0)}")
        progress.info("Customization VM exited normally.")
        progress.info("Checking customization status...")
        progress.info(f"Customization status is: {run.result.first_line}")
        reason = "; ".join(run.report.errors[-_SHOWN_ERRORS:]) or run.result.first_line.removeprefix("ERROR: ")
        if run.lost_write:
            raise HelperError(f"{FAILED} {run.lost_write}")
        if not run.result.is_success:
            raise HelperError(f"{FAILED} {reason or 'The helper VM ended without a result; its console is above.'}")
        if run.shutdown != _GUEST_SHUTDOWN:
            raise HelperError(f"{FAILED} It did not power off by itself ({run.shutdown or 'no word from QEMU'}).")
        if run.report.problem or run.report.errors or run.report.unfinished or run.report.version is None:
            doubt = run.report.problem or reason
            doubt = doubt if not run.report.unfinished else f"{', '.join(run.report.unfinished)} did not end"
            raise HelperError(f"{FAILED} It says SUCCESS, but its report does not agree: {doubt}")

    def _boot_deadline(self, accelerator: Accelerator) -> float:
        return self._settings.helper_boot_timeout or BOOT_DEADLINE[accelerator]


def run_to_end(story: Coroutine[None, None, T]) -> T:
    """asyncio.run() that leaves it to cli.py to tell of a signal, wherever in the story it came."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(_tell_of_errors)
        return runner.run(story)


def _tell_of_errors(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Tell of what went wrong unseen; the task in which the signal came is not that."""
    if not isinstance(context.get("exception"), SystemExit):
        loop.default_exception_handler(context)


def _end_of_qemu(status: int) -> str:
    """Why a VM that did not come to its end may have ended. bwrap tells of a signal as 128 + its number."""
    number = -status if status < 0 else status - 128
    if number in set(signal.Signals):
        return f"QEMU was killed by {signal.Signals(number).name}; was the node out of memory? The kernel's log tells"
    if status:
        return f"QEMU ended with status {status}; the lines above that begin with HELPER: say why"
    return "The helper VM ended before its helper said a word; its console, if it has one, is above"


def _program(setting: str) -> tuple[str, ...]:
    """The words of the setting KVM that are for the helper VM."""
    try:
        return qemu_words(setting)[0]
    except ValueError as error:
        raise ConfigurationError(f"KVM: {setting!r} is no command line: {error}") from error


@contextmanager
def _socket_pairs() -> Iterator[tuple[tuple[socket.socket, ...], tuple[socket.socket, ...]]]:
    """Our and their ends of the monitor and of the ports, in the order of PORTS."""
    pairs = [socket.socketpair() for _ in range(1 + len(PORTS))]
    try:
        yield tuple(ours for ours, _ in pairs), tuple(theirs for _, theirs in pairs)
    finally:
        for ours, theirs in pairs:
            ours.close()
            theirs.close()


@asynccontextmanager
async def _process(argv: list[str], descriptors: tuple[int, ...]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The jail with QEMU in it; killed, with all it started, if the block is left before it has ended."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        pass_fds=descriptors,
        env={},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _read_port(port: socket.socket, feed: Callable[[bytes], None]) -> None:
    reader, writer = await asyncio.open_connection(sock=port)
    try:
        await drain(reader, feed)
    finally:
        writer.close()


async def _log_qemu(process: asyncio.subprocess.Process, console: Console) -> None:
    """What QEMU and the jail say of themselves goes where the helper's console goes."""
    if process.stdout:
        own = Console(console.show)
        await drain(process.stdout, own.feed)


async def _watch_monitor(qmp: QMPClient, port: socket.socket, run: _Run) -> None:
    """Remember why QEMU shut down, and the first write that failed: the helper's kernel only logs many of these.

    A monitor that breaks is QEMU's end, which the exit status tells.
    """
    port.setblocking(False)
    try:
        with suppress(QMPError), qmp.listener(names=(_SHUTDOWN, _IO_ERROR)) as listener:
            await qmp.connect(port)
            async for message in listener:
                details = message.get("data")
                if not isinstance(details, dict):
                    continue
                if message.get("event") == _SHUTDOWN:
                    run.shutdown = str(details.get("reason"))
                elif details.get("operation") == "write" and run.lost_write is None:
                    run.lost_write = _lost_write(details)
    finally:
        with suppress(QMPError, EOFError, OSError):
            await qmp.disconnect()


def _lost_write(details: Mapping[str, object]) -> str:
    """What QEMU tells of a write that its storage refused, for who has to mend that storage."""
    reason, name = (printable(str(details.get(key))) for key in ("reason", "node-name"))
    return f"The node's storage refused what was written to {name} ({reason}); is it full? The node's kernel log tells."


async def _debug_terminal(port: socket.socket, console: Console) -> None:
    """Join the fourth port to a pseudo terminal, and tell its name: `screen NAME` is the debug shell."""
    master, slave = os.openpty()
    os.set_blocking(master, False)  # a terminal that nobody reads must not stop the deadlines
    try:
        tty.setraw(slave, termios.TCSANOW)
        console.show(f"debug shell: if a task fails, a root shell of the helper VM waits on {os.ttyname(slave)}")
        reader, writer = await asyncio.open_connection(sock=port)
        loop = asyncio.get_running_loop()
        loop.add_reader(master, lambda: writer.write(os.read(master, 4096)))
        try:
            while chunk := await reader.read(4096):
                with suppress(BlockingIOError):
                    os.write(master, chunk)
        finally:
            loop.remove_reader(master)
            writer.close()
    finally:
        os.close(master)
        os.close(slave)


def _show(event: Event, progress: Progress) -> None:
    match event.kind:
        case EventKind.TASK_START:
            progress.task_start(event.text)
        case EventKind.TASK_END:
            progress.task_end(event.text)
        case EventKind.WARNING:
            progress.helper_warning(event.text)
        case EventKind.ERROR:
            progress.helper_error([event.text])
        case EventKind.STDERR:
            progress.helper_error(stderr=event.text)
        case _:
            pass


def _now() -> str:
    now = datetime.now(tz=UTC)
    return now.strftime("%Y:%m:%d-%H:%M:%S.") + f"{now.microsecond * 1000:09d}"
