# SPDX-License-Identifier: GPL-2.0-or-later
"""A registry hive in a process of its own: hivex is C and reads what a tenant wrote; a crash must not be PID 1's.

The child is a fork: a new interpreter would take a second under emulation. It gets requests and gives answers as lines
of JSON, and has limits of memory and time.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from snf_image_shared.errors import GuestError

_PATIENCE = 120.0  # seconds for one answer: under emulation a hive of 100 MiB is read in a fifth of it
_MEMORY = 256 * 1024 * 1024  # bytes beside what the parent has and the hive itself
_LONGEST = 32 * 1024 * 1024  # bytes of an answer
_LARGEST_VALUE = 512 * 1024  # bytes; what is read here is a line of text or a number
_MOST_NAMES = 16384


class HiveProcess:
    """The child, as its parent sees it."""

    def __init__(self, name: str, pid: int, connection: socket.socket) -> None:
        self._name = name
        self._pid = pid
        self._connection = connection
        self._answers = connection.makefile("rb")

    def ask(self, *request: object) -> Any:
        """What the method of _Hive with that name answers. Raises GuestError, whatever the hive does to hivex."""
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            line = self._answers.readline(_LONGEST)
        except TimeoutError as error:
            raise GuestError(f"{self._name}: reading it takes longer than {_PATIENCE:.0f} s; {_CURE}") from error
        except OSError as error:
            raise self._death() from error
        if not line.endswith(b"\n"):
            raise self._death()
        kind, answer = json.loads(line)
        if kind == "error":
            raise GuestError(f"{self._name}: is damaged, or no registry hive ({answer}); {_CURE}")
        return answer

    def end(self) -> None:
        """Kill and reap the child; doing it twice does no harm."""
        self._answers.close()
        self._connection.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _death(self) -> GuestError:
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._pid = 0
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return GuestError(f"{self._name}: is so damaged that its reader died of it ({how}); {_CURE}")


_CURE = "replace it in the image by a sound one, as of RegBack, or make the image anew"


@contextmanager
def hive_process(name: str, hive: int, result: int | None) -> Iterator[HiveProcess]:
    """A reader of the hive behind the descriptor `hive`; with a `result` it can be changed and commit()ed there."""
    import hivex  # noqa: F401, PLC0415  # before the fork, so that it is loaded once

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _serve(theirs, hive, result)
        finally:
            os._exit(1)
    theirs.close()
    ours.settimeout(_PATIENCE)
    process = HiveProcess(name, pid, ours)
    try:
        yield process
    finally:
        process.end()


def _serve(connection: socket.socket, hive: int, result: int | None) -> None:
    _limit(os.fstat(hive).st_size)
    with connection.makefile("r", encoding="utf-8") as requests, connection.makefile("w", encoding="utf-8") as answers:
        opened: _Hive | None = None
        for line in requests:
            method, *arguments = json.loads(line)
            try:
                if opened is None:
                    opened = _Hive(_open(hive, result), result)
                answer = getattr(opened, method)(*arguments)
            except (OSError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
                _send(answers, ["error", str(error) or type(error).__name__])
            else:
                _send(answers, ["answer", answer])


def _open(hive: int, result: int | None) -> Any:
    import hivex  # noqa: PLC0415

    return hivex.Hivex(f"/proc/self/fd/{hive}", write=result is not None)


def _send(answers: TextIO, answer: object) -> None:
    print(json.dumps(answer), file=answers, flush=True)


def _limit(size: int) -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    limit = used + 2 * size + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (int(_PATIENCE), int(_PATIENCE)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A child that dies says nothing on the console: its parent does.
    faulthandler.disable()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)


class _Hive:
    """What the child does with hivex. A path is a list of names; hivex compares them without their case."""

    def __init__(self, hive: Any, result: int | None) -> None:
        self._hive = hive
        self._result = result

    def value(self, path: list[str], name: str) -> tuple[int, str] | None:
        """Its type, and its bytes in hexadecimal."""
        node = self._node(path)
        found = None if node is None else self._value(node, name)
        if found is None:
            return None
        kind, length = self._hive.value_type(found)
        if length > _LARGEST_VALUE:
            raise ValueError("a value is too large")
        return kind, self._hive.value_value(found)[1].hex()

    def keys(self, path: list[str]) -> list[str] | None:
        node = self._node(path)
        if node is None:
            return None
        children = self._hive.node_children(node)
        if len(children) > _MOST_NAMES:
            raise ValueError("a key has too many subkeys")
        return [self._hive.node_name(child) for child in children]

    def write(self, path: list[str], name: str, kind: int, content: str) -> None:
        """Set a value; missing keys are made."""
        node = self._hive.root()
        for part in path:
            child = self._hive.node_get_child(node, part)
            node = self._hive.node_add_child(node, part) if child is None else child
        self._hive.node_set_value(node, {"key": name, "t": kind, "value": bytes.fromhex(content)})

    def commit(self) -> None:
        self._hive.commit(f"/proc/self/fd/{self._result}")

    def _node(self, path: list[str]) -> int | None:
        node = self._hive.root()
        for part in path:
            if node is None:
                return None
            node = self._hive.node_get_child(node, part)
        return int(node) if node is not None else None

    def _value(self, node: int, name: str) -> int | None:
        """hivex says the same of a value that is not there as of one that cannot be read."""
        for value in self._hive.node_values(node):
            if self._hive.value_key(value).lower() == name.lower():
                return int(value)
        return None
