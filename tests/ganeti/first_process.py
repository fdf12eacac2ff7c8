# SPDX-License-Identifier: GPL-2.0-or-later
"""First process of a test's node: turns new namespaces into a machine of its own, and keeps it until its input ends.

Started by the machine's own Python, which is gone from view once the root has changed: nothing is imported after that.
The arguments are the new root and the host name.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_OLD_ROOT = "mnt"


def main(root: Path, hostname: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mount("--bind", str(root), str(root))
    mount("--rbind", "/dev", str(root / "dev"))
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / "dev/shm"))
    mount("-t", "proc", "proc", str(root / "proc"))
    # A new one shows the bridges of this network namespace.
    mount("-t", "sysfs", "-o", "ro", "sysfs", str(root / "sys"))
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root / "run"))
    # Not chroot(2): the jail makes user namespaces, which a process in a chroot may not.
    os.chdir(root)
    tell(["pivot_root", ".", _OLD_ROOT])
    tell(["umount", "--lazy", f"/{_OLD_ROOT}"])
    tell(["hostname", hostname])
    print("ready", flush=True)
    # The kernel then takes the node's orphans away by itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while os.read(sys.stdin.fileno(), 1):
        pass


def mount(*arguments: str) -> None:
    tell(["mount", *arguments])


def tell(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
