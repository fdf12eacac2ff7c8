# SPDX-License-Identifier: GPL-2.0-or-later
"""STORY: recipe -> Debian root (cached) -> kernel, image, initrd with our Python -> swapped into place.

Two layers, each with a key of its inputs: the root takes a minute or two and changes with the recipe; the initrd takes
a second and changes with the helper. Nothing here mounts or attaches anything:
mmdebstrap does, in namespaces that die with it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from snf_image_helper_builder import code
from snf_image_helper_builder.debian import KEYRING, Archive, Selection, bootstrap, find_archive
from snf_image_helper_builder.initrd import START, Root, initrd, script
from snf_image_helper_builder.kernel import write_bootable_kernel
from snf_image_helper_builder.recipe import Recipe, digest
from snf_image_helper_builder.replacement import locked, remove_stale, replacement
from snf_image_helper_builder.tree import (
    compile_python,
    index_modules,
    kernel_release,
    make_erofs,
    package_versions,
    prune,
    settle_modules,
)
from snf_image_helper_builder.ufs_module import MODULES, PLACE, Kernel, ufs_module
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError, DiskError, SnfImageError
from snf_image_shared.manifest import MANIFEST, PARTS, Manifest, Part

Say = Callable[[str], None]

_PROGRAMS = {"mmdebstrap": "mmdebstrap", "mkfs.erofs": "erofs-utils", "zstd": "zstd", "setpriv": "util-linux"}
# Ours, and those of the versions before 1.0.
_OF_A_HELPER = re.compile(r"manifest\.json|version|packages|kernel|initrd|image|vmlinuz-.*|initrd\.img-.*", re.DOTALL)
_MIB = 1 << 20
_ROOT_NEEDS = 1000 * _MIB
_WORKSHOP_NEEDS = 900 * _MIB  # the compiler and the kernel's source, while the module for UFS is made
_UFS = "ufs"  # a file beside the cached root which says that its kernel writes UFS
_HELPER_NEEDS = 250 * _MIB


@dataclass(frozen=True)
class Order:
    """What is asked for. `env` goes to mmdebstrap: proxies. Directories are absolute.

    `ufs`: with or without the module that writes UFS; None for with it, if it can be made.
    """

    destination: Path
    cache: Path
    mirror: str
    suite: str
    force: bool = False
    ufs: bool | None = None
    env: Mapping[str, str] = field(default_factory=dict)


def update(order: Order, say: Say) -> bool:
    """Make the helper in `order.destination` what it should be; False when it already was.

    Raises SnfImageError or OSError, and then the old helper is as it was.
    """
    recipe, files = Recipe(order.suite, ufs=order.ufs is not False), code.packages()
    key = inputs(recipe, files)
    if not order.force and is_current(order.destination, key, ufs=order.ufs):
        return False
    require(order)
    with held(say, order.cache, order.destination.parent):
        if not order.force and is_current(order.destination, key, ufs=order.ufs):
            return False
        _require_ours(order.cache)
        for pattern in ("root-*", MODULES):
            remove_stale(order.cache / pattern)
        remove_stale(order.destination)
        base = order.cache / f"root-{recipe.key()[:16]}"
        complete = (base / "complete").exists() and (not order.ufs or (base / _UFS).exists())
        if order.force or not complete:
            _build_root(order, recipe, base, say)
        else:
            say(f"using the Debian root in {base}")
        say("packing the initrd with the helper's Python")
        with replacement(order.destination, 0o755) as new:
            _assemble(base, files, (recipe, key), new)
    return True


def inputs(recipe: Recipe, files: Mapping[str, bytes]) -> str:
    """The key of all that goes into a helper: the recipe, our version and Python, the initrd's two scripts."""
    return digest([recipe.key(), __version__, code.fingerprint(files), script(recipe.root_fs, []), START])


def is_current(destination: Path, key: str, *, ufs: bool | None = None) -> bool:
    """Whether a complete helper made from these inputs is there; sizes only. With `ufs` it must write UFS."""
    try:
        manifest = Manifest.load(destination)
        manifest.check(destination, deep=False)
    except ConfigurationError:
        return False
    return manifest.inputs == key and (manifest.ufs or not ufs)


def require(order: Order) -> None:
    """Raises ConfigurationError or DiskError for what would only fail minutes later."""
    if os.geteuid() != 0:
        raise ConfigurationError("only root can build the helper image: run it with sudo")
    search = os.pathsep.join(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    missing = sorted({package for program, package in _PROGRAMS.items() if not shutil.which(program, path=search)})
    if not KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        raise ConfigurationError(f"programs are missing: apt-get install {' '.join(missing)}")
    require_place(order.destination)
    require_room(order.destination.parent, _HELPER_NEEDS, "--dest")


def require_place(destination: Path) -> None:
    """Raises ConfigurationError when anything but a helper is there: all that is there is going to be removed."""
    other = "name another --dest, or HELPER_DIR in snf-image.conf"
    if os.path.ismount(destination):
        raise ConfigurationError(f"{destination} is a mount point, which cannot be replaced: {other}")
    try:
        with os.scandir(destination) as entries:
            foreign = [each.name for each in entries if each.is_dir() or not _OF_A_HELPER.fullmatch(each.name)]
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise ConfigurationError(f"{destination} is no directory: {other}") from error
    if foreign:
        raise ConfigurationError(f"{destination} has {min(foreign)!r}, which is no part of a helper image: {other}")


def require_room(directory: Path, needed: int, option: str) -> None:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskError(
            f"{directory} has {free // _MIB} MiB free, {needed // _MIB} are needed: make room or name another {option}"
        )


def _require_ours(cache: Path) -> None:
    # Programs of the cached root run as root, and its files go into the VM.
    status = cache.stat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise ConfigurationError(f"others than root can write to {cache}: chown and chmod it, or name another --cache")


@contextmanager
def held(say: Say, *directories: Path) -> Iterator[None]:
    """Keep other builds out of the directories, in this order; one that is named twice is held once."""
    with ExitStack() as stack:
        for directory in dict.fromkeys(path.resolve() for path in directories):
            waiting = f"another build is at work in {directory}: waiting for it"
            stack.enter_context(locked(directory, partial(say, waiting)))
        yield


def _build_root(order: Order, recipe: Recipe, base: Path, say: Say) -> None:
    require_room(order.cache, _ROOT_NEEDS + (_WORKSHOP_NEEDS if order.ufs else 0), "--cache")
    archive = find_archive(order.mirror, order.suite)
    if archive.security is None:
        say(f"warning: {archive.mirror}-security does not answer: the helper gets no security updates")
    say(f"building a Debian {order.suite} root from {archive.mirror}: one or two minutes")
    with replacement(base, 0o700) as new:
        _fill_root(archive, recipe, new, (order, say))
    for old in order.cache.glob("root-*"):
        if old != base:
            shutil.rmtree(old)


def _fill_root(archive: Archive, recipe: Recipe, new: Path, how: tuple[Order, Say]) -> None:
    order, say = how
    tree = new / "tree"
    tree.mkdir(mode=0o755)
    bootstrap(archive, Selection(recipe.packages, recipe.not_unpacked), tree, order.env, say)
    release = kernel_release(tree)
    say(f"extracting the kernel {release}")
    if not write_bootable_kernel(tree / "boot" / f"vmlinuz-{release}", new / "kernel"):
        say("warning: the kernel has no PVH entry, so it is decompressed at every boot")
    versions = package_versions(tree)
    (new / "packages").write_text(json.dumps(versions))
    say("removing what the helper never uses")
    prune(tree, recipe)
    settle_modules(tree, release, recipe)
    if recipe.ufs and (module := _ufs(archive, Kernel(release, versions[f"linux-image-{release}"]), order, say)):
        shutil.copyfile(module, tree / "usr/lib/modules" / release / PLACE)
        index_modules(tree, release)
        (new / _UFS).touch()
    say("compiling Debian's Python modules")
    compile_python(tree)
    say(f"packing the {recipe.root_fs} image")
    make_erofs(tree, new / "image", archive.epoch)
    (new / "complete").touch()


def _ufs(archive: Archive, kernel: Kernel, order: Order, say: Say) -> Path | None:
    """The module that writes UFS; None when it cannot be made and nobody insists."""
    try:
        require_room(order.cache, _WORKSHOP_NEEDS, "--cache")
        return ufs_module(archive, kernel, order.cache, order.env, say)
    except (SnfImageError, OSError) as error:
        if order.ufs:
            raise
        say(
            f"warning: the module for UFS cannot be built ({error}): this helper customises no BSD guest on UFS; "
            "run snf-image-update-helper --with-ufs when that is mended"
        )
        return None


def _assemble(base: Path, files: Mapping[str, bytes], identity: tuple[Recipe, str], new: Path) -> None:
    recipe, key = identity
    tree = base / "tree"
    root = Root(tree, kernel_release(tree), recipe.root_fs)
    packages: dict[str, str] = json.loads((base / "packages").read_text())
    for part in ("kernel", "image"):
        shutil.copyfile(base / part, new / part)
    (new / "initrd").write_bytes(initrd(root, {**files, **code.compiled(files, tree)}))
    (new / "packages").write_text("".join(f"{name}\t{version}\n" for name, version in packages.items()))
    (new / "version").write_text(f"{__version__}\n")
    manifest = Manifest(
        version=__version__,
        suite=recipe.suite,
        kernel=root.release,
        debian_packages=packages,
        files={part: Part.of(new / part) for part in PARTS},
        inputs=key,
        root_fs=recipe.root_fs,
        ufs=(base / _UFS).exists(),
    )
    (new / MANIFEST).write_text(manifest.dump())
    for path in new.iterdir():
        path.chmod(0o644)
