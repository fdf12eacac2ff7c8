# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that exists only as a URI, offered to us as NBD: QEMU's block layer in a process of its own, one for a disk.

It is jailed like the helper VM's QEMU, but with the node's network, and serves one socket in a directory of root's. A
forked keeper starts it, and ends it and cleans up when the last of those who hold the disk is gone: create or, after a
SIGKILL, its boot guard, which has to reach the disk once more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_host.children import fork_child, read_to_end
from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.userspace import Node
from snf_image_host.vm.jail import FIRST_UID, Jail, check_programs
from snf_image_host.vm.qemu import NBD_EXPORT
from snf_image_shared.errors import ConfigurationError, DiskError

PROGRAM = "qemu-storage-daemon"
_OWN_UIDS = 10_000_000  # above those of the helper VMs, which must not be able to reach a daemon
_READABLE = ("/etc/ceph", "/etc/glusterfs", "/etc/passwd", "/etc/ld.so.cache")
_LOCK_PATIENCE = 10.0  # seconds: a killed run's keeper takes one to be gone
_END_PATIENCE = 10.0  # seconds for the daemon to close its disk by itself; an RBD image would stay watched otherwise
_KEEPER_PATIENCE = 20.0  # seconds for the keeper to be gone, which a boot guard may keep from it
_BACKLOG = 16
_LONGEST_SOCKET = 107  # bytes of a unix socket's name (man 7 unix)
_LINE = 4096  # bytes of the daemon's last words
_QUIT = b'{"execute":"qmp_capabilities"}{"execute":"quit"}'


@dataclass(frozen=True)
class StorageDaemon:
    """A running daemon. `lifeline` keeps it alive: a forked child needs it too. `words` is where the daemon talks."""

    name: str
    door: Path
    lifeline: int
    words: int

    error = DiskError
    cure = "check the storage behind it"

    def connect(self) -> socket.socket:
        """A new connection, which speaks NBD once the daemon has opened the disk. Raises DiskError."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.door))
        except OSError as error:
            connection.close()
            raise DiskError(f"{self.name}: {self.last_words() or 'its storage daemon is gone; try again'}") from error
        return connection

    def last_words(self) -> str:
        """Why the daemon ended, as far as it told; "" if it said nothing."""
        try:
            text = os.read(self.words, _LINE).decode("utf-8", "replace")
        except BlockingIOError:
            return ""
        lines = [line for line in text.splitlines() if line.strip()]
        # Behind the daemon's name and the option at fault, which is JSON of ours, comes the reason.
        reason = lines[-1].rpartition("}: ")[2].removeprefix(f"{PROGRAM}: ") if lines else ""
        if "Unknown driver" in reason:
            return f"{reason}; run: apt install qemu-block-extra"
        return f"{reason}; is the storage there, and may STORAGE_USER open it?" if reason else ""


@contextmanager
def storage_daemon(node: Node, settings: Settings, *, writable: bool) -> Iterator[StorageDaemon]:
    """Offer the disk for the length of the block, and hold a lock on it that every run on this Ganeti node respects.

    To be entered before any thread is started, because it forks. Raises DiskError, or ConfigurationError for what is
    missing here; why the disk cannot be opened is told when a connection is first used.
    """
    check_programs(PROGRAM, "bwrap", "setpriv")
    with ExitStack() as ours, ExitStack() as lifelines:
        lifeline_read, lifeline = os.pipe()
        lifelines.callback(os.close, lifeline)
        words, words_write = os.pipe()
        ours.callback(os.close, words)
        for fd in (words, words_write):
            os.set_blocking(fd, False)  # a daemon that talks without end is not to stand still, nor are we
        with ExitStack() as keepers, ExitStack() as undo:
            keepers.callback(os.close, lifeline_read)
            keepers.callback(os.close, words_write)
            path = _socket_path(settings.run_dir)
            undo.callback(shutil.rmtree, path.parent, ignore_errors=True)
            command = _command(node, settings, _listener(path, keepers), keepers, writable=writable)
            lock = _lock(node, settings.run_dir, shared=not writable)
            keepers.callback(os.close, lock.fd)
            keeper = _Keeper(command, words_write, lifeline_read, lock, path.parent)
            pid = fork_child(keeper.descriptors, keeper.run)
            undo.pop_all()
        try:
            yield StorageDaemon(node.name, path, lifeline, words)
        finally:
            lifelines.close()
            _wait_for_end(pid)


@dataclass(frozen=True)
class _Lock:
    """A locked file. The last run that has it removes it."""

    path: Path
    fd: int

    def remove(self) -> None:
        """Take the file away unless another run shares the lock."""
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path.unlink()


@dataclass(frozen=True)
class _Command:
    """The daemon's argument list, the descriptors it inherits, and our end of its monitor."""

    argv: list[str]
    inherited: tuple[int, ...]
    monitor: int


@dataclass(frozen=True)
class _Keeper:
    """The forked child that stands between us and the daemon."""

    command: _Command
    words: int
    lifeline: int
    lock: _Lock
    directory: Path

    @property
    def descriptors(self) -> frozenset[int]:
        """All that it needs."""
        return frozenset(
            {*self.command.inherited, self.command.monitor, self.words, self.lifeline, self.lock.fd},
        )

    def run(self) -> int:
        """Its whole life. Should it be killed, the jail dies with its parent."""
        daemon = subprocess.Popen(
            self.command.argv,
            stdin=subprocess.DEVNULL,
            stdout=self.words,
            stderr=self.words,
            pass_fds=self.command.inherited,
            env={},
        )
        for fd in (*self.command.inherited, self.words):
            os.close(fd)  # with the daemon alone, so that its end is told to those who are connected
        read_to_end(self.lifeline)
        with contextlib.suppress(OSError):
            os.write(self.command.monitor, _QUIT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(_END_PATIENCE)
        daemon.kill()
        daemon.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.lock.remove()
        return 0


def _command(node: Node, settings: Settings, listener: int, keepers: ExitStack, *, writable: bool) -> _Command:
    """Everything the daemon needs is made here, and closed by `keepers`. Raises DiskError, ConfigurationError."""
    ours, theirs = socket.socketpair()
    keepers.enter_context(ours)
    keepers.enter_context(theirs)
    inherited = [listener, theirs.fileno()]
    options = dict(node.options)
    if node.socket:
        connection = keepers.enter_context(_connected(node))
        options["server"] = {"type": "fd", "str": str(connection.fileno())}
        inherited.append(connection.fileno())
    files, objects = {}, list[str]()
    for number, (option, secret) in enumerate(node.secrets.items()):
        files[f"/secret/{number}"] = _memory(secret, keepers)
        # Of a key for Ceph the daemon wants the bytes, which it encodes again.
        encoding = ",format=base64" if option == "key-secret" else ""
        objects += ["--object", f"secret,id=secret{number},file=/secret/{number}{encoding}"]
        options[option] = f"secret{number}"
    disk = {"driver": "raw", "node-name": "disk", "read-only": not writable, "discard": "unmap"}
    disk["file"] = {**options, "read-only": not writable, "discard": "unmap"}
    argv = [PROGRAM, *objects, "--blockdev", json.dumps(disk, separators=(",", ":"))]
    argv += ["--nbd-server", f"addr.type=fd,addr.str={listener}"]
    argv += ["--export", f"type=nbd,id=disk,node-name=disk,name={NBD_EXPORT},writable={'on' if writable else 'off'}"]
    argv += ["--chardev", f"socket,id=monitor,fd={theirs.fileno()}", "--monitor", "chardev=monitor,mode=control"]
    jail = _jail(node, settings, files)
    return _Command(jail.argv(argv), (*inherited, *jail.descriptors), ours.fileno())


def _jail(node: Node, settings: Settings, files: Mapping[str, int]) -> Jail:
    binds = [Path(name) for name in _READABLE]
    match node.options:
        case {"driver": "rbd", "conf": str(conf)}:
            binds.append(Path(conf))
        case {"driver": "gluster", "server": [{"type": "unix", "path": str(path)}]}:
            binds.append(Path(path))
        case {"driver": "ssh"}:
            if not settings.storage_user:
                raise ConfigurationError(
                    f"{node.name}: set STORAGE_USER to the user whose .ssh directory holds the key and known_hosts"
                )
            with contextlib.suppress(KeyError):  # the jail tells of a user that does not exist
                binds.append(Path(pwd.getpwnam(settings.storage_user).pw_dir, ".ssh"))
    return Jail(
        settings.storage_user,
        files=files,
        binds=binds,
        has_network=True,
        setting="STORAGE_USER",
        first_uid=FIRST_UID + _OWN_UIDS,
    )


def _connected(node: Node) -> socket.socket:
    """A connection to a unix socket of the Ganeti node, made by us: the daemon's user may not open it."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        found = os.open(node.socket, os.O_PATH | os.O_CLOEXEC)
        try:
            connection.connect(_by_descriptor(found))
        finally:
            os.close(found)
    except OSError as error:
        connection.close()
        raise DiskError(f"{node.name}: cannot be connected to: {error.strerror}; is its server running?") from error
    return connection


def _memory(secret: str, keepers: ExitStack) -> int:
    fd = os.memfd_create("secret", os.MFD_CLOEXEC)
    keepers.callback(os.close, fd)
    os.write(fd, secret.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _socket_path(run_dir: Path) -> Path:
    """A name for a socket in a new directory, which only root can enter. Raises ConfigurationError."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix="nbd-", dir=run_dir), "socket")
    except OSError as error:
        raise ConfigurationError(f"{run_dir}: cannot be written: {error.strerror}; look at RUN_DIR") from error
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        path.parent.rmdir()
        raise ConfigurationError(f"{run_dir}: the name is too long to have a socket in it; give a shorter RUN_DIR")
    return path


def _listener(path: Path, keepers: ExitStack) -> int:
    listener = keepers.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(path))
    path.chmod(0o666)  # for the helper VM's user, in whose jail it is bound; nobody else gets as far as here
    listener.listen(_BACKLOG)
    return listener.fileno()


def _by_descriptor(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _lock(node: Node, run_dir: Path, *, shared: bool) -> _Lock:
    """Keep a second run on this Ganeti node away. Network storage knows no lock that QEMU would take there."""
    place = json.dumps([dict(node.options), node.socket], sort_keys=True)
    path = run_dir / f"disk-{hashlib.sha256(place.encode()).hexdigest()[:32]}.lock"
    deadline = time.monotonic() + _LOCK_PATIENCE
    try:
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), path.stat()):
                    return _Lock(path, fd)
            except (BlockingIOError, FileNotFoundError):  # held by another run, or just removed by it
                pass
            os.close(fd)
            if time.monotonic() > deadline:
                raise DiskError(f"{node.name}: is locked by another run of snf-image: wait until it has ended")
            time.sleep(0.1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be made: {error.strerror}; look at RUN_DIR") from error


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + _KEEPER_PATIENCE
    while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < deadline:
        time.sleep(0.01)
