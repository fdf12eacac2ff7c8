# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: a real Debian image becomes an instance, which is then booted and asked whether it is what was ordered.

Everything is done as on a node: the installed `create`, with the environment, umask and directory that Ganeti gives it.
"""

from __future__ import annotations

import argparse
import base64
import ipaddress
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from guest_console import ConsoleError, GuestConsole, Machine, boot
from images.distribution import MACHINE_ID, TRIXIE, debian
from images.inspection import Tree, read_file
from images.partitions import MIB
from provider import Instance, Provider
from snf_image_shared.errors import SnfImageError
from snf_image_shared.process import run

PROJECT = Path(__file__).resolve().parents[1]
CACHE = PROJECT / ".cache"
NAME = "web1.example.com"
ADDRESS = ipaddress.ip_interface("198.51.100.7/24")
GATEWAY = "198.51.100.1"
MAC = "aa:00:00:af:2b:34"
GREETING = "Injected before the first boot.\n"
GREETING_PATH = "/etc/demo/greeting"
DISK_MIB = 4096
SWAP_PARTITION, SWAP_MIB = 2, 256
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
_REASSURANCE = 10.0  # seconds
_MONITOR = "[MONITOR] "


class DemoError(Exception):
    """A step of the demo failed; the text says which and where to look."""


@dataclass(frozen=True)
class Order:
    """What the tenant asked for: the instance with its disk, the password and key to get in with."""

    instance: Instance
    password: str
    public_key: str

    @property
    def disk(self) -> Path:
        return self.instance.disks[0]


@dataclass(frozen=True)
class Question:
    """What the running instance is asked: `right` judges the command's output, `wanted` says it in words."""

    command: str
    wanted: str
    right: Callable[[str], bool]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the disk and the installation, and show the password")
    keep = parser.parse_args().keep
    if os.geteuid() != 0:
        print("The demo needs root: sudo make demo", file=sys.stderr)
        return 1
    os.umask(0o022)
    signal.signal(signal.SIGTERM, _terminated)
    scratch = Path(tempfile.mkdtemp(prefix="snf-image-demo-", dir="/var/tmp"))
    try:
        return demonstrate(scratch, keep=keep)
    except (DemoError, ConsoleError, SnfImageError) as error:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        print(f"\nThe demo failed: {error}{notes}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    finally:
        if not keep:
            shutil.rmtree(scratch)


def demonstrate(scratch: Path, *, keep: bool) -> int:
    """Give the exit status: 0 only when the instance is in every point what was ordered."""
    with step("Install the provider as a node would have it: make install"):
        provider = install(scratch / "node")
    with step("Build the helper image, or find it up to date: snf-image-update-helper"):
        update_helper(provider)
    with step("Build a Debian 13 image, or find it in the cache"), patience("mmdebstrap takes about a minute"):
        image = debian("trixie", CACHE)
        _say(f"{image.name}: {image.stat().st_size // MIB} MiB, GPT, root on partition 1, ESP on 15, locked password")
    with step(f"Deploy it onto a disk of {DISK_MIB} MiB as {NAME}: create, called as Ganeti calls it"):
        order = place_order(scratch, image)
        deploy(provider, order)
    with step("Boot the instance (emulated, without help from the host) and log in with the new password"):
        failures = interrogate(order, image)
    if keep:
        print(f"\nKept: {order.disk} (root's password: {order.password}), {provider.root}")
    print(f"Kept for next time: helper image and Debian image, in {CACHE}")
    if failures:
        print(f"\n{failures} of the answers above are wrong.")
        return 1
    print(f"\n{NAME} is up, answers to its new name and password, and is in every point what was ordered.")
    return 0


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a heading, and how long what it announces took."""
    print(f"\n== {title}", flush=True)
    started = time.monotonic()
    yield
    print(f"   ({time.monotonic() - started:.1f} s)", flush=True)


@contextmanager
def patience(reason: str) -> Iterator[None]:
    """Say every few seconds that we are still here, while the block says nothing itself."""
    over = threading.Event()

    def reassure() -> None:
        started = time.monotonic()
        while not over.wait(_REASSURANCE):
            _say(f"... {time.monotonic() - started:.0f} s: {reason}")

    voice = threading.Thread(target=reassure, daemon=True)
    voice.start()
    try:
        yield
    finally:
        over.set()
        voice.join()


def install(root: Path) -> Provider:
    """Install below `root`, with the images and the helper of the cache."""
    _stream(["make", "--silent", "-C", str(PROJECT), "install", f"DESTDIR={root}", "PREFIX=/usr"])
    provider = Provider(root)
    provider.configure(IMAGE_DIR=str(CACHE), HELPER_DIR=str(CACHE / "helper"))
    return provider


def update_helper(provider: Provider) -> None:
    """Run the installed command; it does nothing when the image is up to date."""
    command = provider.root / "usr/sbin/snf-image-update-helper"
    _stream([str(command), "--dest", str(CACHE / "helper"), "--cache", str(CACHE / "builder")])


def place_order(scratch: Path, image: Path) -> Order:
    """Make the disk, with what an old tenant may have left at its ends, and decide what the instance shall be."""
    disk = scratch / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_MIB * MIB)
        file.write(secrets.token_bytes(4 * MIB))
        file.seek(-4 * MIB, os.SEEK_END)
        file.write(secrets.token_bytes(4 * MIB))
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo@example.com", "-f", str(scratch / "key")])
    key = (scratch / "key.pub").read_text().strip()
    password = secrets.token_urlsafe(12)
    greeting = {"path": GREETING_PATH, "contents": base64.b64encode(GREETING.encode()).decode(), "mode": 0o644}
    parameters = {
        "img_id": image.name,
        "img_format": "diskdump",
        "img_passwd": password,
        "img_properties": {"OSFAMILY": "linux", "SWAP": f"{SWAP_PARTITION}:{SWAP_MIB}"},
        "img_personality": [greeting],
        "auth_keys": key,
    }
    return Order(Instance(NAME, (disk,), (_nic(),), parameters), password, key)


def deploy(provider: Provider, order: Order) -> None:
    """Run the installed create, showing what Ganeti would log. Raises DemoError."""
    for name, value in sorted(order.instance.environment().items()):
        if name.startswith(("OSP_", "NIC_0_IP", "NIC_0_MAC", "DISK_0_PATH")):
            shown = value if name != "OSP_IMG_PASSWD" else "(a new random one)"
            _say(f"{name}={shown}")
    with provider.start(order.instance) as create:
        try:
            for line in create.stdout or ():
                if shown := _readable(line.rstrip()):
                    _say(shown)
        except BaseException:
            create.terminate()
            raise
    if create.returncode:
        raise DemoError(f"create ended with status {create.returncode}; its last lines above say why")


def interrogate(order: Order, image: Path) -> int:
    """Boot the disk, ask it everything and give the number of wrong answers."""
    started = time.monotonic()
    failures = 0
    with boot(order.disk, Machine(mac=MAC, name="demo")) as guest:
        with patience("waiting for the login prompt, which takes about a minute"):
            guest.login("root", order.password)
        _say(f"logged in as root, {time.monotonic() - started:.0f} s after power-on")
        for question in questions(order, image):
            failures += not _ask(guest, question)
        guest.poweroff()
    return failures


def questions(order: Order, image: Path) -> tuple[Question, ...]:
    """What is asked, with the template's own identity read from the image as it was published."""
    template_key = read_file(Tree(image, TRIXIE.root.number), _HOST_KEY)
    template_print = run(["ssh-keygen", "-l", "-f", "-"], stdin=template_key).stdout.split()[1]
    image_mib = image.stat().st_size // MIB
    settled = f"timeout 60 sh -c 'until ip addr | grep -qF {ADDRESS}; do sleep 1; done'; "
    return (
        Question("hostname", f"the host name is {NAME}", lambda said: said == NAME),
        Question(
            "df --block-size=MiB --output=source,size,avail,target /",
            f"the root is larger than the whole image was ({image_mib} MiB)",
            lambda said: _number(r"(\d+)MiB\s", said) > image_mib,
        ),
        Question(
            f"{settled}ip -oneline link | grep -F {MAC}; ip -brief addr; ip route",
            f"the NIC with the MAC {MAC} has {ADDRESS}, and the default route leads to {GATEWAY}",
            _is_networked,
        ),
        Question(
            "swapon --show --noheadings",
            f"{SWAP_MIB} MiB of swap are in use on partition {SWAP_PARTITION}",
            lambda said: f"vda{SWAP_PARTITION}" in said and f"{SWAP_MIB}M" in said,
        ),
        Question(
            "cat /etc/machine-id",
            "the machine-id is valid and not the template's",
            lambda said: bool(re.fullmatch(r"[0-9a-f]{32}", said)) and said != MACHINE_ID,
        ),
        Question(
            "for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -l -f $key; done; systemctl is-active ssh",
            "the ssh server runs with an ED25519 host key that is not the template's",
            lambda said: "ED25519" in said and template_print not in said and said.endswith("\nactive"),
        ),
        Question(
            "cat /root/.ssh/authorized_keys",
            "the tenant's key opens the account",
            lambda said: order.public_key in said.splitlines(),
        ),
        Question(
            f"stat --format='%U:%G %a' {GREETING_PATH}; cat {GREETING_PATH}",
            "the personality file is there, with its mode",
            lambda said: said == f"root:root 644\n{GREETING.rstrip()}",
        ),
    )


def _readable(line: str) -> str:
    """A message for Ganeti's monitor in a few words, empty when the log says the same; any other line as it is."""
    if not line.startswith(_MONITOR):
        return line
    message = json.loads(line.removeprefix(_MONITOR))
    return f"task {message['task']}: done" if message.get("subtype") == "task-end" else ""


def _ask(guest: GuestConsole, question: Question) -> bool:
    print(f"\n   # {question.command}")
    answer = guest.run(question.command)
    for line in answer.output.splitlines():
        _say(line)
    right = answer.status == 0 and question.right(answer.output)
    print(f"   {'✓' if right else '✗'} {question.wanted}", flush=True)
    return right


def _is_networked(said: str) -> bool:
    card = re.search(rf"\d+: (\w+):.*{MAC}", said)
    has_address = card and re.search(rf"^{card[1]} .*\s{re.escape(str(ADDRESS))}(\s|$)", said, re.MULTILINE)
    return bool(has_address) and f"default via {GATEWAY} " in said


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _nic() -> dict[str, str]:
    return {
        "BRIDGE": "gnt-br0",
        "IP": str(ADDRESS.ip),
        "LINK": "gnt-br0",
        "MAC": MAC,
        "MODE": "bridged",
        "NAME": "eth0",
        "NETWORK_GATEWAY": GATEWAY,
        "NETWORK_NAME": "demo",
        "NETWORK_SUBNET": str(ADDRESS.network),
        "NETWORK_TAGS": "",
        "NETWORK_UUID": "494075a7-bfda-4756-be3c-18a403fcaf11",
        "UUID": "2143e6d3-c590-4383-95ad-69399db4e34d",
    }


def _stream(command: list[str]) -> None:
    """Run a command to its end, its output indented. Raises DemoError."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout or ():
                _say(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise DemoError(f"{Path(command[0]).name} ended with status {process.returncode}; its last lines above say why")


def _say(line: str) -> None:
    print(f"   | {line}", flush=True)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
