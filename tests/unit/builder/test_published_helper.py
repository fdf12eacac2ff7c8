# SPDX-License-Identifier: GPL-2.0-or-later
"""A helper image that one node packs and another fetches: only what somebody vouches for takes the old one's place."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import pytest

from http_server import Answer, How, http_server
from snf_image_helper_builder.cli import dump_main, main
from snf_image_helper_builder.download import Origin
from snf_image_helper_builder.replacement import locked
from snf_image_helper_builder.tarball import MEMBERS, name
from snf_image_shared import __version__
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.manifest import PARTS, Manifest, Part

pytestmark = [pytest.mark.root, pytest.mark.row(188, 189)]
TARBALL = name()
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Settings:
    """What snf-image.conf says, as the installed commands hand it over."""

    helper_dir: Path
    helper_url: str = ""


@dataclass(frozen=True)
class Signer:
    """Somebody with an OpenPGP key; `keyring` has its public half."""

    home: Path

    @property
    def keyring(self) -> Path:
        return self.home / "public.gpg"

    def gpg(self, *arguments: str) -> None:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--yes", "--passphrase", "", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def sign(self, directory: Path) -> None:
        self.gpg("--armor", "--output", f"{directory / TARBALL}.asc", "--detach-sign", str(directory / TARBALL))


def signer(expires: str = "never") -> Signer:
    # A short path: the agent's socket lies there.
    made = Signer(Path(tempfile.mkdtemp(prefix="snf-gpg-")))
    made.gpg("--quick-generate-key", "Publisher <publisher@example.org>", "ed25519", "sign", expires)
    made.gpg("--output", str(made.keyring), "--export")
    return made


@pytest.fixture(scope="module")
def publisher() -> Iterator[Signer]:
    made = signer()
    yield made
    forget(made)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Signer]:
    made = signer()
    yield made
    forget(made)


def forget(made: Signer) -> None:
    subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(made.home, ignore_errors=True)


def helper_in(directory: Path, version: str = __version__, content: str = "new") -> Path:
    directory.mkdir()
    for part in PARTS:
        (directory / part).write_text(f"{content} {part}")
    (directory / "packages").write_text("python3\t3.13\n")
    (directory / "version").write_text(f"{version}\n")
    files = {part: Part.of(directory / part) for part in PARTS}
    (directory / "manifest.json").write_text(Manifest(version, "trixie", "6.12", {}, files, "key", "erofs").dump())
    return directory


@dataclass(frozen=True)
class World:
    """A node with an old helper, and a directory where another node has published its own."""

    node: Path
    published: Path
    publisher: Signer

    @property
    def helper(self) -> Path:
        return self.node / "helper"

    @property
    def tarball(self) -> Path:
        return self.published / TARBALL

    def update(self, *options: str | Path) -> int:
        keyring = ("--keyring", str(self.publisher.keyring)) if "--keyring" not in options else ()
        return main([*map(str, options), "--dest", str(self.helper), *keyring])

    def is_as_it_was(self) -> bool:
        """The old helper is whole, and nothing lies beside it."""
        manifest = Manifest.load(self.helper)
        manifest.check(self.helper, deep=True)
        return (self.helper / "image").read_text() == "old image" and os.listdir(self.node) == ["helper"]

    def publish_again(self, change: Callable[[bytes], bytes]) -> None:
        """The same with other bytes, and a checksum that fits them."""
        self.tarball.write_bytes(change(self.tarball.read_bytes()))
        digest = hashlib.sha256(self.tarball.read_bytes()).hexdigest()
        Path(f"{self.tarball}.sha256").write_text(f"{digest}  {TARBALL}\n")


@pytest.fixture
def world(tmp_path: Path, publisher: Signer) -> World:
    node, published = tmp_path / "node", tmp_path / "published"
    node.mkdir()
    published.mkdir()
    helper_in(node / "helper", content="old")
    helper_in(tmp_path / "source")
    assert dump_main(["--quiet", "--helper", str(tmp_path / "source"), str(published)]) == 0
    publisher.sign(published)
    return World(node, published, publisher)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("place", ["directory", "tarball", "file URL"])
def test_what_one_node_packs_another_installs(world: World, tmp_path: Path, place: str) -> None:
    places = {"directory": str(world.published), "tarball": str(world.tarball), "file URL": world.published.as_uri()}
    assert world.update("--url", places[place]) == 0
    assert contents(world.helper) == contents(tmp_path / "source")
    assert {path.stat().st_mode & 0o777 for path in world.helper.iterdir()} == {0o644}
    assert world.helper.stat().st_mode & 0o777 == 0o755
    assert os.listdir(world.node) == ["helper"]
    assert main(["--check", "--dest", str(world.helper)]) == 0


def test_the_same_helper_gives_the_same_tarball(world: World, tmp_path: Path) -> None:
    before = contents(world.published)
    for path in (tmp_path / "source").iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert dump_main(["--quiet", "--helper", str(tmp_path / "source"), str(world.published)]) == 0
    assert contents(world.published) == before
    assert sorted(before) == [TARBALL, f"{TARBALL}.asc", f"{TARBALL}.sha256"]


def test_the_checksum_can_be_checked_with_coreutils(world: World) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", f"{TARBALL}.sha256"], cwd=world.published, check=True)


def test_packing_says_how_to_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    helper = helper_in(tmp_path / "helper")
    assert dump_main([str(tmp_path)], lambda: Settings(helper)) == 0
    assert f"gpg --armor --detach-sign {tmp_path / TARBALL}" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["missing", "damaged", "no directory"])
def test_what_is_not_whole_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    helper = tmp_path / "helper" if fault == "missing" else helper_in(tmp_path / "helper")
    target = tmp_path / "target"
    if fault == "damaged":
        (helper / "kernel").write_text("old kernel")
    if fault != "no directory":
        target.mkdir()
    assert dump_main(["--helper", str(helper), str(target)]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert not target.exists() or os.listdir(target) == []


@pytest.mark.row(193)
def test_a_mirror_is_given_by_its_base_url_in_the_settings(world: World, tmp_path: Path) -> None:
    answers = {f"/pub/snf-image/{file}": Answer(content) for file, content in contents(world.published).items()}
    moved = {"Location": f"/pub/snf-image/{TARBALL}.sha256"}
    answers[f"/moved/{TARBALL}.sha256"] = Answer(status=302, headers=moved)
    with http_server(answers) as server:
        settings = Settings(world.helper, f"{server.url}/pub/snf-image/")
        assert main(["--keyring", str(world.publisher.keyring)], lambda: settings) == 0
        assert set(server.methods) == {"GET"}
    assert contents(world.helper) == contents(tmp_path / "source")


def test_where_the_place_is_a_link_what_is_behind_it_is_replaced(world: World, tmp_path: Path) -> None:
    world.helper.rename(tmp_path / "large")
    world.helper.symlink_to(tmp_path / "large")
    for _ in range(2):
        assert world.update("--url", str(world.published), "-f") == 0
    assert world.helper.is_symlink()
    assert contents(tmp_path / "large") == contents(tmp_path / "source")
    assert os.listdir(world.node) == ["helper"]


def test_the_helper_of_an_older_version_is_replaced_with_all_its_files(world: World, tmp_path: Path) -> None:
    for old in ("vmlinuz-4.2.0-0.snf", "initrd.img-4.2.0-0.snf"):
        (world.helper / old).touch()
    assert world.update("--url", str(world.published)) == 0
    assert contents(world.helper) == contents(tmp_path / "source")


@pytest.mark.parametrize("how", ["fetched", "built"])
@pytest.mark.parametrize("foreign", ["debian.diskdump", "image/disk"])
def test_a_directory_with_anything_else_in_it_is_never_replaced(
    world: World, capsys: pytest.CaptureFixture[str], how: str, foreign: str
) -> None:
    """As when HELPER_DIR is by mistake the directory of the images."""
    place = world.node / "images"
    (place / foreign).parent.mkdir(parents=True)
    (place / foreign).touch()
    options = ["--url", str(world.published), "--keyring", str(world.publisher.keyring)] if how == "fetched" else []
    assert main(["--quiet", "--dest", str(place), "--cache", str(world.node / "cache"), *options]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert "no part of a helper image" in line and "HELPER_DIR" in line
    assert (place / foreign).exists()
    assert sorted(os.listdir(world.node)) == ["helper", "images"]


def test_neither_a_file_nor_a_mount_point_is_replaced(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.node / "file").touch()
    for place in (world.node / "file", Path("/proc")):
        assert main(["-q", "-u", str(world.published), "--dest", str(place)]) == 3
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(os.listdir(world.node)) == ["file", "helper"]


def test_packing_waits_for_an_update_that_is_at_work(world: World, tmp_path: Path) -> None:
    program = "import sys; from snf_image_helper_builder.cli import dump_main; sys.exit(dump_main())"
    command = [sys.executable, "-c", program, "--helper", str(tmp_path / "source")]
    before = contents(world.published)
    with (
        locked(tmp_path, lambda: pytest.fail("nobody holds it")),
        subprocess.Popen(
            [*command, str(world.published)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        ) as packing,
    ):
        assert packing.stdout
        assert "waiting" in packing.stdout.readline()
        packing.send_signal(signal.SIGTERM)
    assert packing.returncode == 130
    assert contents(world.published) == before


def test_old_options_work_in_any_order(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.update("-y", "-u", str(world.published), "-f") == 0
    with pytest.raises(SystemExit) as refused:
        world.update("-u", str(world.published), "-c")
    assert refused.value.code == 2
    assert "--sha256" in capsys.readouterr().err


def test_a_sha256_that_the_administrator_gives_needs_no_signature(world: World) -> None:
    Path(f"{world.tarball}.asc").unlink()
    Path(f"{world.tarball}.sha256").unlink()
    wrong = "0" * 64
    assert world.update("-u", str(world.published), "--sha256", wrong) == 3
    assert world.is_as_it_was()
    right = hashlib.sha256(world.tarball.read_bytes()).hexdigest().upper()
    assert world.update("-u", str(world.published), "--sha256", right) == 0


def spoil(world: World, fault: str, stranger: Signer) -> tuple[str | Path, ...]:
    """Make one thing wrong; the options that meet it."""
    checksum, signature = Path(f"{world.tarball}.sha256"), Path(f"{world.tarball}.asc")
    match fault:
        case "no tarball":
            world.tarball.unlink()
        case "no signature":
            signature.unlink()
        case "a stranger's signature":
            stranger.sign(world.published)
        case "the signature of another file":
            world.publish_again(lambda content: content + b"more")
        case "an empty signature":
            signature.write_text("")
        case "no checksum":
            checksum.unlink()
        case "a checksum that is none":
            checksum.write_text("see the web page")
        case "a transfer error":
            world.tarball.write_bytes(world.tarball.read_bytes()[:-1] + b"x")
        case "no keyring":
            return ("--keyring", world.node.parent / "none.gpg")
        case "an armoured keyring":
            armoured = world.node.parent / "armoured.asc"
            world.publisher.gpg("--armor", "--output", str(armoured), "--export")
            return ("--keyring", armoured)
    return ()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no tarball", "check --url"),
        ("no signature", ".asc does not exist"),
        ("a stranger's signature", "has signed this"),
        ("the signature of another file", "is of another file"),
        ("an empty signature", "cannot be verified"),
        ("no checksum", ".sha256 does not exist"),
        ("a checksum that is none", "is no checksum"),
        ("a transfer error", "has the sha256"),
        ("no keyring", "--sha256"),
        ("an armoured keyring", "gpg --dearmor"),
    ],
)
def test_what_nobody_vouches_for_is_refused_in_one_line(
    world: World, stranger: Signer, capsys: pytest.CaptureFixture[str], fault: str, said: str
) -> None:
    options = spoil(world, fault, stranger)
    assert world.update("--quiet", "--url", str(world.published), *options) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert world.is_as_it_was()


def test_a_key_that_has_expired_does_not_vouch(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    # It was good when it signed, a day in the life of its own: 2020.
    late = Signer(Path(tempfile.mkdtemp(prefix="snf-gpg-")))
    try:
        then = ("--faked-system-time", "20200101T000000")
        late.gpg(*then, "--quick-generate-key", "Late <late@example.org>", "ed25519", "sign", "1d")
        late.gpg(*then, "--armor", "--output", f"{world.tarball}.asc", "--detach-sign", str(world.tarball))
        late.gpg("--output", str(late.keyring), "--export")
        assert world.update("--quiet", "-u", str(world.published), "--keyring", str(late.keyring)) == 3
    finally:
        forget(late)
    assert "expired" in capsys.readouterr().err
    assert world.is_as_it_was()


def test_a_helper_of_another_version_is_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = helper_in(tmp_path / "other", version="0.23.1")
    repack(world, other)
    assert world.update("--quiet", "--url", str(world.published), "-f") == 3
    assert f"version 0.23.1, this is {__version__}" in capsys.readouterr().err
    assert world.is_as_it_was()


def repack(world: World, source: Path, change: Callable[[list[tarfile.TarInfo]], None] = lambda members: None) -> None:
    """Publish a tarball that snf-image-dump-helper would not make, signed all the same."""
    members = []
    for member in MEMBERS:
        header = tarfile.TarInfo(member)
        header.size = (source / member).stat().st_size
        members.append(header)
    change(members)
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for header in members:
            content = (source / header.name).read_bytes() if (source / header.name).is_file() else b""
            tar.addfile(header, BytesIO(content.ljust(header.size, b"\0")[: header.size]))
    done = subprocess.run(["zstd", "-q", "-c"], input=out.getvalue(), capture_output=True, check=True)
    world.publish_again(lambda _: done.stdout)
    world.publisher.sign(world.published)


def _outside(members: list[tarfile.TarInfo]) -> None:
    members.append(tarfile.TarInfo("../outside"))


def _link(members: list[tarfile.TarInfo]) -> None:
    members[-1].type, members[-1].linkname, members[-1].size = tarfile.SYMTYPE, "/etc/shadow", 0


def _hard_link(members: list[tarfile.TarInfo]) -> None:
    members[-1].type, members[-1].linkname, members[-1].size = tarfile.LNKTYPE, "kernel", 0


def _device(members: list[tarfile.TarInfo]) -> None:
    members[-1].type, members[-1].size = tarfile.BLKTYPE, 0


def _twice(members: list[tarfile.TarInfo]) -> None:
    members.append(members[-1])


def _missing(members: list[tarfile.TarInfo]) -> None:
    members.pop()


def _large(members: list[tarfile.TarInfo]) -> None:
    members[0].size = MEMBERS[members[0].name] + 1


def _cut(members: list[tarfile.TarInfo]) -> None:
    members[-1].size -= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_outside, "does not belong there"),
        (_link, "image is not a plain file"),
        (_hard_link, "image is not a plain file"),
        (_device, "image is not a plain file"),
        (_twice, "is there twice"),
        (_missing, "image is missing"),
        (_large, "more than"),
        (_cut, "not what the manifest beside it says"),
    ],
)
def test_even_signed_nothing_is_unpacked_but_the_files_of_a_helper(
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[tarfile.TarInfo]], None],
    said: str,
) -> None:
    repack(world, tmp_path / "source", change)
    assert world.update("--quiet", "--url", str(world.published), "-f") == 3
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert world.is_as_it_was()
    assert not (tmp_path / "outside").exists() and not (world.node / "outside").exists()


def test_a_map_of_holes_in_no_order_is_refused_in_one_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    header = tarfile.TarInfo("kernel")
    header.size = 512
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "kernel"}
    raw = header.tobuf(tarfile.PAX_FORMAT) + bytes(512)
    packed = subprocess.run(["zstd", "-q", "-c"], input=raw, capture_output=True, check=True).stdout
    world.publish_again(lambda _: packed)
    world.publisher.sign(world.published)
    assert world.update("--quiet", "--url", str(world.published), "-f") == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert world.is_as_it_was()


def test_what_is_no_archive_at_all_is_refused(world: World) -> None:
    world.publish_again(lambda _: b"<html>Welcome to this hotel's network</html>")
    world.publisher.sign(world.published)
    assert world.update("--url", str(world.published), "-f") == 3
    assert world.is_as_it_was()


@pytest.mark.parametrize("how", [How.WHOLE, How.CHUNKED, How.ENDLESS])
def test_no_more_is_fetched_than_may_be(tmp_path: Path, how: How) -> None:
    with (
        http_server({"/x.tar.zst": Answer(b"x" * 5000, how=how)}) as server,
        pytest.raises(ConfigurationError, match="larger than 4096 bytes"),
    ):
        Origin.of(f"{server.url}/x.tar.zst", {}).fetch(tmp_path / "target", 4096)
    assert (tmp_path / "target").stat().st_size <= 4096


@pytest.mark.parametrize("kind", ["large", "fifo", "device", "directory"])
def test_a_path_must_be_a_file_of_sensible_size(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "x.tar.zst"
    match kind:
        case "large":
            place.write_bytes(b"x" * 5000)
        case "fifo":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/zero")
        case "directory":
            place.mkdir()
    with pytest.raises((ConfigurationError, IsADirectoryError)):
        Origin.of(str(place), {}).fetch(tmp_path / "target", 4096)


def test_a_password_in_the_url_reaches_the_mirror_and_no_message(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with http_server({}) as server:
        url = server.url.replace("://", "://reader:s3cret@")
        assert world.update("--url", f"{url}/{TARBALL}?token=t0ken") == 3
        asked = server.asked[0]
    assert asked.target == f"/{TARBALL}.asc?token=t0ken"
    assert "Authorization" in asked.headers
    printed = "".join(capsys.readouterr())
    assert "404" in printed and "s3cret" not in printed and "t0ken" not in printed


@pytest.mark.parametrize("url", ["ftp://mirror.example.org/", "file://elsewhere/x", "gopher://x", "http://[1"])
def test_other_schemes_and_what_is_no_url_are_refused(
    world: World, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert world.update("--quiet", "--url", url) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert world.is_as_it_was()


@pytest.mark.row(190)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_update_that_is_killed_leaves_the_old_helper(world: World, number: signal.Signals) -> None:
    files = contents(world.published)
    answers = {f"/{file}": Answer(content) for file, content in files.items()}
    answers[f"/{TARBALL}"] = replace(answers[f"/{TARBALL}"], how=How.HELD)
    command = [sys.executable, "-m", "snf_image_helper_builder.cli", "--dest", str(world.helper)]
    command += ["--keyring", str(world.publisher.keyring)]
    with http_server(answers) as server:
        with subprocess.Popen([*command, "--url", server.url], env=ENVIRONMENT, cwd="/") as update:
            while TARBALL not in "".join(asked.target for asked in server.asked).replace(f"{TARBALL}.", ""):
                assert update.poll() is None
                server.came.wait(0.05)
            # The first process of a namespace takes all others with it: no process is left that could write the file.
            [fetching] = [pid for pid in descendants(update.pid) if arguments(pid)[:1] == ["curl"]]
            assert Path(f"/proc/{fetching}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()[1:] == [
                "1"
            ]
            update.send_signal(number)
        assert update.returncode == (-9 if number == signal.SIGKILL else 130)
        server.let_go.set()
    manifest = Manifest.load(world.helper)
    manifest.check(world.helper, deep=True)
    if number != signal.SIGKILL:
        assert world.is_as_it_was()
    # What a killed one left goes with the next.
    assert world.update("--url", str(world.published)) == 0
    assert os.listdir(world.node) == ["helper"]


def descendants(pid: int) -> Iterator[int]:
    """Of a process that is alive, whose descendants do not end meanwhile."""
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield from (child, *descendants(child))


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_one_that_was_built_from_the_very_same_is_not_fetched_again(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from snf_image_helper_builder import code  # noqa: PLC0415
    from snf_image_helper_builder.build import inputs  # noqa: PLC0415
    from snf_image_helper_builder.recipe import Recipe  # noqa: PLC0415

    manifest = replace(Manifest.load(world.helper), inputs=inputs(Recipe("trixie"), code.packages()))
    (world.helper / "manifest.json").write_text(manifest.dump())
    with suppress(FileNotFoundError):
        world.tarball.unlink()
    assert world.update("--url", str(world.published)) == 0
    assert "up to date" in capsys.readouterr().out
