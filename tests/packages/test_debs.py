# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian packages on a node of each release, without network: installed, upgraded, removed, purged."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ganeti.node import Node, running_node
from images.ganeti_node import SUITES
from packages.debs import built_debs
from snf_image_shared import __version__
from snf_image_shared.process import Finished

pytestmark = [pytest.mark.root, pytest.mark.row(191, 192)]

OURS = ("snf-image-instance-image", "snf-image-host", "snf-image-helper", "snf-image-common")
OS = "/usr/share/ganeti/os/snf-image"
CONF = "/etc/snf-image/snf-image.conf"
VARIANTS = "/etc/ganeti/snf-image"
# What comes and goes without us.
PASSING = re.compile(r"/(proc|sys|dev|run|tmp|srv|mnt|var/(log|cache/(man|ldconfig|apt))|var/lib/dpkg)(/|$)")
# As 0.23.1 has them: all of it is commented out, and the variants have no settings.
OLD_FILES = {
    CONF: '# HELPER_MEMORY="512"\n',
    f"{VARIANTS}/variants.list": "default\n",
    f"{VARIANTS}/variants/default.conf": "",
}
IMAGE_OS = "/usr/share/ganeti/os/image"
IMAGE_CONF = "/etc/default/ganeti-instance-image"
IMAGE_FILES = "/etc/ganeti/instance-image"
# As ganeti-instance-image 0.7.3 has them.
OLD_IMAGE_FILES = {
    IMAGE_CONF: '# SWAP="yes"\n',
    f"{IMAGE_FILES}/variants.list": "default\n",
    f"{IMAGE_FILES}/variants/default.conf": "",
    f"{IMAGE_FILES}/hooks/grub": "#!/bin/bash\n",
}
OLD_POSTRM = '#!/bin/sh\nif [ "$1" = purge ]; then rm -f /var/lib/snf-image/helper/*; fi\n'


@dataclass(frozen=True)
class Life:
    """What was seen, step by step."""

    before: frozenset[str]
    installed: frozenset[str]
    said: str
    modes: str
    cache: str
    verified: Finished
    settings: str
    check: Finished
    interfaces: str
    upgraded: dict[str, str]
    removed: frozenset[str]
    purged: frozenset[str]


@pytest.fixture(scope="module", params=SUITES)
def node(request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node without snf-image, which finds our packages, those of a later version, and an old one below /srv."""
    debs = built_debs(cache, SUITES[request.param][0])
    later, old = tmp_path_factory.mktemp("later"), tmp_path_factory.mktemp("old")
    for deb in debs:
        _as_later(deb, later)
    _old_package(old, "snf-image", OLD_FILES)
    _old_package(old, "ganeti-instance-image", OLD_IMAGE_FILES)
    with running_node(request.param, cache, "node1.example.com") as running:
        for source, directory in ((debs[0].parent, "debs"), (later, "later"), (old, "old")):
            shutil.copytree(source, running.root / "srv" / directory)
        # Nothing of this node outlives it: without a sync for each file.
        running.write("/etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n")
        yield running


@pytest.fixture(scope="module")
def life(node: Node) -> Life:
    """Install, change settings, upgrade, remove, purge."""
    before = _files(node)
    said = _install(node, "debs")
    installed = _files(node)
    modes = node.run("sh", "-c", f"stat -L -c '%a %U:%G %n' {OS} {OS}/*")
    cache = node.run("stat", "-c", "%a %U %F", "/var/cache/snf-image/images")
    environment = ("env", "-i", "PATH=/sbin:/bin:/usr/sbin:/usr/bin", "OS_API_VERSION=20", "OS_VARIANT=default")
    verified = node.try_(*environment, "OSP_IMG_ID=x", "OSP_IMG_FORMAT=diskdump", f"{OS}/verify", "parameters")
    settings = node.run("snf-image-config", "show")
    check = node.try_("snf-image-update-helper", "--check")
    interfaces = node.run("ls", "/sys/class/net")
    _append(node, CONF, "HELPER_MEMORY=1024\n")
    _append(node, f"{VARIANTS}/variants.list", "mine\n")
    node.write(f"{VARIANTS}/variants/mine.conf", "IMG_ID=mine\n")
    _install(node, "later")
    kept = (CONF, f"{VARIANTS}/variants.list", f"{VARIANTS}/variants/default.conf", f"{VARIANTS}/variants/mine.conf")
    upgraded = {path: (node.root / path[1:]).read_text() for path in kept}
    for path in ("helper/image", ".helper.new-x/image", "debian.diskdump"):
        node.write(f"/var/lib/snf-image/{path}", "")
    node.write("/var/cache/snf-image/root-1/tree/bin/sh", "")
    node.run("dpkg", "--remove", *OURS)
    removed = _files(node)
    node.run("dpkg", "--purge", *OURS)
    return Life(
        before, installed, said, modes, cache, verified, settings, check, interfaces, upgraded, removed, _files(node)
    )


def test_they_install_without_any_network(life: Life) -> None:
    assert life.interfaces.split() == ["lo"]
    assert f"{OS}/create" in life.installed


def test_the_last_word_of_the_installation_is_how_to_get_the_helper(life: Life) -> None:
    [line] = [line for line in life.said.splitlines() if line.startswith("snf-image:")]
    assert "snf-image-update-helper" in line and "--url" in line
    assert life.check.status == 3


@pytest.mark.row(1, 3)
def test_ganeti_finds_its_files_with_the_right_modes(life: Life) -> None:
    modes = {Path(name).name: f"{mode} {owner}" for mode, owner, name in map(str.split, life.modes.splitlines())}
    scripts = dict.fromkeys(("create", "import", "export", "rename", "verify", "snf-image"), "755 root:root")
    files = dict.fromkeys(("ganeti_api_version", "parameters.list", "variants.list"), "644 root:root")
    assert modes == scripts | files


def test_the_cache_s_directory_is_root_s_alone(life: Life) -> None:
    assert life.cache.strip() == "700 root directory"


def test_the_code_runs_at_once(life: Life) -> None:
    assert (life.verified.status, life.verified.stdout, life.verified.stderr) == (0, "", "")
    assert "HELPER_MEMORY=512" in life.settings


def test_python_finds_its_bytecode(life: Life) -> None:
    modules = [path for path in life.installed if re.match(r"/usr/lib/snf-image/snf_image_.*\.py$", path)]
    assert len(modules) > 80
    compiled = [path for path in life.installed if path.startswith("/usr/lib/snf-image") and path.endswith(".pyc")]
    assert {re.sub(r"__pycache__/(\w+)\.[\w-]+\.pyc$", r"\1.py", path) for path in compiled} >= set(modules)


def test_settings_and_variants_outlive_an_upgrade(life: Life) -> None:
    assert life.upgraded[CONF].endswith("HELPER_MEMORY=1024\n")
    assert life.upgraded[f"{VARIANTS}/variants.list"] == "default\nmine\n"
    assert life.upgraded[f"{VARIANTS}/variants/mine.conf"] == "IMG_ID=mine\n"
    assert life.upgraded[f"{VARIANTS}/variants/default.conf"].endswith("# Later.\n")


def test_what_is_removed_leaves_its_settings_and_the_helper(life: Life) -> None:
    left = life.removed - life.before
    assert not [path for path in left if path.startswith("/usr/")]
    assert {CONF, f"{VARIANTS}/variants/mine.conf", "/var/lib/snf-image/helper/image"} <= left


def test_purge_leaves_the_administrator_s_images_and_nothing_else(life: Life) -> None:
    assert life.purged - life.before == {"/var/lib/snf-image", "/var/lib/snf-image/debian.diskdump"}
    assert life.before <= life.purged


def test_the_old_package_s_settings_stay_in_force_and_its_purge_does_not_take_them(node: Node, life: Life) -> None:
    node.run("dpkg", "--install", "/srv/old/snf-image.deb")
    _append(node, CONF, "HELPER_MEMORY=2048\n")
    _append(node, f"{VARIANTS}/variants.list", "old\n")
    node.write(f"{VARIANTS}/variants/old.conf", "IMG_ID=old\n")
    _install(node, "debs")
    node.run("dpkg", "--purge", "snf-image")
    assert "HELPER_MEMORY=2048" in node.run("snf-image-config", "show")
    assert (node.root / f"{VARIANTS[1:]}/variants.list").read_text() == "default\nold\n"
    assert (node.root / f"{VARIANTS[1:]}/variants/old.conf").read_text() == "IMG_ID=old\n"
    node.run("dpkg", "--purge", *OURS)
    assert _files(node) == life.purged


@pytest.mark.image_row(8, 99)
def test_the_definition_image_is_one_for_ganeti_with_all_hooks_off(node: Node, life: Life) -> None:
    scripts = [f"{IMAGE_OS}/{name}" for name in ("create", "export", "import", "rename", "verify")]
    files = [f"{IMAGE_OS}/{name}" for name in ("ganeti_api_version", "parameters.list", "variants.list")]
    hooks = [
        f"{IMAGE_FILES}/hooks/{name}"
        for name in ("cloud-init", "cron_randomize", "grub", "interfaces", "overlays", "ssh", "zz_ddns")
    ]
    assert life.installed >= {*scripts, *files, *hooks, IMAGE_CONF, f"{IMAGE_FILES}/networks/subnets"}
    _install(node, "debs")
    modes = node.run("stat", "-L", "-c", "%a", *scripts, *files, *hooks).split()
    assert modes == ["755"] * 5 + ["644"] * 10
    assert node.run("stat", "-c", "%a", IMAGE_FILES).strip() == "755"
    assert node.run("cat", f"{IMAGE_OS}/ganeti_api_version") == "20\n15\n"
    node.run("dpkg", "--purge", *OURS)
    assert _files(node) == life.purged


@pytest.mark.image_row(99)
def test_ganeti_instance_image_gives_way_and_its_files_stay_as_they_are(node: Node, life: Life) -> None:
    node.run("dpkg", "--install", "/srv/old/ganeti-instance-image.deb")
    _append(node, IMAGE_CONF, "SWAP=no\n")
    _append(node, f"{IMAGE_FILES}/variants.list", "mine\n")
    node.write(f"{IMAGE_FILES}/variants/mine.conf", "IMAGE_NAME=mine\n")
    node.run("chmod", "+x", f"{IMAGE_FILES}/hooks/grub")
    # Without a word about configuration files: nobody is there to answer a question.
    node.run("sh", "-c", "dpkg --install /srv/debs/snf-image-*.deb </dev/null")
    assert "SWAP=no " in node.run("snf-image-config", "--definition", "image", "show", "--variant", "mine")
    assert node.run("stat", "-c", "%a %s", f"{IMAGE_FILES}/hooks/grub").split() == ["755", "12"]
    assert node.run("cat", f"{IMAGE_OS}/variants.list") == "default\nmine\n"
    node.run("dpkg", "--purge", *OURS)
    kept = _files(node) - life.purged
    assert {IMAGE_CONF, f"{IMAGE_FILES}/variants/mine.conf", f"{IMAGE_FILES}/hooks/grub"} <= kept
    assert f"{IMAGE_FILES}/hooks/ssh" not in kept  # ours, and nobody had changed it
    node.run("dpkg", "--purge", "ganeti-instance-image")
    node.run("rm", "-r", IMAGE_FILES)
    assert _files(node) == life.purged


def test_settings_from_before_0_22_4_move_to_their_present_place(node: Node, life: Life) -> None:
    node.write("/etc/default/snf-image", "HELPER_MEMORY=4096\n")
    _install(node, "debs")
    [line] = [line for line in node.run("snf-image-config", "show").splitlines() if "HELPER_MEMORY" in line]
    assert line.split(maxsplit=2) == ["HELPER_MEMORY=4096", "#", f"{CONF}, line 1"]
    node.run("dpkg", "--purge", *OURS)
    assert _files(node) == life.purged


def test_purge_gets_past_links_and_mount_points(node: Node, life: Life) -> None:
    """The images elsewhere, by a link, and a file system for the cache: they are the administrator's."""
    node.run("mkdir", "-p", "/opt/images")
    node.run("mv", "--no-target-directory", "/var/lib/snf-image", "/opt/images")
    node.run("ln", "-s", "/opt/images", "/var/lib/snf-image")
    _install(node, "debs")
    node.run("mkdir", "-p", "/var/cache/snf-image")
    node.run("mount", "-t", "tmpfs", "tmpfs", "/var/cache/snf-image")
    for path in ("/opt/images/helper/image", "/opt/images/.helper.new-x/image"):
        node.write(path, "")
    node.run("dpkg", "--purge", *OURS)
    node.run("umount", "/var/cache/snf-image")
    node.run("rmdir", "/var/cache/snf-image/images", "/var/cache/snf-image")
    assert node.run("ls", "-A", "/opt/images").split() == ["debian.diskdump"]
    node.run("rm", "/var/lib/snf-image")
    node.run("mv", "--no-target-directory", "/opt/images", "/var/lib/snf-image")
    assert _files(node) == life.purged


def test_lintian_has_no_complaint(cache: Path) -> None:
    debs = [str(deb) for release, _ in SUITES.values() for deb in built_debs(cache, release)]
    done = subprocess.run(
        ["lintian", "--display-info", "--allow-root", *debs], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_version_of_the_packages_is_that_of_the_program(cache: Path) -> None:
    for release, _ in SUITES.values():
        for deb in built_debs(cache, release):
            field = subprocess.run(
                ["dpkg-deb", "--field", str(deb), "Version"], capture_output=True, text=True, check=True
            )
            assert field.stdout.strip() == f"{__version__.replace('.dev', '~dev')}+deb{release}u1"


def _install(node: Node, directory: str) -> str:
    """As an administrator does it, whose own umask is strict; what was said."""
    command = f"umask 077; dpkg --force-confold --install /srv/{directory}/snf-image-*.deb 2>&1"
    return node.run("sh", "-c", command)


def _files(node: Node) -> frozenset[str]:
    found = node.run("find", "/", "-xdev", "-path", "/srv", "-prune", "-o", "-print").splitlines()
    return frozenset(path for path in found if not PASSING.match(path))


def _append(node: Node, inside: str, text: str) -> None:
    with (node.root / inside[1:]).open("a") as file:
        file.write(text)


def _as_later(deb: Path, directory: Path) -> None:
    """The same package as version 1.9, which has something new to say in its settings."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    version = re.search(r"(?m)^Version: (.*)$", control.read_text())
    assert version
    control.write_text(control.read_text().replace(version[1], "1.9"))
    for path in (tree / "etc").rglob("*.conf"):
        path.write_text(path.read_text() + "# Later.\n")
    _build(tree, directory / deb.name)


def _old_package(directory: Path, name: str, files: Mapping[str, str]) -> None:
    """Enough of a predecessor's package: its configuration files, and what it does when it is purged."""
    tree = directory / "tree"
    for path, text in files.items():
        (tree / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tree / path[1:]).write_text(text)
    control = f"Package: {name}\nVersion: 0.23.1-1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    scripts = {"control": control, "conffiles": "".join(f"{path}\n" for path in files), "postrm": OLD_POSTRM}
    (tree / "DEBIAN").mkdir()
    for each, text in scripts.items():
        (tree / "DEBIAN" / each).write_text(text)
        (tree / "DEBIAN" / each).chmod(0o755 if each == "postrm" else 0o644)
    _build(tree, directory / f"{name}.deb")


def _build(tree: Path, deb: Path) -> None:
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(deb)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["rm", "-r", str(tree)], check=True)
