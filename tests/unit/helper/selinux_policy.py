# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's SELinux policy, as a Debian with SELinux has it below /etc/selinux: built from its modules."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from unit.helper.guest_tools import GuestTools

NAME = "default"
CONTEXTS = f"/etc/selinux/{NAME}/contexts/files"
_SETTINGS = """module-store = direct
expand-check = 0
compiler-directory = {tools}/usr/libexec/selinux/hll
[sefcontext_compile]
path = /bin/true
args = $@
[end]
[setfiles]
path = /bin/true
args = $@
[end]
"""


class SELinuxPolicy:
    """`root` has the files of the policy; the programs come from `tools`."""

    def __init__(self, root: Path, tools: GuestTools) -> None:
        self.root = root
        self._tools = tools

    @classmethod
    def build(cls, cache: Path, tools: GuestTools) -> SELinuxPolicy:
        """Half a minute, once for each version of the package."""
        (archive,) = (tools.root / "archives").glob("selinux-policy-default_*.deb")
        root = cache / f"selinux-policy-{archive.stem.split('_')[1].replace('%3a', '-')}"
        with (cache / ".selinux-policy.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / ".ready").exists():
                shutil.rmtree(root, ignore_errors=True)
                _build(root, tools)
                (root / ".ready").touch()
        return cls(root, tools)

    def copy_to(self, guest: Path) -> None:
        """Give a guest's tree the texts of the policy, and say that it is enforced."""
        shutil.copytree(f"{self.root}{CONTEXTS}", f"{guest}{CONTEXTS}", dirs_exist_ok=True)
        (guest / "etc/selinux/config").write_text(f"# what it does\nSELINUX=enforcing\nSELINUXTYPE={NAME}\n")

    def expected(self, path: str, kind: str = "file") -> str:
        """What matchpathcon(8) says of a path of that kind (file, dir, link)."""
        program = f"{self._tools.root}/usr/sbin/matchpathcon"
        return self._tools.run(program, "-n", "-m", kind, "-f", f"{self.root}{CONTEXTS}/file_contexts", path).strip()


def label(path: Path) -> str | None:
    """The label of an entry itself, None when it has none."""
    try:
        return os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode()
    except OSError:
        return None


def _build(root: Path, tools: GuestTools) -> None:
    store = root / "var/lib/selinux" / NAME
    store.mkdir(parents=True)
    shutil.copytree(f"{tools.root}/etc/selinux/{NAME}", f"{root}/etc/selinux/{NAME}")
    (root / "etc/selinux/semanage.conf").write_text(_SETTINGS.format(tools=tools.root))
    shared = Path(f"{tools.root}/usr/share/selinux/{NAME}")
    # What the package's own postinst does.
    modules = [f"--install={shared / name}.pp.bz2" for name in (shared / ".modules").read_text().split()]
    program = f"{tools.root}/usr/sbin/semodule"
    argv = [program, "--priority=100", "--noreload", f"--store={NAME}", f"--path={root}", *modules]
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(tools.environment), check=False)
    assert done.returncode == 0, done.stderr
