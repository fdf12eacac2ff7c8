# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a server of images does: the disk holds exactly the image, or it does not boot and the message says why."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import pairwise
from pathlib import Path

import pytest

from http_server import Answer, Answering, Asked, Document, FtpTroubles, How, ftp_server, http_server
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import check_fits, copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError
from snf_image_shared.process import run

pytestmark = [pytest.mark.root, pytest.mark.row(54, 55, 57, 58)]
MIB = 1 << 20
GARBAGE = b"\xa5"
DISK = 5 * MIB
IMAGE = random.Random(24).randbytes(3 * MIB + 512)
OTHER = bytes(byte ^ 1 for byte in IMAGE)
CHECKSUM = Checksum("sha256", hashlib.sha256(IMAGE).hexdigest())
TENTH = len(IMAGE) // 10 + 1
HTML = b"<!DOCTYPE html>\n<html><body>Please log in" + b"." * len(IMAGE)
LAST_MODIFIED = {"Last-Modified": "Sat, 21 Nov 2026 16:00:00 GMT"}
WEAK = {"ETag": 'W/"v1"'}
USUAL = Settings(image_allow="127.0.0.0/8", image_retries=2, image_stall_timeout=30)
# However slow this machine is: what takes too long for it is tried again, and again.
IMPATIENT = USUAL.model_copy(update={"image_stall_timeout": 2.0, "image_min_rate": 1, "image_retries": 1000})
HASTY = USUAL.model_copy(update={"image_stall_timeout": 0.2, "image_retries": 1000})


class Outcome(Enum):
    """What is on the disk in the end: the image, what was there before, or nothing that boots."""

    EXACT = auto()
    UNTOUCHED = auto()
    WIPED = auto()


@dataclass(frozen=True)
class Case:
    """What the server does with the path /image, and what becomes of that. `words` are in the message."""

    answer: Answer | Answering
    outcome: Outcome
    words: str = ""
    settings: Settings = field(default=USUAL)
    checksums: tuple[Checksum, ...] = ()
    others: dict[str, Answer | Answering] = field(default_factory=dict)
    requests: int | None = None


def good(answer: Answer | Answering, requests: int | None = None, *, is_checked: bool = False) -> Case:
    return Case(answer, Outcome.EXACT, checksums=(CHECKSUM,) if is_checked else (), requests=requests)


def refused(answer: Answer | Answering, words: str) -> Case:
    """Before anything was written."""
    return Case(answer, Outcome.UNTOUCHED, words)


def failed(answer: Answer | Answering, words: str, *, is_checked: bool = False) -> Case:
    """In the middle."""
    return Case(answer, Outcome.WIPED, words, checksums=(CHECKSUM,) if is_checked else ())


def in_turn(*answers: Answer | Answering) -> Answering:
    """One after the other; the last one then stays."""

    def answer(asked: Asked, earlier: int) -> Answer:
        found = answers[min(earlier, len(answers) - 1)]
        return found if isinstance(found, Answer) else found(asked, earlier)

    return answer


def cut(document: Document, after: int = len(IMAGE) // 2) -> Answering:
    """Each answer ends `after` so many bytes."""

    def answer(asked: Asked, earlier: int) -> Answer:
        return replace(document(asked, earlier), how=How.CUT, cut=after)

    return answer


def part(start: int, total: object, headers: dict[str, str], body: bytes = b"") -> Answer:
    """A part that says of itself what it likes."""
    body = body or IMAGE[start:]
    where = f"bytes {start}-{start + len(body) - 1}/{total}"
    return Answer(body, 206, {**headers, "Content-Range": where})


def to(location: str, status: int = 302) -> Answer:
    return Answer(b"this way", status, {"Location": location})


def chunked(document: Document, **changes: object) -> Answering:
    def answer(asked: Asked, earlier: int) -> Answer:
        return replace(document(asked, earlier), **{"how": How.CHUNKED, **changes})  # type: ignore[arg-type]

    return answer


def lower_case(headers: bytes) -> Answer:
    return Answer(raw=b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (headers, IMAGE))


SOUND = Document(IMAGE)
DATED = Document(IMAGE, LAST_MODIFIED)
PLAIN = Document(IMAGE, {})
ETAG = dict(SOUND.headers)
HALF = len(IMAGE) // 2
BUSY = Answer(b"busy", 503)
TRAILED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Digest: abc\r\n\r\n"
UNMARKED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTransfer-Encoding: identity\r\n\r\n%s"
CASES = {
    "whole": good(SOUND, 1),
    "without validators": good(PLAIN, 1),
    "chunked": good(chunked(SOUND), 1),
    "cut at every tenth": good(cut(SOUND, TENTH), 10),
    "cut at every tenth, with a date alone": good(cut(DATED, TENTH), 10),
    "cut at every tenth, with a checksum alone": good(cut(PLAIN, TENTH), 10, is_checked=True),
    "cut at every tenth, with a weak ETag and a checksum": good(cut(Document(IMAGE, WEAK), TENTH), 10, is_checked=True),
    "cut in chunks": good(in_turn(chunked(SOUND, how=How.CHUNKED_CUT), SOUND), 2),
    "cut before the first byte": good(in_turn(cut(SOUND, 0), SOUND), 2),
    "closed without a word": good(in_turn(Answer(how=How.DROPPED), SOUND), 2),
    "gone and back": good(in_turn(cut(SOUND), Answer(how=How.DROPPED), SOUND), 3),
    "500 at first": good(in_turn(Answer(status=500), SOUND), 2),
    "408 at first": good(in_turn(Answer(status=408), SOUND), 2),
    "429 with Retry-After": good(in_turn(Answer(status=429, headers={"Retry-After": "0"}), SOUND), 2),
    "503 with a date": good(
        in_turn(Answer(status=503, headers={"Retry-After": "Sat, 21 Nov 2020 16:00:00 GMT"}), SOUND), 2
    ),
    "503 in the middle": good(in_turn(cut(SOUND), BUSY, SOUND), 3),
    "lower-case headers": good(lower_case(b"content-length: %d\r\netag: x" % len(IMAGE)), 1),
    "lines without CR": good(Answer(raw=b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%s" % (len(IMAGE), IMAGE)), 1),
    "100 Continue before": good(
        Answer(
            raw=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(IMAGE), IMAGE)
        ),
        1,
    ),
    "a Content-Encoding that is none of ours": good(Answer(IMAGE, headers={"Content-Encoding": "gzip"}), 1),
    "without an end but that of the connection, with a checksum": good(
        Answer(IMAGE, how=How.UNFRAMED), 1, is_checked=True
    ),
    "redirects": Case(
        to("/b/c?d=(e)&f", 301),
        Outcome.EXACT,
        others={
            "/b/c": to("../g", 307),
            "/g": lambda asked, earlier: to(f"//{asked.headers['Host']}/h", 308),
            "/h": SOUND,
        },
        requests=4,
    ),
    "resumed where the redirect led to": Case(
        to("/mirror"), Outcome.EXACT, others={"/mirror": in_turn(cut(SOUND), SOUND)}, requests=3
    ),
    "resumed from another mirror": Case(
        in_turn(to("/mirror"), to("/second")),
        Outcome.EXACT,
        others={"/mirror": in_turn(cut(SOUND), Answer(status=403)), "/second": SOUND},
        requests=5,
    ),
    "stalled in the middle": Case(
        in_turn(lambda asked, earlier: replace(SOUND(asked, earlier), how=How.STALLED), SOUND),
        Outcome.EXACT,
        settings=IMPATIENT,
    ),
    "401": refused(Answer(status=401), "the server answered 401: give the URL with a user"),
    "403": refused(Answer(status=403), "the server answered 403: may this node have it"),
    "404": refused(Answer(b"gone", 404), "the server answered 404: correct the URL"),
    "410": refused(Answer(b"gone", 410), "the server answered 410"),
    "204": refused(Answer(status=204), "the server answered 204"),
    "304": refused(Answer(status=304), "the server answered 304"),
    "206 unasked": refused(part(0, len(IMAGE), {}), "206: it gives a part where all was asked for"),
    "500 for ever": refused(Answer(status=500), "and 3 failures (IMAGE_RETRIES), the last: the server answered 500"),
    "never an answer": refused(Answer(how=How.DROPPED), "closed the connection without an answer"),
    "a redirect to nowhere": refused(Answer(status=302), "answered 302 and no other URL"),
    "a redirect in circles": refused(to("/image"), "more than 5 redirects"),
    "a redirect to a file": refused(to("file:///etc/passwd"), "scheme 'file' is not one of"),
    "a redirect to FTP": refused(to("ftp://127.0.0.1/image"), "from http to ftp"),
    "a redirect to a private address": refused(to("http://10.0.0.1/image"), "10.0.0.1 is one that may not be asked"),
    "a redirect to a disguised address": refused(to("http://[::ffff:10.0.0.1]/image"), "10.0.0.1 is one that may not"),
    "no end but that of the connection": refused(Answer(IMAGE, how=How.UNFRAMED), "does not tell where the image ends"),
    "cut, and with an encoding that marks no end": refused(
        Answer(raw=UNMARKED % (len(IMAGE), IMAGE[:HALF])), "its end cannot be told"
    ),
    "an error page": refused(Answer(HTML[: len(IMAGE)]), "a web page"),
    "an empty image": refused(Answer(), "is empty"),
    "no HTTP": refused(Answer(raw=b"220 this is FTP\r\n"), "is it the right port?"),
    "two lengths": refused(
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n123456789"), "content-length"
    ),
    "a negative length": refused(
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -9\r\n\r\n"), "Content-Length is no number"
    ),
    "a folded line": refused(
        Answer(raw=b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 1\r\n\r\n1"), "none of HTTP"
    ),
    "a head without an end": refused(Answer(how=How.ENDLESS_HEAD), "head has more than 65536 bytes"),
    "larger than the disk": refused(Answer(bytes(DISK + 512)), "give a disk of at least"),
    "changed before the first byte": refused(
        in_turn(cut(SOUND, 0), Document(OTHER, {"ETag": '"v2"'})), "changed while it was downloaded"
    ),
    "changed ETag, and all of it": failed(
        in_turn(cut(SOUND), Document(OTHER, {"ETag": '"v2"'})), "changed while it was downloaded"
    ),
    "changed ETag of a part": failed(
        in_turn(cut(SOUND), part(HALF, len(IMAGE), {"ETag": '"v2"'}, OTHER[HALF:])), "another version"
    ),
    "a part without an ETag": failed(in_turn(cut(SOUND), part(HALF, len(IMAGE), {})), "another version"),
    "changed date of a part": failed(
        in_turn(cut(DATED), part(HALF, len(IMAGE), {"Last-Modified": "Sun, 22 Nov 2026 16:00:00 GMT"})),
        "another version",
    ),
    "changed size": failed(in_turn(cut(SOUND), part(HALF, len(IMAGE) + 512, ETAG)), "another size"),
    "no size of a part": failed(in_turn(cut(SOUND), part(HALF, "*", ETAG)), "size of the whole"),
    "another part": failed(in_turn(cut(SOUND), part(HALF + 1, len(IMAGE), ETAG)), "gives another part"),
    "a part that does not say which": failed(
        in_turn(cut(SOUND), Answer(IMAGE[HALF:], 206, ETAG)), "no Content-Range that can be understood"
    ),
    "a part of another length": failed(
        in_turn(cut(SOUND), replace(part(HALF, len(IMAGE), ETAG), announced=len(IMAGE))), "contradict each other"
    ),
    "all of it again": failed(in_turn(cut(SOUND), Answer(IMAGE, headers=ETAG)), "all of it again"),
    "416": failed(in_turn(cut(SOUND), Answer(status=416, headers=ETAG)), "answered 416"),
    "404 in the middle": failed(in_turn(cut(SOUND), Answer(status=404)), "answered 404"),
    "cut without validators": failed(cut(PLAIN), "neither an ETag nor a Last-Modified"),
    "cut in chunks without validators": failed(chunked(PLAIN, how=How.CHUNKED_CUT), "neither an ETag nor"),
    "cut in chunks, and no size of a part": failed(
        in_turn(chunked(SOUND, how=How.CHUNKED_CUT), part(HALF, "*", ETAG, IMAGE[HALF:-MIB])), "size of the whole"
    ),
    "cut with a weak ETag": failed(cut(Document(IMAGE, WEAK)), "neither an ETag nor a Last-Modified"),
    "shorter than announced": failed(
        in_turn(Answer(IMAGE, headers=ETAG, announced=len(IMAGE) + 512, how=How.CUT, cut=len(IMAGE)), SOUND),
        "answered 416",
    ),
    "longer than announced": failed(Answer(IMAGE, announced=len(IMAGE) - 512), "that it announced"),
    "chunks without an end": failed(Answer(how=How.ENDLESS), "larger than the disk"),
    "trailers behind the chunks": failed(Answer(raw=TRAILED % (len(IMAGE), IMAGE)), "trailers"),
    "another image behind the same ETag": failed(
        in_turn(cut(SOUND), part(HALF, len(IMAGE), ETAG, OTHER[HALF:])), CHECKSUM.digest, is_checked=True
    ),
    # It is too slow in the long run, or silent for too long if this machine is slow itself.
    "a byte now and then": Case(Answer(how=How.TRICKLED), Outcome.UNTOUCHED, "", HASTY),
    "no answer": Case(Answer(how=How.HELD), Outcome.UNTOUCHED, "(IMAGE_MIN_RATE)", HASTY),
}


def cut_at_each_tenth(document: Document) -> Answering:
    return cut(document, len(document.body) // 10 + 1)


def gone_in_the_end(document: Document) -> Answering:
    return in_turn(cut(document, len(document.body) - 1), Answer(status=404))


@pytest.fixture(scope="module")
def file_system(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A dump of a file system as large as IMAGE."""
    path = tmp_path_factory.mktemp("dump") / "dump"
    path.write_bytes(IMAGE)
    run(["mke2fs", "-q", "-F", "-t", "ext2", str(path), f"{len(IMAGE) // 1024}k"])
    return path.read_bytes()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(GARBAGE * DISK)
    return path


def deploy(disk: Path, wanted: WantedImage, settings: Settings) -> str:
    """What the failure says, "" if there is none."""
    try:
        with (
            Progress.start("inst", "", log=io.StringIO()) as progress,
            open_image(wanted, settings, progress) as image,
            open_target(disk) as target,
        ):
            assert image
            check_fits(image, target)
            copy(image, target, progress)
    except ImageError as error:
        return str(error)
    return ""


def outcome(disk: Path, image: bytes = IMAGE, start: int = 0) -> Outcome | None:
    """What is on the disk; None for something that must never be."""
    content = disk.read_bytes()
    if content == GARBAGE * DISK:
        return Outcome.UNTOUCHED
    if content[:EDGE] == bytes(EDGE) == content[-EDGE:]:
        return Outcome.WIPED
    behind = content[start + len(image) :]
    rest = GARBAGE * max(0, len(behind) - EDGE) + bytes(min(EDGE, len(behind)))
    has_head = start == 0 or content[510:512] == b"\x55\xaa"
    return Outcome.EXACT if has_head and content[start:] == image + rest else None


@pytest.mark.parametrize("name", CASES)
def test_the_disk_is_exact_or_does_not_boot(disk: Path, name: str) -> None:
    case = CASES[name]
    with http_server({"/image": case.answer, **case.others}) as server:
        said = deploy(disk, WantedImage(f"{server.url}/image?a=b", "diskdump", case.checksums), case.settings)
    assert outcome(disk) is case.outcome, said
    assert case.words in said
    assert (said == "") == (case.outcome is Outcome.EXACT)
    assert "\n" not in said
    if case.requests is not None:
        assert len(server.asked) == case.requests


@pytest.mark.parametrize("behave", [cut_at_each_tenth, chunked, gone_in_the_end])
@pytest.mark.parametrize("kind", ["gzip", "extdump"])
def test_so_it_is_with_images_of_other_formats(
    disk: Path, file_system: bytes, kind: str, behave: Callable[[Document], Answering]
) -> None:
    image, start, img_format = (file_system, EDGE, kind) if kind == "extdump" else (IMAGE, 0, "diskdump")
    stored = gzip.compress(image, 1) if kind == "gzip" else image
    with http_server({"/image": behave(Document(stored))}) as server:
        said = deploy(disk, WantedImage(f"{server.url}/image", img_format), USUAL)
    if behave is gone_in_the_end:
        # What is compressed is read ahead: perhaps to the end, before the disk is touched.
        assert outcome(disk, image, start) in {Outcome.WIPED, Outcome.UNTOUCHED}
        assert "answered 404" in said
    else:
        assert (outcome(disk, image, start), said) == (Outcome.EXACT, "")
        assert len(server.asked) == (10 if behave is cut_at_each_tenth else 1)


@pytest.mark.row(54)
@pytest.mark.parametrize(
    ("troubles", "wanted", "words"),
    [
        (FtpTroubles(), Outcome.EXACT, ""),
        (FtpTroubles(cuts=3, dates=("20261121160000",)), Outcome.EXACT, ""),
        (FtpTroubles(cuts=1, dates=("20261121160000", "20261122160000")), Outcome.WIPED, "another size or date"),
        (FtpTroubles(cuts=1), Outcome.WIPED, "neither an ETag nor a Last-Modified"),
    ],
    ids=["whole", "cut three times", "changed", "cut without a date"],
)
def test_so_it_is_with_ftp(disk: Path, troubles: FtpTroubles, wanted: Outcome, words: str) -> None:
    with ftp_server({"image": IMAGE}, "user", "password", troubles) as port:
        said = deploy(disk, WantedImage(f"ftp://user:password@127.0.0.1:{port}/image", "diskdump"), USUAL)
    assert outcome(disk) is wanted, said
    assert words in said
    assert "password" not in said
    left = [len(IMAGE) - start for start in troubles.starts]
    assert all(later == -(-earlier // 2) for earlier, later in pairwise(left))


def test_a_server_that_stalls_for_ever_is_given_up(disk: Path) -> None:
    def stall(asked: Asked, earlier: int) -> Answer:
        return replace(SOUND(asked, earlier), how=How.STALLED, cut=0 if "Range" in asked.headers else HALF)

    with http_server({"/image": stall}) as server:
        said = deploy(
            disk,
            WantedImage(f"{server.url}/image", "diskdump"),
            HASTY.model_copy(update={"image_retries": 1, "image_stall_timeout": 0.5}),
        )
    assert outcome(disk) in {Outcome.WIPED, Outcome.UNTOUCHED}  # a slow machine does not get that far in so little time
    assert "and 2 failures (IMAGE_RETRIES), the last: the server" in said
