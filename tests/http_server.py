# SPDX-License-Identifier: GPL-2.0-or-later
"""Real servers on a free port of this machine, in threads: HTTP(S) with real faults, and just enough of FTP."""

from __future__ import annotations

import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CHUNK = 1024


class How(Enum):
    """What becomes of the body on its way: it comes with its length, in chunks, in chunks that break off, with nothing
    but the end of the connection behind it, without an end, cut in the middle of it, cut and silent until the test
    ends, a byte now and then without an end, only when the test lets it go; with a head that never ends; or the
    connection is closed without a word.
    """

    WHOLE = auto()
    CHUNKED = auto()
    CHUNKED_CUT = auto()
    UNFRAMED = auto()
    STALLED = auto()
    ENDLESS_HEAD = auto()
    ENDLESS = auto()
    CUT = auto()
    TRICKLED = auto()
    HELD = auto()
    DROPPED = auto()


@dataclass(frozen=True)
class Answer:
    """What one path of a server gives. `once`: to the first GET, and then 404 to whoever asks.

    `announced` is the Content-Length, if it is not to be true; `cut` how many bytes come before a body is cut off, the
    half by itself. `raw` is sent instead of all that, byte for byte.
    """

    body: bytes = field(default=b"", repr=False)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    how: How = How.WHOLE
    once: bool = False
    announced: int | None = None
    cut: int | None = None
    raw: bytes = field(default=b"", repr=False)

    @property
    def sent(self) -> bytes:
        """What comes of the body if it is cut."""
        return self.body[: len(self.body) // 2 if self.cut is None else self.cut]


@dataclass(frozen=True)
class Asked:
    """One request as it came. `target` is the path with its query, or a whole URL for a proxy."""

    method: str
    target: str
    headers: Mapping[str, str]


Answering = Callable[[Asked, int], Answer]  # what one path answers; the number of earlier requests for it comes too


@dataclass(frozen=True)
class Document:
    """A file on a server that knows HTTP: parts of it, and whether it is still the one that somebody has."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: {"ETag": '"v1"'})

    def __call__(self, asked: Asked, earlier: int) -> Answer:
        """As a healthy server answers."""
        own = {name.lower(): value for name, value in self.headers.items()}
        wanted = {name.lower(): value for name, value in asked.headers.items()}
        tags = {own[name] for name in ("etag", "last-modified") if name in own}
        if {wanted.get("if-none-match"), wanted.get("if-modified-since")} & tags:
            return Answer(status=304, headers=self.headers)
        if "range" not in wanted or wanted.get("if-range", next(iter(tags), None)) not in tags | {None}:
            return Answer(self.body, headers=self.headers)
        return self.part(int(wanted["range"].removeprefix("bytes=").removesuffix("-")))

    def part(self, start: int) -> Answer:
        """Its bytes from `start` on."""
        if start >= len(self.body):
            return Answer(status=416, headers={**self.headers, "Content-Range": f"bytes */{len(self.body)}"})
        where = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        return Answer(self.body[start:], 206, {**self.headers, "Content-Range": where})


class HttpServer:
    """A running server: `url` without a slash at its end, and all that it was `asked`, in order."""

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        host, port = server.server_address[:2]
        name = f"{host!s}"
        self.url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}"
        self.port = int(port)
        self.asked: list[Asked] = []
        self.came = threading.Event()
        self.let_go = threading.Event()
        self.ended = threading.Event()

    @property
    def methods(self) -> list[str]:
        """Of all requests."""
        return [each.method for each in self.asked]


@contextmanager
def http_server(
    answers: Mapping[str, Answer | Answering], host: str = "127.0.0.1", certificate: Path | None = None
) -> Iterator[HttpServer]:
    """Serve `answers` (path without query -> answer; all else is 404). With a certificate, see self_signed(), HTTPS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_PUT = do_CONNECT = do_OPTIONS = do_GET  # noqa: N815 - the names that the library looks for

        def log_message(self, format: str, *args: object) -> None:
            """The test's own output is read by people."""

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            asked = Asked(self.command, self.path, dict(self.headers))
            with lock:
                earlier = sum(each.target == self.path for each in served.asked)
                served.asked.append(asked)
                served.came.set()
            known = answers.get(path, Answer(b"there is nothing here", 404))
            found = known if isinstance(known, Answer) else known(asked, earlier)
            if found.once and (earlier or self.command != "GET"):
                found = Answer(b"it is used up", 404)
            self.close_connection = True
            with suppress(ConnectionError, ssl.SSLError):
                self._send(found)

        def _send(self, answer: Answer) -> None:
            if answer.how is How.DROPPED:
                return
            if answer.how is How.HELD:
                served.let_go.wait()
            if answer.raw:
                self.wfile.write(answer.raw)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            match answer.how:
                case How.WHOLE | How.HELD | How.CUT | How.STALLED:
                    length = len(answer.body) if answer.announced is None else answer.announced
                    self.send_header("Content-Length", str(length))
                case How.CHUNKED | How.CHUNKED_CUT | How.ENDLESS | How.TRICKLED:
                    self.send_header("Transfer-Encoding", "chunked")
            if answer.how is How.ENDLESS_HEAD:
                self.flush_headers()
                while True:
                    self.wfile.write(b"X-More: and more\r\n" * _CHUNK)
            self.end_headers()
            self._send_body(answer)

        def _send_body(self, answer: Answer) -> None:
            match answer.how:
                case How.WHOLE | How.HELD | How.UNFRAMED:
                    self.wfile.write(answer.body)
                case How.CUT:
                    self.wfile.write(answer.sent)
                case How.STALLED:
                    self.wfile.write(answer.sent)
                    served.ended.wait()
                case How.CHUNKED | How.CHUNKED_CUT:
                    content = answer.body if answer.how is How.CHUNKED else answer.sent
                    step = max(_CHUNK, len(content) // 64)
                    for start in range(0, len(content), step):
                        self._chunk(content[start : start + step])
                    if answer.how is How.CHUNKED:
                        self._chunk(b"")
                case How.ENDLESS:
                    while True:
                        self._chunk(b"x" * _CHUNK)
                case How.TRICKLED:
                    while not served.ended.wait(0.05):
                        self._chunk(b"x")

        def _chunk(self, content: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    lock = threading.Lock()
    server = Server((host, 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    served = HttpServer(server, "https" if certificate else "http")
    with _served(server):
        try:
            yield served
        finally:
            served.ended.set()
            served.let_go.set()


def self_signed(directory: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed but itself, and its key, in one file."""
    path = directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(path), "-out", str(path)]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "3650"]
    subprocess.run(command, check=True, capture_output=True)
    return path


@contextmanager
def tunnel() -> Iterator[int]:
    """A proxy that lets its clients through (CONNECT) to ports of this machine, whatever host they name; its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            method, target, _ = self.rfile.readline().decode().split()
            while self.rfile.readline().strip():
                pass
            assert method == "CONNECT"
            with socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2]))) as onward:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
                back = threading.Thread(target=_pass_on, args=(onward, self.connection))
                back.start()
                _pass_on(self.connection, onward)
                back.join()

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _served(server):
        yield server.server_address[1]


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            to.sendall(piece)
    with suppress(OSError):
        to.shutdown(socket.SHUT_RDWR)


@dataclass
class FtpTroubles:
    """What a server of FTP does to its clients: it `cuts` that many transfers in their middle, and counts all of them;
    `dates` are those of its files (MDTM), one after the other; without any it knows none.
    """

    cuts: int = 0
    dates: tuple[str, ...] = ()
    starts: list[int] = field(default_factory=list)


@contextmanager
def ftp_server(
    files: Mapping[str, bytes], user: str, password: str, troubles: FtpTroubles | None = None
) -> Iterator[int]:
    """Serve files by name to one user, in passive mode; its port."""
    trouble = troubles or FtpTroubles()
    dates = iter(trouble.dates)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            listener = socket.create_server(("127.0.0.1", 0))
            with listener, suppress(ConnectionError):
                self._say("220 ready")
                given, start = "", 0
                for line in self.rfile:
                    word, _, value = line.decode().strip().partition(" ")
                    match word:
                        case "USER":
                            given = value
                            self._say("331 and the password?")
                        case "PASS":
                            self._say("230 in" if (given, value) == (user, password) else "530 no")
                        case "PWD":
                            self._say('257 "/"')
                        case "TYPE":
                            self._say("200 so be it")
                        case "EPSV":
                            self._say(f"229 come in (|||{listener.getsockname()[1]}|)")
                        case "SIZE":
                            self._say(f"213 {len(files[value])}" if value in files else "550 there is none")
                        case "MDTM" if value in files and (
                            date := next(dates, trouble.dates[-1:] and trouble.dates[-1])
                        ):
                            self._say(f"213 {date}")
                        case "REST":
                            start = int(value)
                            self._say("350 go on")
                        case "RETR" if value in files:
                            self._say("150 here it comes")
                            connection, _ = listener.accept()
                            trouble.starts.append(start)
                            is_cut = len(trouble.starts) <= trouble.cuts
                            content = files[value][start:]
                            with connection:
                                connection.sendall(content[: len(content) // 2] if is_cut else content)
                            self._say("426 cut off" if is_cut else "226 that was it")
                            start = 0
                        case "QUIT":
                            self._say("221 bye")
                            return
                        case _:
                            self._say("550 no")

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _served(server):
        yield server.server_address[1]


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
