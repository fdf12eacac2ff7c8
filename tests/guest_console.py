# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a deployed disk for real and talk to it over its serial console, as its owner would.

Emulated throughout: a `/dev/kvm` that opens is no proof that guests run. The network is QEMU's own with every way
out closed, unless the machine is put into another one. QEMU ends with the process that started it, whatever ends that
process.
"""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FAILED_VMS = Path(__file__).resolve().parents[1] / "failed-vms"
DEFAULT_MAC = "52:54:00:5e:ed:01"
_FIRMWARE = Path("/usr/share/ovmf/OVMF.fd")
# Generous: other emulated machines may share the processors.
_BOOT_SECONDS = 600.0
_LOGIN_SECONDS = 180.0
_PANIC = b"end Kernel panic"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
# A serial line in canonical mode takes no more than this from its reader (N_TTY_BUF_SIZE).
_LONGEST_COMMAND = 3500


class ConsoleError(Exception):
    """The guest did not do or say what was asked in time; the text ends with the file that has its whole console."""


@dataclass(frozen=True)
class Result:
    """What a command printed, without the last newline, and its exit status."""

    output: str
    status: int


@dataclass(frozen=True)
class Machine:
    """`memory` in MiB; `snapshot` throws away what the guest writes; `name` begins the file of a failed console.

    `cards` are QEMU's arguments for the cards, in place of one with `mac`, `kernel` those for a kernel that it brings;
    `inside` is a prefix of its command.
    """

    memory: int = 512
    uefi: bool = False
    mac: str = DEFAULT_MAC
    snapshot: bool = False
    name: str = "guest"
    cards: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()

    def command(self, disk: Path, console_fd: int) -> list[str]:
        """Give QEMU's argument list; it must inherit `console_fd`."""
        firmware = ["-bios", str(_FIRMWARE)] if self.uefi else []
        snapshot = ["-snapshot"] if self.snapshot else []
        card = ("-netdev", "user,id=net,restrict=on", "-device", f"virtio-net-pci,netdev=net,mac={self.mac}")
        # No cmpxchg16b: QEMU 7.2 leaves rubbish in EFLAGS behind it, and an interrupt just then kills Linux 6.12.
        return [
            *("setpriv", "--pdeathsig", "KILL", *self.inside, "qemu-system-x86_64"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", *firmware, *snapshot),
            *("-machine", "pc", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16", "-smp", "1"),
            *("-m", str(self.memory), "-device", "virtio-rng-pci"),
            *("-drive", f"file={disk},format=raw,if=none,id=disk,cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *(self.cards or card),
            *self.kernel,
            *("-chardev", f"socket,id=console,fd={console_fd}", "-serial", "chardev:console"),
        ]


@contextmanager
def boot(disk: Path, machine: Machine | None = None) -> Iterator[GuestConsole]:
    """Start `disk` (raw) and give its console; kill it at the end unless it has powered off.

    When the block raises, the whole console is kept under FAILED_VMS and a note names the file.
    """
    machine = machine or Machine()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                machine.command(disk, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        with _console(ours, process, machine.name) as console:
            yield console


@contextmanager
def attached(command: Sequence[str], name: str) -> Iterator[GuestConsole]:
    """The console of a guest that somebody else started, carried by the standard input and output of `command`."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE)
        with _console(ours, process, name) as console:
            yield console


@contextmanager
def _console(line: socket.socket, process: subprocess.Popen[bytes], name: str) -> Iterator[GuestConsole]:
    with process:
        console = GuestConsole(line, process)
        try:
            yield console
        except BaseException as error:
            error.add_note(f"The guest's console is in {_keep(console.text, name)}")
            raise
        finally:
            process.kill()


@dataclass
class GuestConsole:
    """A shell on the first serial port. Timeouts are in seconds; when one passes, ConsoleError is raised."""

    _line: socket.socket
    _process: subprocess.Popen[bytes]
    _seen: bytearray = field(default_factory=bytearray)
    _consumed: int = 0

    @property
    def text(self) -> str:
        """Everything the guest has said so far."""
        return self._seen.decode(errors="replace")

    def wait_for(self, pattern: str, timeout: float) -> str:
        """Read until `pattern` (a regular expression) matches what nobody has consumed; give the text up to its end."""
        compiled = re.compile(pattern.encode())
        deadline = time.monotonic() + timeout
        while not (match := compiled.search(self._seen, self._consumed)):
            self._receive(deadline, pattern)
            if _PANIC in self._seen:
                raise ConsoleError(f"waited for {pattern!r} from the guest, but its kernel panicked")
        text = self._seen[self._consumed : match.end()].decode(errors="replace")
        self._consumed = match.end()
        return text

    def login(self, user: str, password: str) -> None:
        """Wait for the login prompt, log in, and replace the login shell by one that neither echoes nor prompts.

        Raises ConsoleError when the guest refuses the password.
        """
        if not self.accepts(user, password):
            raise ConsoleError(f"the guest refuses the password of {user}")
        self._send("dmesg -n 1; exec env PS1= PS2= TERM=dumb sh")
        self._send("stty -echo cols 500; echo quiet-''shell")
        self.wait_for(r"quiet-shell\r?\n", _LOGIN_SECONDS)

    def accepts(self, user: str, password: str) -> bool:
        """Wait for the login prompt and try to log in."""
        self.wait_for(r"login: ", _BOOT_SECONDS)
        self._send(user)
        self.wait_for(r"Password: ", _LOGIN_SECONDS)
        self._send(password)
        answer = self.wait_for(r"Login incorrect|[#$] (\x1b\[\?2004h)?$", _LOGIN_SECONDS)
        return "Login incorrect" not in answer

    def run(self, command: str, timeout: float = 120.0) -> Result:
        """Run one shell command to its end, its standard error among its output."""
        if len(command) > _LONGEST_COMMAND:
            raise ValueError(f"a command for the console is at most {_LONGEST_COMMAND} characters, not {len(command)}")
        mark = secrets.token_hex(6)
        # The mark is split in what we type, so that an echo cannot be taken for the answer.
        split = f"{mark[:6]}''{mark[6:]}"
        self._send(f"echo {split}; {{ {command}\n}} 2>&1 </dev/null; ended=$?; echo; echo {split} $ended-")
        self.wait_for(rf"{mark}\r?\n", timeout)
        answer = self.wait_for(rf"{mark} \d+-\r?\n", timeout)
        output, _, ending = _ESCAPES.sub("", answer).rpartition(mark)
        return Result(output.removesuffix("\n").rstrip("\n"), int(ending.strip().removesuffix("-")))

    def failed_units(self) -> str:
        """systemd's units that failed, and the end of what the journal has of each; empty if there is none."""
        return self.run(
            "systemctl --failed --plain --no-legend | while read -r unit rest; "
            'do echo "$unit $rest"; journalctl --boot --no-pager --lines=40 --unit="$unit"; done'
        ).output

    def poweroff(self, timeout: float = 180.0) -> None:
        """Shut the guest down and wait until QEMU has ended."""
        self._send("poweroff")
        deadline = time.monotonic() + timeout
        while self._process.poll() is None:
            if not self._drain(deadline):
                self._process.wait(max(1.0, deadline - time.monotonic()))

    def _send(self, line: str) -> None:
        self._line.sendall(line.encode() + b"\n")

    def _receive(self, deadline: float, awaited: str) -> None:
        if self._drain(deadline):
            return
        why = "it ended" if time.monotonic() < deadline else "it said nothing of the kind in time"
        raise ConsoleError(f"waited for {awaited!r} from the guest, but {why}; its last words: {self.text[-300:]!r}")

    def _drain(self, deadline: float) -> bool:
        """Take what the guest says next; False when it has ended or the deadline has passed."""
        self._line.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            received = self._line.recv(65536)
        except (TimeoutError, ConnectionResetError):
            return False
        self._seen += received
        return bool(received)


def _keep(text: str, name: str) -> Path:
    FAILED_VMS.mkdir(exist_ok=True)
    path = FAILED_VMS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.console"
    path.write_text(text)
    return path.resolve()
