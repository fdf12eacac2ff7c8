# SPDX-License-Identifier: GPL-2.0-or-later
"""A real NBD server on a unix socket, in the place of the network storage behind a disk that exists only as a URI."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

_PATIENCE = 60.0  # seconds for the server to listen


@contextmanager
def nbd_server(disk: Path, *options: str) -> Iterator[str]:
    """Serve a raw file; the URI of its disk, whose socket is beside it and has a blank and a comma in its name."""
    path = disk.with_name(f"{disk.name} so,cket")
    with subprocess.Popen(
        ["qemu-nbd", "--format=raw", "--persistent", "--shared=0", f"--socket={path}", *options, disk]
    ) as server:
        try:
            _wait_for(path, server)
            yield f"nbd+unix:///?socket={quote(str(path))}"
        finally:
            server.terminate()


def _wait_for(path: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        assert server.poll() is None, "the NBD server ended"
        assert time.monotonic() < deadline, "the NBD server does not listen"
        with socket.socket(socket.AF_UNIX) as probe:
            if path.exists() and probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.05)
