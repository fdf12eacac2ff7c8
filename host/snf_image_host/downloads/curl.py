# SPDX-License-Identifier: GPL-2.0-or-later
"""CURL of the settings, unprivileged and confined: the argument list of one request, and what its end means.

The host's name is resolved once, every address is held against the policy, and curl connects to nothing but those. A
URL may hold a secret, so it reaches curl through standard input.
"""

from __future__ import annotations

import ipaddress
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.proxies import Proxies, literal
from snf_image_host.downloads.urls import Address, Policy, RefusedError, UnknownHostError, Url, plain
from snf_image_host.vm.jail import Jail, check_programs
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.process import SEARCH_PATH, Limits, run

MARK = "snf-image-answer "
GRACE = 10.0  # seconds for the jail around a program that ends by itself in time
_PIN = "pinned.invalid"  # stands for the checked addresses; no DNS ever knows a name below .invalid (RFC 6761)
_FOUND, _NOT_FOUND = 0, 2  # how getent ends
# Exit statuses of curl (man 1 curl). Killed by SIGXFSZ is what the limit of the kernel does, 63 what its own limit.
TOO_LARGE = frozenset({23, 63, 128 + 25})
TLS = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})
TIMED_OUT = 28
EMPTY_REPLY = 52
ABSENT = frozenset({19, 78})
# Where it has never worked, there is no use in trying again soon: the URL, a log-in, a certificate is wrong.
LASTING = TLS | ABSENT | frozenset({1, 3, 5, 6, 7, 9, 67})
_FAILURES = {
    1: "the server does not speak that scheme, or curl on this node does not: is it the right port?",
    5: "the proxy that CURL names cannot be found: correct the setting",
    7: "cannot be connected to: is the server running, and may this node reach it?",
    8: "the answer is none of FTP's or HTTP's: is it the right port?",
    9: "the server does not give the file to this user: correct the URL",
    18: "the answer was cut off before its end: is the server healthy?",
    19: "the server does not have the file: correct the URL",
    28: "cannot be connected to in time: is the server running, and may this node reach it?",
    37: "the file cannot be read by an unprivileged user: correct the path or its permissions",
    52: "the server closed the connection without an answer: is it the right port?",
    55: "the connection broke: is the server healthy?",
    56: "the connection broke: is the server healthy?",
    67: "the server refuses the log-in: correct the URL",
    78: "the server does not have the file: correct the URL",
}


@dataclass(frozen=True)
class Curl:
    """The program, and the administrator's options, which may hold the password of a proxy."""

    program: str
    options: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Curl:
        """Raises ConfigurationError when this node cannot fetch at all."""
        try:
            words = shlex.split(settings.curl)
        except ValueError as error:
            raise ConfigurationError(f"CURL: {error}; correct the setting") from error
        if not words or not shutil.which(words[0], path=SEARCH_PATH):
            raise ConfigurationError(
                "CURL: the program is not installed; run: apt install curl, or correct the setting"
            )
        check_programs("bwrap", "setpriv", "prlimit", "getent")
        return cls(words[0], tuple(words[1:]))

    def argv(self, url: Url, pins: Sequence[str], own: Sequence[str], largest_file: int) -> list[str]:
        """One request, read from standard input, see config(). `pins` are those of pins().

        `own` are options of the purpose, which the administrator cannot change; `largest_file` is in bytes.
        """
        command = ["prlimit", f"--fsize={largest_file}", self.program, "-q"]
        command += ["--user-agent", f"snf-image/{__version__}", *self.options]
        # One request, of its scheme. HTTP/2 would repeat a refused one. An FTP server names no other host for the data.
        command += ["--silent", "--globoff", "--no-location", "--retry", "0", "--http1.1", "--ftp-skip-pasv-ip"]
        command += ["--proto", f"={url.scheme}", *own, *pins, "--config", "-"]
        if url.scheme == "file":
            return Jail(binds=(Path("/"),)).argv(command)
        named = [Path(word) for word in self.options if word.startswith("/")]
        binds = [path for path in named if not path.is_relative_to("/usr") and path.is_file()]
        return Jail(binds=binds, has_network=True).argv(command)

    def pins(self, url: Url, policy: Policy, seconds: float) -> list[str]:
        """Options that let curl connect to the host's checked addresses alone, whatever it makes of the URL.

        With a proxy it is the proxy who resolves and connects: then that decides what names may lead to. Raises
        RefusedError, ProcessError.
        """
        proxies = Proxies.of(self.options)
        own, is_by_proxy = proxies.options(url.host), proxies.is_for(url.host)
        if url.scheme == "file" or (is_by_proxy and not literal(url.host)):
            return own
        addresses = _addresses(url.host, seconds)
        for address in addresses:
            policy.check(url.host, address)
        if is_by_proxy:
            return own
        where = ",".join(f"[{address}]" if address.version == 6 else f"{address}" for address in addresses)
        return [*own, "--connect-to", f"::{_PIN}:{url.port}", "--resolve", f"{_PIN}:{url.port}:{where}"]


def config(url: Url, headers: Sequence[str] = ()) -> bytes:
    """What curl reads on standard input: the URL, and headers that are sent beside its own."""
    lines = [f"url = {_quoted(url.text)}", *(f"header = {_quoted(header)}" for header in headers)]
    return "".join(f"{line}\n" for line in lines).encode()


def failure(status: int) -> str:
    """What an exit status of curl means, and the cure."""
    return _FAILURES.get(status, f"curl failed with status {status}: see EXIT CODES in man 1 curl")


def cannot_be_run(stderr: str, status: int) -> ConfigurationError:
    """When curl, or the jail around it, did not even start."""
    why = stderr.strip().partition("\n")[0] or f"status {status}"
    return ConfigurationError(f"curl cannot be run: {why}; correct CURL in snf-image.conf")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _addresses(host: str, seconds: float) -> list[Address]:
    """The host's addresses, at least one. It is resolved by an unprivileged process: DNS answers are strangers' too."""
    if address := literal(host):
        return [address]
    limits = Limits(seconds + GRACE, accept=frozenset({_FOUND, _NOT_FOUND}))
    finished = run(Jail(has_network=True).argv(["getent", "ahosts", host]), limits=limits)
    found = dict.fromkeys(line.split()[0] for line in finished.stdout.splitlines() if line.strip())
    try:
        addresses = [plain(ipaddress.ip_address(word)) for word in found]
    except ValueError as error:
        raise RefusedError(f"its address cannot be used: {error}") from error
    if not addresses:
        raise UnknownHostError("there is no host of that name: correct the URL, or the name service of this node")
    return addresses
