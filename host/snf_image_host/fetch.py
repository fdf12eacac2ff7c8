# SPDX-License-Identifier: GPL-2.0-or-later
"""URL -> bytes: exactly one GET by an unprivileged, confined curl, under limits of time and size.

Whoever wrote the URL may not learn or reach what only this node can: the name is resolved once, every address is held
against FETCH_DENY, and curl connects to nothing but those addresses. Redirects are followed here, each as a URL of its
own, so the same holds for them. A URL may hold a secret, so it reaches curl through standard input, and messages show
its scheme and host alone.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_host.jail import Jail, check_programs
from snf_image_host.settings import Settings
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError, RequestError
from snf_image_shared.process import SEARCH_PATH, Finished, Limits, ProcessError, run

MAX_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990, "file": 0}
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:[^@/?#\[\]\\]*@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]|)(?::(?P<port>[0-9]{1,5}))?(?:[/?#].*)?"
)
_PIN = "pinned.invalid"  # stands for the checked addresses; no DNS ever knows a name below .invalid (RFC 6761)
_MARK = "snf-image-answer "
_WRITE_OUT = "%{stderr}\\n" + _MARK + "%{response_code}\\n%{redirect_url}\\n%{errormsg}\\n"
_ANY_STATUS = frozenset(range(256))
_GRACE = 10.0  # seconds for the jail around curl, which ends by itself in time
_PROXY_OPTIONS = ("-x", "--proxy", "--preproxy", "--socks")
_FOUND, _NOT_FOUND = 0, 2  # how getent ends
# Exit statuses of curl (man 1 curl). Killed by SIGXFSZ is what the limit of the kernel does, 63 what its own limit.
_TOO_LARGE = frozenset({23, 63, 128 + 25})
_TLS = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})
_TIMED_OUT = 28
_FAILURES = {
    1: "curl on this node cannot do that scheme: install Debian's curl",
    5: "the proxy that CURL names cannot be found: correct the setting",
    7: "cannot be connected to: is the server running, and may this node reach it?",
    9: "the server does not give the file to this user: correct the URL",
    18: "the answer was cut off before its end: is the server healthy?",
    19: "the server does not have the file: correct the URL",
    37: "the file cannot be read by an unprivileged user: correct the path or its permissions",
    52: "the server closed the connection without an answer: is it the right port?",
    55: "the connection broke: is the server healthy?",
    56: "the connection broke: is the server healthy?",
    67: "the server refuses the log-in: correct the URL",
    78: "the server does not have the file: correct the URL",
}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Url:
    """A URL that is well formed. As text it is what may be shown: scheme, host, and a port that is not the usual."""

    text: str = field(repr=False)
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == _PORTS.get(self.scheme, 0) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


class _RefusedError(Exception):
    """Why there are no bytes, without the URL and the parameter's name."""


def parse_url(text: str, parameter: str, settings: Settings) -> Url:
    """The URL that the OS parameter gives. Pure. Raises RequestError for one that can never be fetched."""
    try:
        return _parsed(text, settings)
    except _RefusedError as error:
        raise RequestError(f"OS parameter {parameter}: {error}") from error


def fetch(text: str, parameter: str, settings: Settings) -> bytes:
    """What lies at the URL; never empty. It is asked for once: a URL may answer only once.

    Raises RequestError naming the OS parameter, ConfigurationError when this node cannot fetch at all.
    """
    url = parse_url(text, parameter, settings)
    program, *options = _curl(settings)
    deadline = time.monotonic() + settings.fetch_timeout
    try:
        for _ in range(MAX_REDIRECTS + 1):
            answer = _Question(url, settings, (program, *options), deadline).ask()
            if not answer.location:
                return answer.body
            url = _redirected(url, answer.location, settings)
        raise _RefusedError(f"more than {MAX_REDIRECTS} redirects: give the URL they lead to")
    except _RefusedError as error:
        raise RequestError(f"OS parameter {parameter}: {url}: {error}") from error


def _parsed(text: str, settings: Settings) -> Url:
    schemes = settings.fetch_schemes.split()
    found = _URL.fullmatch(text)
    if not (found and text.isascii() and text.isprintable() and " " not in text):
        raise _RefusedError("not a URL like https://host/path; percent-encode what is not plain ASCII")
    scheme = found["scheme"].lower()
    if scheme not in schemes:
        raise _RefusedError(
            f"scheme {scheme[:20]!r} is not one of {', '.join(schemes)}; "
            "use one of these, or have it added to FETCH_SCHEMES in snf-image.conf"
        )
    port = int(found["port"] or _PORTS[scheme])
    if (scheme == "file") == bool(found["host"]) or port > 65535 or (scheme == "file" and found["port"]):
        raise _RefusedError("not a URL like https://host/path or file:///path")
    return Url(text, scheme, found["host"], port)


def _curl(settings: Settings) -> list[str]:
    """CURL in words. It is the administrator's, but may hold the password of a proxy."""
    try:
        words = shlex.split(settings.curl)
    except ValueError as error:
        raise ConfigurationError(f"CURL: {error}; correct the setting") from error
    if not words or not shutil.which(words[0], path=SEARCH_PATH):
        raise ConfigurationError("CURL: the program is not installed; run: apt install curl, or correct the setting")
    check_programs("bwrap", "setpriv", "prlimit", "getent")
    return words


def _redirected(url: Url, location: str, settings: Settings) -> Url:
    try:
        target = _parsed(location, settings)
    except _RefusedError as error:
        raise _RefusedError(f"redirects to what is refused: {error}") from error
    if target.scheme not in ({"https"} if url.scheme == "https" else {"http", "https"}):
        raise _RefusedError(f"redirects to {target}, which is refused: from {url.scheme} to {target.scheme}")
    return target


@dataclass(frozen=True)
class _Answer:
    """The body, or where it is said to be."""

    body: bytes
    location: str


@dataclass(frozen=True)
class _Question:
    """One request. `curl` is its program and the administrator's options; `deadline` is on the monotonic clock."""

    url: Url
    settings: Settings
    curl: Sequence[str]
    deadline: float

    def ask(self) -> _Answer:
        """Raises _RefusedError, ConfigurationError."""
        argv = self._argv()
        quoted = self.url.text.replace("\\", "\\\\").replace('"', '\\"')
        body = os.memfd_create("fetched", os.MFD_CLOEXEC)
        try:
            limits = Limits(self._left() + _GRACE, _ANY_STATUS, stdout=body)
            finished = run(argv, stdin=f'url = "{quoted}"\n'.encode(), limits=limits)
            location = self._checked(finished)
            content = os.pread(body, self.settings.fetch_max_size, 0)
        except ProcessError as error:
            raise _RefusedError(f"{error}") from error
        finally:
            os.close(body)
        if not (content or location):
            raise _RefusedError("the answer is empty: is it the right URL?")
        return _Answer(content, location)

    def _argv(self) -> list[str]:
        size = str(self.settings.fetch_max_size)
        left = f"{self._left():.3f}"
        program, *options = self.curl
        command = ["prlimit", f"--fsize={size}", program, "-q", "--user-agent", f"snf-image/{__version__}", *options]
        # What the administrator cannot change: one request, its scheme, its limits. HTTP/2 would repeat a refused one.
        command += ["--silent", "--fail", "--globoff", "--no-location", "--retry", "0", "--http1.1"]
        command += ["--proto", f"={self.url.scheme}", "--max-time", left, "--connect-timeout", left]
        command += ["--max-filesize", size, "--write-out", _WRITE_OUT, *self._pins(options), "--config", "-"]
        if self.url.scheme == "file":
            return Jail(binds=(Path("/"),)).argv(command)
        named = [Path(word) for word in self.curl if word.startswith("/")]
        binds = [path for path in named if not path.is_relative_to("/usr") and path.is_file()]
        return Jail(binds=binds, has_network=True).argv(command)

    def _pins(self, options: Iterable[str]) -> list[str]:
        """Let curl connect to the checked addresses of the host alone, whatever it makes of the URL.

        With a proxy it is the proxy who resolves and connects: then that decides what may be reached.
        """
        if self.url.scheme == "file" or any(word.startswith(_PROXY_OPTIONS) for word in options):
            return []
        addresses = _addresses(self.url.host, self._left())
        for address in addresses:
            _check_allowed(address, self.settings)
        where = ",".join(f"[{address}]" if address.version == 6 else f"{address}" for address in addresses)
        port = self.url.port
        return ["--connect-to", f"::{_PIN}:{port}", "--resolve", f"{_PIN}:{port}:{where}"]

    def _left(self) -> float:
        """Seconds; a little even when it is too late, for curl to say so."""
        return max(0.001, self.deadline - time.monotonic())

    def _checked(self, finished: Finished) -> str:
        """Where the answer redirects to, or "". Raises _RefusedError, ConfigurationError when curl cannot be run."""
        too_large = _RefusedError(f"larger than {self.settings.fetch_max_size} bytes (FETCH_MAX_SIZE)")
        _, mark, after = finished.stderr.rpartition(_MARK)
        if not mark and finished.status in _TOO_LARGE:
            raise too_large
        if not mark:
            why = after.strip().partition("\n")[0] or f"status {finished.status}"
            raise ConfigurationError(f"curl cannot be run: {why}; correct CURL in snf-image.conf")
        code, location, reason = [*after.split("\n"), "", "", ""][:3]
        is_http = self.url.scheme in {"http", "https"}
        if finished.status == _TIMED_OUT:
            raise _RefusedError(f"no whole answer within {self.settings.fetch_timeout:g} seconds (FETCH_TIMEOUT)")
        if finished.status in _TLS:
            raise _RefusedError(f"TLS failed: {reason[:200]}; correct the server's certificate, or CURL")
        if is_http and code[:1] not in {"0", "2"} and not (code.startswith("3") and location):
            raise _RefusedError(f"the server answered {code}: is the URL right, and not used up already?")
        if finished.status in _TOO_LARGE:
            raise too_large
        if finished.status:
            raise _RefusedError(_FAILURES.get(finished.status, f"curl failed with status {finished.status}"))
        return location if code.startswith("3") and is_http else ""


def _addresses(host: str, seconds: float) -> list[Address]:
    """The host's addresses, at least one. It is resolved by an unprivileged process: DNS answers are strangers' too."""
    try:
        return [_plain(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        pass
    limits = Limits(seconds + _GRACE, accept=frozenset({_FOUND, _NOT_FOUND}))
    finished = run(Jail(has_network=True).argv(["getent", "ahosts", host]), limits=limits)
    found = dict.fromkeys(line.split()[0] for line in finished.stdout.splitlines() if line.strip())
    try:
        addresses = [_plain(ipaddress.ip_address(word)) for word in found]
    except ValueError as error:
        raise _RefusedError(f"its address cannot be used: {error}") from error
    if not addresses:
        raise _RefusedError("there is no host of that name: correct the URL, or the name service of this node")
    return addresses


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as IPv6 (::ffff:a.b.c.d) is an IPv4 address."""
    return getattr(address, "ipv4_mapped", None) or address


def _check_allowed(address: Address, settings: Settings) -> None:
    denied = [ipaddress.ip_network(word) for word in settings.fetch_deny.split()]
    if address.is_unspecified or any(address in network for network in denied if network.version == address.version):
        raise _RefusedError(f"its address {address} is one that may not be asked (FETCH_DENY)")
