# SPDX-License-Identifier: GPL-2.0-or-later
"""A real nginx that serves one directory on a free port of this machine, with nothing of the machine's own nginx."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 60.0  # seconds for a start or an end
_ATTEMPTS = 20  # a free port may be another's by the time nginx wants it
_CONFIGURATION = """
daemon off;
master_process off;
pid {scratch}/pid;
error_log {scratch}/error.log;
events {{ }}
http {{
    access_log {scratch}/access.log;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    sendfile on;
    server {{
        listen 127.0.0.1:{port}{tls};
        root {root};
        {inside}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running server: `url` without a slash at its end. `access_log` has a line for each request."""

    url: str
    port: int
    access_log: Path


@contextmanager
def nginx(root: Path, inside: str = "", certificate: Path | None = None) -> Iterator[Nginx]:
    """Serve `root`; `inside` is more for the block of the server. With a certificate, see self_signed(), HTTPS."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        scratch = Path(name)
        tls = " ssl" if certificate else ""
        if certificate:
            inside += f"\nssl_certificate {certificate};\nssl_certificate_key {certificate};"
        for _ in range(_ATTEMPTS):
            port = _free_port()
            configuration = scratch / "nginx.conf"
            configuration.write_text(
                _CONFIGURATION.format(scratch=scratch, port=port, tls=tls, root=root, inside=inside)
            )
            server = subprocess.Popen(
                ["/usr/sbin/nginx", "-p", name, "-c", str(configuration), "-e", str(scratch / "error.log")],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                if _is_up(server, scratch / "pid"):
                    yield Nginx(f"http{'s' if certificate else ''}://127.0.0.1:{port}", port, scratch / "access.log")
                    return
            finally:
                server.terminate()
                server.wait(_PATIENCE)
        raise AssertionError((scratch / "error.log").read_text())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _is_up(server: subprocess.Popen[bytes], pid_file: Path) -> bool:
    """Whether it has begun to listen, which it notes; if the port is another's by now it ends."""
    deadline = time.monotonic() + _PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        if pid_file.exists():
            return True
        time.sleep(0.01)
    return False
