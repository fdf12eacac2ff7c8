# SPDX-License-Identifier: GPL-2.0-or-later
"""Where programs unpack what somebody else has packed: a root of their own in which only the new tree can be written.

The helper's programs are there, read-only, and none of its devices, disks, processes or files. Whatever a hostile
archive talks tar or restore into, it meets the guest's own file systems and nothing else; they are mounted without
device nodes, so that one unpacked there is a name and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.deployment.tree import Tree
from snf_image_helper.disks.filesystems import unmount
from snf_image_shared.process import run

_CELL = Path("/run/snf-image/cell")
_SIZE = "nr_blocks=16,nr_inodes=64,mode=755"  # it holds names alone
_NAMES = ("passwd", "group")


@dataclass(frozen=True)
class Cell:
    """A root directory; `tree` is where in it the new root file system is, with /boot mounted there."""

    outside: Path
    tree: str = "/tree"

    @property
    def unpacked(self) -> Path:
        """The new root as the helper sees it: full of links that lead to the helper's own files."""
        return self.outside / self.tree.lstrip("/")

    def command(self, argv: Sequence[str], *, at: str = "", env: Mapping[str, str] | None = None) -> list[str]:
        """A program of the helper's, to run in there, in the directory `at` of the tree."""
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        return ["chroot", str(self.outside), "env", f"--chdir={self.tree}{at}", *settings, *argv]


@contextmanager
def cell(tree: Tree) -> Iterator[Cell]:
    """Build it, and take it away again with all its mounts. Raises GuestError, ProcessError."""
    _CELL.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        run(["mount", "-t", "tmpfs", "-o", f"nosuid,{_SIZE}", "cell", str(_CELL)])
        stack.callback(_CELL.rmdir)
        stack.callback(unmount, str(_CELL), lazily=True)
        built = Cell(_CELL)
        for name in ("usr", "dev", "etc", "tree"):
            (_CELL / name).mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            (_CELL / name).symlink_to(f"usr/{name}")
        # Entries of ACLs have names: the guest's, as soon as its files are there.
        for name in _NAMES:
            (_CELL / "etc" / name).symlink_to(f"{built.tree}/etc/{name}")
        (_CELL / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\n")
        (_CELL / "dev/null").touch()
        run(["mount", "--bind", "-o", "ro", "/usr", str(_CELL / "usr")])
        run(["mount", "--bind", "/dev/null", str(_CELL / "dev/null")])
        run(["mount", "--bind", tree.root, str(built.unpacked)])
        if tree.boot:
            boot = built.unpacked / "boot"
            boot.mkdir(mode=0o755, exist_ok=True)
            run(["mount", "--bind", tree.boot, str(boot)])
        run(["mount", "-o", "remount,ro", str(_CELL)])
        yield built
