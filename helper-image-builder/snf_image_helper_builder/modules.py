# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernel modules the helper keeps, and in which order the initrd loads its few.

A VM that sees disks, a floppy and serial ports needs no sound card. What a kept module depends on is kept with it, so
a rule that is too narrow costs a device, never a broken dependency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from snf_image_shared.errors import ConfigurationError

Dependencies = Mapping[str, tuple[str, ...]]


def read_dependencies(modules_dep: str) -> dict[str, tuple[str, ...]]:
    """depmod's modules.dep: path -> the paths it needs, the one to load first last (modules.dep(5))."""
    table = {}
    for line in modules_dep.splitlines():
        path, _, needs = line.partition(":")
        if path:
            table[path] = tuple(needs.split())
    return table


def kept(dependencies: Dependencies, folders: Iterable[str], dropped: Iterable[str]) -> frozenset[str]:
    """Paths that one of `folders` and none of `dropped` covers, with everything they need.

    "kernel/fs/nfs" covers what lies in that folder, "kernel/drivers/block/nbd" the module of that name.
    """
    wanted, unwanted = _prefixes(folders), _prefixes(dropped)
    chosen = {path for path in dependencies if path.startswith(wanted) and not path.startswith(unwanted)}
    return frozenset(chosen.union(*(dependencies[path] for path in chosen)))


def load_order(dependencies: Dependencies, built_in: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """Paths to load for `names`, each after what it needs; a name that is built in needs nothing.

    Raises ConfigurationError for a name that the kernel does not have.
    """
    by_name = {module_name(path): path for path in dependencies}
    in_kernel = {module_name(path) for path in built_in}
    order: dict[str, None] = {}
    for name in names:
        if name in in_kernel:
            continue
        if name not in by_name:
            raise ConfigurationError(f"the kernel of the helper has no module {name}: choose another --suite")
        path = by_name[name]
        order.update(dict.fromkeys([*reversed(dependencies[path]), path]))
    return tuple(order)


def module_name(path: str) -> str:
    """ "kernel/fs/foo-bar.ko.xz" is the module foo_bar."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def _prefixes(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name}{end}" for name in names for end in ("/", ".ko"))
