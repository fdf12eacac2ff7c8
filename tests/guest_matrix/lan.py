# SPDX-License-Identifier: GPL-2.0-or-later
"""A network for one guest, in a name space that ends with its only process, a dnsmasq: DHCP, DNS, router, neighbours.

Nothing of it has a name outside, nothing of it reaches out, and the kernel removes all of it however the test ends.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TAPS = ("lan0", "lan1")
DOMAIN = "lab.test"
# What the name servers of the network know: the name, without the domain, and its address.
KNOWN_NAME, KNOWN_ADDRESS = "printer", "192.0.2.77"
# Beyond the default route, beyond the extra route, each on nobody's subnet.
FAR4, FAR6, BEHIND_ROUTE = "203.0.113.1", "2001:db8:ff::1", "10.99.0.1"
# The router of the first network answers at all of these; the last one is where the extra route leads.
ROUTER4, ROUTER6, OTHER_ROUTER = "192.0.2.1", "fe80::1", "192.0.2.254"
# What a guest with the address of nobody's subnet is reached by.
ROUTED = "198.18.7.9"
_SETUP = f"""
sysctl -q -w net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.all.forwarding=1
ip link set lo up
ip addr add {FAR4}/32 dev lo; ip addr add {BEHIND_ROUTE}/32 dev lo; ip addr add {FAR6}/128 dev lo
for tap in {" ".join(TAPS)}; do ip tuntap add dev $tap mode tap; ip link set $tap up; done
ip addr add {ROUTER4}/24 dev lan0; ip addr add {OTHER_ROUTER}/24 dev lan0
ip addr add 2001:db8:1::1/64 dev lan0 nodad; ip addr add {ROUTER6}/64 dev lan0 nodad
ip addr add 198.51.100.1/24 dev lan1; ip addr add 2001:db8:2::1/64 dev lan1 nodad
ip route add {ROUTED}/32 dev lan0
echo ready
exec "$@"
"""
_DNSMASQ = (
    *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--leasefile-ro"),
    *(
        "--no-resolv",
        "--no-hosts",
        "--no-ping",
        "--bind-dynamic",
        "--dhcp-authoritative",
        "--log-dhcp",
        "--log-queries",
    ),
    *(f"--interface={tap}" for tap in TAPS),
    *(f"--host-record={KNOWN_NAME}.{DOMAIN},{KNOWN_ADDRESS}", f"--local=/{DOMAIN}/"),
    *(
        "--enable-ra",
        "--dhcp-range=192.0.2.100,192.0.2.110,1h",
        "--dhcp-range=set:second,198.51.100.100,198.51.100.110,1h",
    ),
    # No value: the second network has no router.
    *("--dhcp-range=2001:db8:1::100,2001:db8:1::10f,slaac,64,1h", "--dhcp-option=tag:second,option:router"),
    f"--dhcp-option=option:domain-name,{DOMAIN}",
)


class UnreachableError(Exception):
    """The guest did not answer; the text is what the program said that asked."""


@dataclass(frozen=True)
class Lan:
    """`log` is dnsmasq's."""

    process: int
    log: Path

    @property
    def inside(self) -> tuple[str, ...]:
        """Prefix of a command that is to run where the network is."""
        return ("nsenter", f"--net=/proc/{self.process}/ns/net")

    def devices(self, *macs: str) -> tuple[str, ...]:
        """QEMU's arguments for a card on each of the networks, in their order."""
        argv: list[str] = []
        for tap, mac in zip(TAPS, macs, strict=False):
            argv += ["-netdev", f"tap,id={tap},ifname={tap},script=no,downscript=no"]
            argv += ["-device", f"virtio-net-pci,netdev={tap},mac={mac}"]
        return tuple(argv)

    def ping(self, address: str, size: int = 56) -> None:
        """Raises UnreachableError when none of some dozen packets, `size` bytes each, comes back."""
        argv = ["ping", "-n", "-c", "1", "-w", "5", "-s", str(size), address]
        self._until_it_works(argv, {}, seconds=60)

    def ssh(self, login: Login, command: str) -> str:
        """Log in from outside and give what the command printed. Raises UnreachableError, also when refused."""
        return self._until_it_works(login.command(command), login.environment(), seconds=120)

    def refuses(self, login: Login) -> bool:
        """Whether the guest, which must answer, lets nobody in who comes so."""
        done = self._run(login.command("true"), login.environment())
        return done.returncode != 0 and "Permission denied" in done.stderr

    def _until_it_works(self, argv: Sequence[str], environment: dict[str, str], seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while (done := self._run(argv, environment)).returncode != 0:
            if time.monotonic() > deadline or done.returncode == 127 or "Permission denied" in done.stderr:
                raise UnreachableError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
            time.sleep(1)
        return done.stdout

    def _run(self, argv: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        whole = [*self.inside, *argv]
        environment = {**os.environ, **environment}
        return subprocess.run(
            whole, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
        )


@dataclass(frozen=True)
class Login:
    """By the key in the file `key`, or by `password` where there is no key; `known` collects the guest's host keys."""

    user: str
    address: str
    known: Path
    key: Path | None = None
    password: str = ""

    def command(self, command: str) -> list[str]:
        by_key = ["-i", str(self.key), "-o", "PreferredAuthentications=publickey", "-o", "IdentitiesOnly=yes"]
        by_password = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]
        options = ["-o", f"UserKnownHostsFile={self.known}", "-o", "StrictHostKeyChecking=accept-new"]
        options += ["-o", "ConnectTimeout=60", "-F", "/dev/null", "-o", "HashKnownHosts=no"]
        return ["ssh", *options, *(by_key if self.key else by_password), f"{self.user}@{self.address}", command]

    def environment(self) -> dict[str, str]:
        """An askpass program that gives the password: ssh takes one from nowhere else without a terminal."""
        program = self.known.with_name("askpass")
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$ANSWER"\n')
        program.chmod(0o700)
        return {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force", "ANSWER": self.password}


@contextmanager
def lan(scratch: Path) -> Iterator[Lan]:
    """Start the network; `scratch` gets dnsmasq's log."""
    log = scratch / "dnsmasq.log"
    argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-euc", _SETUP, "lan"]
    argv += [*_DNSMASQ, f"--log-facility={log}"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stderr
            if process.stdout.readline() != b"ready\n":
                raise UnreachableError(f"no network: {process.stderr.read().decode()}")
            yield Lan(process.pid, log)
        except BaseException as error:
            if log.exists():
                error.add_note(f"dnsmasq said at last:\n{log.read_text(errors='replace')[-3000:]}")
            raise
        finally:
            process.kill()
