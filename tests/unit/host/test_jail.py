# SPDX-License-Identifier: GPL-2.0-or-later
"""The real jail, seen from inside and from the node: who runs there, with which rights, and what it can reach."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_host.vm.jail import Jail, check_programs
from snf_image_shared.errors import ConfigurationError

pytestmark = pytest.mark.root
PROJECT = Path(__file__).resolve().parents[3]
NAMESPACES = ("mnt", "net", "pid", "ipc", "uts")


def inside(script: str, jail: Jail | None = None) -> list[str]:
    """What a shell in the jail writes, in lines."""
    jail = jail or Jail()
    done = subprocess.run(
        jail.argv(["sh", "-c", script]),
        env={"OSP_IMG_PASSWD": "c4n4ry"},
        pass_fds=jail.descriptors,
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).splitlines()


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(further for child in found for further in children(child))]


def is_sleeping_in(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_sleeper(pid: int) -> int:
    """The process in the jail, once it is there."""
    while True:
        for child in children(pid):
            if is_sleeping_in(child):
                return child
        time.sleep(0.01)


@contextmanager
def sleeper(jail: Jail) -> Iterator[int]:
    """A program in the jail; its process id as the node sees it."""
    argv = jail.argv(["sleep", "600"])
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, extra_groups=[6, 4322])
    try:
        yield wait_for_sleeper(process.pid)
    finally:
        process.kill()
        process.wait()


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


@pytest.mark.row(98)
def test_it_runs_as_a_user_of_its_own_without_groups_capabilities_or_a_way_to_more() -> None:
    with sleeper(Jail()) as pid:
        found = status(pid)
    user = found["Uid"][0]
    assert int(user) >= 1_900_000_000
    assert found["Uid"] == found["Gid"] == [user] * 4
    assert found["Groups"] == []
    assert {found[f"Cap{kind}"][0] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert found["NoNewPrivs"] == ["1"]


def test_it_has_namespaces_of_its_own() -> None:
    with sleeper(Jail()) as pid:
        for kind in NAMESPACES:
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_it_sees_usr_and_a_few_devices_and_nothing_else_of_the_node() -> None:
    with sleeper(Jail()) as pid:
        root = Path(f"/proc/{pid}/root")
        assert {path.name for path in root.iterdir()} == {"usr", "lib", "lib64", "bin", "sbin", "dev"}
        assert not list((root / "dev").glob("[svhl][dop]*"))
        assert not (root / "dev/kvm").exists()
    assert inside("cat /etc/shadow /home /root /proc/1/status /sys/class/net 2>&1 | grep -vc 'No such file'") == ["0"]


def test_it_cannot_write_anywhere_that_lasts() -> None:
    assert inside("for d in / /usr /usr/bin /lib /dev; do touch $d/x 2>/dev/null && echo $d; done; true") == []


@pytest.mark.row(99)
def test_it_has_no_network_but_a_loopback_of_its_own() -> None:
    script = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert inside(f"/usr/bin/python3 -I -c '{script}'") == ["['lo']"]
    script = 'import socket; socket.create_connection((\\"192.0.2.1\\", 9), 1)'
    assert "Network is unreachable" in inside(f'/usr/bin/python3 -I -c "{script}"')[-1]


def test_it_inherits_no_environment() -> None:
    assert {line.partition("=")[0] for line in inside("env")} == {"PATH", "PWD"}


def test_it_cannot_become_root_again() -> None:
    assert "Operation not permitted" in inside("setpriv --reuid=0 true")[-1]
    assert inside("/usr/bin/python3 -I -c 'import os; os.setuid(0)'")[-1].startswith("PermissionError")
    assert inside("unshare --user --map-root-user mount -t tmpfs none /usr && echo mounted")[-1] != "mounted"


def test_it_dies_with_the_one_who_started_it() -> None:
    script = (
        f"import sys; sys.path[:0] = {[str(PROJECT / name) for name in ('host', 'shared')]!r}\n"
        "import subprocess; from snf_image_host.vm.jail import Jail\n"
        "subprocess.run(Jail().argv(['sleep', '600']))"
    )
    starter = subprocess.Popen([sys.executable, "-c", script])
    pid = wait_for_sleeper(starter.pid)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    for _ in range(1000):
        if not is_sleeping_in(pid):
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the program in the jail lives on")


def test_a_file_is_there_under_its_own_name_read_only_even_under_ganetis_umask(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("content\n")
    before = os.umask(0o077)
    try:
        with outside.open() as kernel, outside.open() as initrd:
            outside.unlink()  # an update has removed it meanwhile
            jail = Jail(files={"/helper/kernel": kernel.fileno(), "/helper/initrd": initrd.fileno()})
            said = inside("cat /helper/kernel /helper/initrd; ls /helper; echo x > /helper/kernel", jail)
    finally:
        os.umask(before)
    assert said[:4] == ["content", "content", "initrd", "kernel"]
    assert any("/helper/kernel: Read-only file system" in line or "Permission denied" in line for line in said[4:])


def test_a_device_and_its_group_are_there_when_they_are_given(tmp_path: Path) -> None:
    jail = Jail(groups=(4321,), devices=(Path("/dev/null"),))
    with sleeper(jail) as pid:
        assert status(pid)["Groups"] == ["4321"]
    assert inside("test -w /dev/null && echo yes", jail) == ["yes"]


@pytest.mark.row(101)
def test_two_programs_at_once_are_two_users() -> None:
    argv = [
        sys.executable,
        "-c",
        "import sys; sys.path[:0] = sys.argv[1:]; from snf_image_host.vm.jail import Jail; print(Jail().argv([]))",
    ]
    paths = [str(PROJECT / name) for name in ("host", "shared")]
    one, two = (subprocess.run([*argv, *paths], capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert one != two


def test_a_user_of_the_node_may_be_chosen() -> None:
    nobody = pwd.getpwnam("nobody")
    with sleeper(Jail("nobody")) as pid:
        found = status(pid)
    assert (found["Uid"], found["Gid"], found["Groups"]) == ([str(nobody.pw_uid)] * 4, [str(nobody.pw_gid)] * 4, [])


@pytest.mark.parametrize("user", ["root", "nobody-of-that-name", "0", "a\nb"])
def test_root_and_strangers_are_refused(user: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^HELPER_USER: .*leave HELPER_USER empty"):
        Jail(user).argv(["true"])


def test_a_program_that_is_missing_is_named_with_its_package() -> None:
    check_programs("bwrap", "setpriv", "mke2fs")
    with pytest.raises(ConfigurationError, match=r"^qemu-nothing is not installed; run: apt install qemu-system-x86$"):
        check_programs("bwrap", "qemu-nothing")
