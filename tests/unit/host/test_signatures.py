# SPDX-License-Identifier: GPL-2.0-or-later
"""Which signatures count: real ones, made by real GnuPG, given to the real gpgv in its jail."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publishers import LONG_AGO, Publisher, publisher
from snf_image_host.images.signatures import (
    LARGEST_SIGNATURE,
    DetachedSignature,
    Keyring,
    Verdict,
    signed_text,
    verdict_of,
)
from snf_image_shared.errors import ConfigurationError, ImageError

PROJECT = Path(__file__).resolve().parents[3]
MIB = 1 << 20
IMAGE = os.urandom(3 * MIB)  # more than a pipe holds
FINGERPRINT = "A" * 40
GOOD = f"""[GNUPG:] NEWSIG
[GNUPG:] KEY_CONSIDERED {FINGERPRINT} 0
[GNUPG:] GOODSIG AAAAAAAAAAAAAAAA Publisher <publisher@example.org>
[GNUPG:] VALIDSIG {FINGERPRINT} 2026-11-21 1795279778 0 4 0 22 8 00 {FINGERPRINT}
"""

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def ours() -> Iterator[Publisher]:
    """Whose key is in the keyring."""
    with publisher() as made:
        yield made


@pytest.fixture(scope="module")
def stranger() -> Iterator[Publisher]:
    with publisher() as made:
        yield made


def verdict(signature: bytes, signer: Publisher, image: bytes = IMAGE) -> Verdict:
    """Of an image that is read in pieces."""
    checked = DetachedSignature("image.sig", signature, Keyring.read(str(signer.keyring)))
    checked.start()
    try:
        for at in range(0, len(image), 1_000_000):
            checked.feed(memoryview(image)[at : at + 1_000_000])
        return checked.verdict()
    finally:
        checked.close()


def early(signature: bytes, signer: Publisher) -> Verdict:
    return DetachedSignature("image.sig", signature, Keyring.read(str(signer.keyring))).early_verdict()


def test_a_signature_by_a_key_of_the_keyring_counts(ours: Publisher) -> None:
    signature = ours.signature(IMAGE)
    assert not early(signature, ours).doubts
    found = verdict(signature, ours)
    assert not found.doubts
    assert [len(signer) for signer in found.signers] == [40]


def test_an_armoured_signature_is_as_good(ours: Publisher) -> None:
    assert not verdict(ours.signature(IMAGE, "--armor"), ours).doubts


def test_an_empty_image_can_be_signed(ours: Publisher) -> None:
    assert not verdict(ours.signature(b""), ours, b"").doubts


def test_what_never_ran_vouches_for_nothing(ours: Publisher) -> None:
    checked = DetachedSignature("image.sig", ours.signature(b""), Keyring.read(str(ours.keyring)))
    checked.feed(memoryview(b""))
    assert checked.verdict().doubts


def test_it_may_be_fed_by_threads_that_end_before_it(ours: Publisher) -> None:
    checked = DetachedSignature("image.sig", ours.signature(IMAGE), Keyring.read(str(ours.keyring)))
    checked.start()
    for at in range(0, len(IMAGE), MIB):
        thread = threading.Thread(target=checked.feed, args=(memoryview(IMAGE)[at : at + MIB],))
        thread.start()
        thread.join()
    assert not checked.verdict().doubts
    checked.close()


def test_an_image_can_be_fed_again_from_its_beginning(ours: Publisher) -> None:
    checked = DetachedSignature("image.sig", ours.signature(IMAGE), Keyring.read(str(ours.keyring)))
    checked.start()
    checked.feed(memoryview(IMAGE)[:100])
    checked.start()
    checked.feed(memoryview(IMAGE))
    assert not checked.verdict().doubts
    checked.close()


@pytest.mark.parametrize("where", [0, len(IMAGE) // 2, len(IMAGE) - 1])
def test_one_other_byte_and_it_does_not_hold(ours: Publisher, where: int) -> None:
    other = bytearray(IMAGE)
    other[where] ^= 1
    found = verdict(ours.signature(IMAGE), ours, bytes(other))
    assert found == Verdict(frozenset({"BADSIG"}))
    assert found.text == "is of other bytes: the image was changed, or it is the signature of another one"


def test_a_byte_more_or_less_and_it_does_not_hold(ours: Publisher) -> None:
    signature = ours.signature(IMAGE)
    assert verdict(signature, ours, IMAGE[:-1]).doubts == verdict(signature, ours, IMAGE + b"\0").doubts == {"BADSIG"}


def test_the_key_of_a_stranger_is_known_to_be_one_before_the_image_is_read(
    ours: Publisher, stranger: Publisher
) -> None:
    signature = stranger.signature(IMAGE)
    assert early(signature, ours).text == "is by a key that is not in VERIFY_KEYRING"
    assert "NO_PUBKEY" in verdict(signature, ours).doubts


def test_every_signature_of_a_file_has_to_hold(ours: Publisher, stranger: Publisher) -> None:
    good, of_other, strange = ours.signature(IMAGE), ours.signature(b"other"), stranger.signature(IMAGE)
    assert not verdict(good + ours.signature(IMAGE), ours).doubts
    assert "BADSIG" in verdict(good + of_other, ours).doubts
    assert "BADSIG" in verdict(of_other + good, ours).doubts
    assert "NO_PUBKEY" in verdict(good + strange, ours).doubts
    assert "NO_PUBKEY" in verdict(strange + good, ours).doubts


def test_a_signature_that_has_expired_does_not_count(ours: Publisher) -> None:
    with publisher(*LONG_AGO) as old:
        signature = old.signature(IMAGE, *LONG_AGO, "--default-sig-expire", "1d")
        assert verdict(signature, old).text == "has expired"


def test_a_key_that_has_expired_does_not_count() -> None:
    with publisher(*LONG_AGO, expires="1d") as late:
        signature = late.signature(IMAGE, *LONG_AGO)
        assert verdict(signature, late).text == "is by a key that has expired"


def test_a_key_that_was_revoked_does_not_count() -> None:
    with publisher() as sorry:
        signature = sorry.signature(IMAGE)
        sorry.revoke()
        assert verdict(signature, sorry).text == "is by a key that was revoked"


def test_a_signature_with_sha1_does_not_count(ours: Publisher) -> None:
    assert verdict(ours.signature(IMAGE, "--digest-algo", "SHA1"), ours).doubts == {"ERRSIG"}


@pytest.mark.parametrize("junk", [b"", b"\0" * 100, b"<html>404</html>", b"-----BEGIN PGP SIGNATURE-----\n\nx\n"])
def test_what_is_no_signature_is_refused_before_the_image_is_read(ours: Publisher, junk: bytes) -> None:
    assert early(junk, ours).doubts


def test_a_signed_message_is_no_signature_of_an_image(ours: Publisher) -> None:
    for how in ("--sign", "--clearsign"):
        assert early(ours.gpg(how, stdin=IMAGE[:1000]), ours).doubts
        assert verdict(ours.gpg(how, stdin=IMAGE[:1000]), ours, IMAGE[:1000]).doubts


def test_a_signature_of_a_text_is_none_of_an_image(ours: Publisher) -> None:
    """It holds for two images that differ in the ends of what it takes for lines."""
    signature = ours.signature(b"a\nb\n", "--textmode")
    assert verdict(signature, ours, b"a\nb\n").doubts
    assert verdict(signature, ours, b"a\r\nb\r\n").doubts


def test_a_signature_larger_than_any_is_not_looked_at(ours: Publisher) -> None:
    with pytest.raises(ImageError, match=r"image\.sig has 65537 bytes, too many for a signature"):
        DetachedSignature("image.sig", bytes(LARGEST_SIGNATURE + 1), Keyring.read(str(ours.keyring)))


def test_of_a_clearsigned_text_that_part_counts_which_is_signed(ours: Publisher, stranger: Publisher) -> None:
    keyring = Keyring.read(str(ours.keyring))
    text = ours.gpg("--clearsign", stdin=b"- first\nsecond\n")
    assert signed_text(text, keyring) == (b"- first\nsecond\n", Verdict(frozenset(), signers(ours)))
    signed, _ = signed_text(b"before\n" + text + b"after\n", keyring)
    assert b"before" not in signed
    assert b"after" not in signed
    assert signed_text(text.replace(b"second", b"zecond"), keyring)[1].doubts
    assert signed_text(stranger.gpg("--clearsign", stdin=b"x\n"), keyring)[1].doubts
    two = text + ours.gpg("--clearsign", stdin=b"more\n")
    assert signed_text(two, keyring)[1].doubts


def signers(of: Publisher) -> tuple[str, ...]:
    lines = of.gpg("--with-colons", "--list-keys").decode().splitlines()
    return (next(line.split(":")[9] for line in lines if line.startswith("fpr:")),)


def test_gpgv_is_gone_when_the_check_is_closed(ours: Publisher) -> None:
    checked = DetachedSignature("image.sig", ours.signature(IMAGE), Keyring.read(str(ours.keyring)))
    checked.start()
    checked.feed(memoryview(IMAGE)[:100])
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    running, descriptors = set(children.read_text().split()), len(os.listdir("/proc/self/fd"))
    checked.close()
    assert len(running - set(children.read_text().split())) == 1
    assert len(os.listdir("/proc/self/fd")) == descriptors - 4  # its pipe, keyring, signature and status


def test_gpgv_does_not_outlive_a_run_that_is_killed(ours: Publisher, tmp_path: Path) -> None:
    (tmp_path / "image.sig").write_bytes(ours.signature(IMAGE))
    script = f"""
import sys
sys.path[:0] = {[str(PROJECT / name) for name in ("host", "shared")]!r}
from pathlib import Path
from snf_image_host.images.signatures import DetachedSignature, Keyring
checked = DetachedSignature("image.sig", Path(sys.argv[1]).read_bytes(), Keyring.read(sys.argv[2]))
checked.start()
checked.feed(memoryview(bytes({8 * MIB})))
print("fed", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "image.sig"), str(ours.keyring)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout and run.stdout.readline() == b"fed\n"  # all but what a pipe holds: so gpgv is reading
        (gpgv,) = (pid for pid in descendants(run.pid) if Path(f"/proc/{pid}/comm").read_text() == "gpgv\n")
        process = os.pidfd_open(gpgv)
        os.kill(gpgv, signal.SIGSTOP)  # so that it is not the end of its input that ends it
        run.kill()
    ended = select.poll()
    ended.register(process, select.POLLIN)
    assert ended.poll(60_000), "gpgv is still there"
    os.close(process)


def descendants(pid: int) -> Iterator[int]:
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield child
        yield from descendants(child)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds no OpenPGP keys"),
        (b"garbage", "holds no OpenPGP keys"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "is in ASCII armour.*gpg --dearmor"),
    ],
)
def test_a_keyring_that_is_none_is_the_administrators_to_correct(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^VERIFY_KEYRING {tmp_path}/keys:? {text}"):
        Keyring.read(str(tmp_path / "keys"))


def test_no_keyring_at_all_is_one_line_with_a_cure() -> None:
    with pytest.raises(ConfigurationError, match=r"^VERIFY=signature needs VERIFY_KEYRING: .*gpg --export"):
        Keyring.read("")


def test_a_keybox_is_a_keyring_too(ours: Publisher) -> None:
    box = ours.home / "pubring.kbx"
    assert box.is_file()
    checked = DetachedSignature("image.sig", ours.signature(b"x"), Keyring.read(str(box)))
    checked.start()
    checked.feed(memoryview(b"x"))
    assert not checked.verdict().doubts
    checked.close()


def test_a_keyring_that_only_begins_like_one_vouches_for_nothing(ours: Publisher, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(ours.keyring.read_bytes()[:20])
    checked = DetachedSignature("image.sig", ours.signature(b"x"), Keyring.read(str(tmp_path / "keys")))
    assert checked.early_verdict().doubts


def test_status_lines_are_good_only_if_nothing_is_missing_and_nothing_else_is_said() -> None:
    assert verdict_of(GOOD, 0, is_detached=True) == Verdict(frozenset(), (FINGERPRINT,))
    assert verdict_of(GOOD + GOOD, 0, is_detached=True).signers == (FINGERPRINT, FINGERPRINT)
    bad = [
        (GOOD, 1),
        ("", 0),
        (GOOD.replace("[GNUPG:] NEWSIG\n", "") + "[GNUPG:] NEWSIG\n" * 2, 0),
        (GOOD.replace("GOODSIG", "GOODISH"), 0),
        (GOOD.replace(f" 22 8 00 {FINGERPRINT}", ""), 0),
        (GOOD.replace(" 8 00 ", " 8 01 "), 0),
        (GOOD + "[GNUPG:] PLAINTEXT 62 0 \n", 0),
        (GOOD.replace("[GNUPG:] ", "gpgv: "), 0),
        *((GOOD + f"[GNUPG:] {word} AAAA\n", 0) for word in ("REVKEYSIG", "EXPKEYSIG", "EXPSIG", "BADSIG", "ERRSIG")),
    ]
    for said, status in bad:
        assert verdict_of(said, status, is_detached=True).doubts, said


@given(st.lists(st.sampled_from(GOOD.splitlines()), max_size=8), st.text(max_size=50), st.sampled_from([0, 0, 2]))
def test_whatever_gpgv_says_it_is_good_only_with_as_many_of_each_line(lines: list[str], rest: str, status: int) -> None:
    found = verdict_of("\n".join([*lines, rest]), status, is_detached=True)
    counts = {lines.count(line) for line in GOOD.splitlines() if "CONSIDERED" not in line}
    assert bool(found.doubts) == (status != 0 or len(counts) != 1 or counts == {0})


def test_gpgv_has_no_rights_and_no_network(ours: Publisher, tmp_path: Path) -> None:
    """Looked at while it waits for more of the image."""
    checked = DetachedSignature("image.sig", ours.signature(IMAGE), Keyring.read(str(ours.keyring)))
    checked.start()
    checked.feed(memoryview(IMAGE)[: 2 << 20])  # it is past its start when it has taken more than the pipe holds
    try:
        tree = subprocess.run(["ps", "-eo", "pid,comm,args"], check=True, capture_output=True, text=True).stdout
        mine = [line.split()[0] for line in tree.splitlines() if line.split()[1:2] == ["gpgv"] and is_ours(line)]
        (pid,) = mine
        status = Path(f"/proc/{pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "Uid:\t0" not in status
        assert os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
        assert sorted(os.listdir(f"/proc/{pid}/root")) == [
            "bin",
            "dev",
            "keyring.gpg",
            "lib",
            "lib64",
            "sbin",
            "signature",
            "usr",
        ]
    finally:
        checked.close()


def is_ours(line: str) -> bool:
    """Whether a process of ps is a descendant of this one: other tests may run beside us."""
    pid = int(line.split(maxsplit=1)[0])
    while pid > 1 and pid != os.getpid():
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # another's, which has ended
            return False
    return pid == os.getpid()
