# SPDX-License-Identifier: GPL-2.0-or-later
"""Images at URLs, by the real curl in its jail, from nginx and servers of our own. For faults see tests/hostile."""

from __future__ import annotations

import os
import random
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from http_server import Answer, Document, FtpTroubles, How, HttpServer, ftp_server, http_server, self_signed, tunnel
from nginx import nginx
from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.download import NetworkOrigin, check_url, is_url
from snf_image_host.downloads.download_stream import Download
from snf_image_host.downloads.validators import Validators
from snf_image_shared.errors import ConfigurationError, ImageError, RequestError

pytestmark = pytest.mark.root
PROJECT = Path(__file__).resolve().parents[3]
SECRET = f"s3cr3t-{secrets.token_hex(6)}"
MIB = 1 << 20
IMAGE = random.Random(7).randbytes(3 * MIB + 11)
HERE = Settings(image_allow="127.0.0.0/8 ::1 localhost", image_retries=1)
DATE = {"Last-Modified": "Sat, 21 Nov 2026 16:00:00 GMT"}


def read(stream: Download, size: int | None = None) -> bytes:
    """The rest of the stream, or its next bytes."""
    content = bytearray()
    buffer = memoryview(bytearray(MIB))
    while size is None or len(content) < size:
        count = stream.readinto(buffer[: MIB if size is None else min(MIB, size - len(content))])
        if not count:
            break
        content += buffer[:count]
    return bytes(content)


def download(url: str, settings: Settings = HERE) -> bytes:
    with NetworkOrigin(url, settings).open() as stream:
        return read(stream)


def refusal(url: str, settings: Settings = HERE) -> str:
    with pytest.raises(ImageError) as caught:
        download(url, settings)
    return str(caught.value)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server({"/image": Document(IMAGE), "/moved": to("/image")}) as running:
        yield running


def to(location: str) -> Answer:
    return Answer(status=302, headers={"Location": location})


def descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from descendants(child)


def curls(pid: int) -> list[int]:
    """The processes of curl below a process."""
    found = []
    for each in descendants(pid):
        with suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{each}/comm").read_text() == "curl\n":
                found.append(each)
    return found


def shows_secret(pid: int) -> bool:
    """Whether its arguments or its environment do."""
    return any(SECRET.encode() in Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


@contextmanager
def published(certificate: Path) -> Iterator[Path]:
    """The certificate alone, without its key, where any user may read it."""
    (directory := Path(tempfile.mkdtemp(dir="/var/tmp"))).chmod(0o755)
    path = directory / "ca.pem"
    try:
        path.write_bytes(b"-----BEGIN CERT" + certificate.read_bytes().partition(b"-----BEGIN CERT")[2])
        yield path
    finally:
        path.unlink()
        directory.rmdir()


@pytest.mark.row(54, 57)
def test_nginx_gives_an_image_and_goes_on_where_a_connection_broke(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(large := IMAGE * 8)
    told: list[str] = []
    with (
        nginx(tmp_path) as server,
        NetworkOrigin(f"{server.url}/image", HERE, tell=told.append).open() as stream,
    ):
        assert stream.size == len(large)
        content = read(stream, MIB)
        for pid in curls(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        assert content + read(stream) == large
        log = server.access_log.read_text()
    assert re.findall(r'"GET /image HTTP/1\.1" (\d+)', log) == ["200", "206"]
    assert len(told) == 1


@pytest.mark.row(54)
def test_nginx_gives_it_over_tls_to_who_trusts_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/image").write_bytes(IMAGE)
    certificate = self_signed(tmp_path)
    with nginx(tmp_path / "root", certificate=certificate) as server, published(certificate) as authority:
        url = f"{server.url}/image"
        assert "TLS failed: SSL certificate problem" in refusal(url)
        for curl in (f"curl --cacert {authority}", "curl -k", "curl -fL -k --compressed"):
            assert download(url, HERE.model_copy(update={"curl": curl})) == IMAGE


@pytest.mark.row(57)
def test_nginx_says_whether_it_has_the_same_image_still(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    with nginx(tmp_path) as server:
        origin = NetworkOrigin(f"{server.url}/image", HERE)
        with origin.open() as stream:
            validators = stream.validators
        assert (validators.can_be_asked, validators.size) == (True, len(IMAGE))
        assert origin.unchanged(validators)
        assert origin.unchanged(Validators("", validators.last_modified, validators.size))
        assert not origin.unchanged(Validators('"other"', "", validators.size))
        (tmp_path / "image").write_bytes(IMAGE[1:])
        assert not origin.unchanged(validators)
        (tmp_path / "image").unlink()
        assert not origin.unchanged(validators)
    with pytest.raises(ImageError, match="cannot be connected to"):
        origin.unchanged(validators)


@pytest.mark.row(54)
def test_a_server_of_ftp_has_the_same_file_while_size_and_date_stay() -> None:
    dated = FtpTroubles(dates=("20261121160000", "20261121160000", "20261122160000"))
    for troubles, found in ((dated, [True, False]), (FtpTroubles(), [False, False])):
        with ftp_server({"image": IMAGE}, "user", SECRET, troubles) as port:
            origin = NetworkOrigin(f"ftp://user:{SECRET}@127.0.0.1:{port}/image", HERE)
            with origin.open() as stream:
                assert read(stream) == IMAGE
            assert [origin.unchanged(stream.validators) for _ in range(2)] == found
            assert "does not have the file" in refusal(f"ftp://user:{SECRET}@127.0.0.1:{port}/other")
            assert "refuses the log-in" in refusal(f"ftp://user:wrong@127.0.0.1:{port}/image")


def test_a_server_that_tells_no_version_is_not_asked_for_it(server: HttpServer) -> None:
    assert not NetworkOrigin(f"{server.url}/image", HERE).unchanged(Validators(size=len(IMAGE)))
    assert server.asked == []


def test_a_server_that_cannot_answer_now_has_not_said_that_anything_changed() -> None:
    with http_server({"/image": Answer(status=503)}) as server, pytest.raises(ImageError, match="answered 503"):
        NetworkOrigin(f"{server.url}/image", HERE).unchanged(Validators('"v1"'))


@pytest.mark.row(56)
def test_the_server_is_asked_for_what_the_url_says_once_and_for_all_of_it(server: HttpServer) -> None:
    old = HERE.model_copy(update={"curl": "curl -fL --compressed --retry 3 --retry-all-errors"})
    assert download(f"{server.url}/image?a=b&c=(d)&e=[1-3]", old) == IMAGE
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("GET", "/image?a=b&c=(d)&e=[1-3]")
    assert {"Accept-Encoding", "Range", "TE"}.isdisjoint(asked.headers)
    assert re.fullmatch(r"snf-image/[0-9][0-9A-Za-z.]*", asked.headers["User-Agent"])


def test_what_is_no_longer_read_is_not_sent_any_longer() -> None:
    with http_server({"/image": Answer(how=How.ENDLESS)}) as server:
        with NetworkOrigin(f"{server.url}/image", HERE).open() as stream:
            assert stream.size is None
            assert read(stream, MIB) == b"x" * MIB
            (curl,) = curls(os.getpid())
            process = os.pidfd_open(curl)
        wait_for_end(process)


def test_no_descriptor_is_left(server: HttpServer) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    assert download(f"{server.url}/moved") == IMAGE
    refusal(f"{server.url}/nothing")
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_killed_run_leaves_no_process() -> None:
    script = f"""
import sys
sys.path[:0] = [{str(PROJECT / "host")!r}, {str(PROJECT / "shared")!r}]
from snf_image_host.downloads.download import NetworkOrigin
from snf_image_host.configuration.settings import Settings
with NetworkOrigin(sys.argv[1], Settings(image_allow="127.0.0.1")).open() as stream:
    stream.readinto(memoryview(bytearray(1)))
    print("begun", flush=True)
    sys.stdin.read()
"""
    with http_server({"/image": Answer(IMAGE, how=How.STALLED)}) as server:
        run = subprocess.Popen(
            [sys.executable, "-c", script, f"{server.url}/image"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert run.stdout
        assert run.stdout.readline() == b"begun\n"
        (curl,) = curls(run.pid)
        held = [entry for entry in Path(f"/proc/{curl}/fd").iterdir() if int(entry.name) > 2]
        assert [str(entry.readlink()).partition(":")[0] for entry in held].count("pipe") == 1  # the leash
        process = os.pidfd_open(curl)
        run.kill()
        run.communicate()
        wait_for_end(process)


def wait_for_end(process: int) -> None:
    """Wait for the end of a process by its descriptor, and close that."""
    ended = select.poll()
    ended.register(process, select.POLLIN)
    assert ended.poll(60_000), "curl is still alive"
    os.close(process)


@pytest.mark.row(54)
def test_nobody_sees_the_url_and_curl_has_no_rights() -> None:
    with http_server({f"/{SECRET}/image": Answer(IMAGE, how=How.STALLED)}) as server:
        url = server.url.replace("://", f"://user:{SECRET}@")
        origin = NetworkOrigin(f"{url}/{SECRET}/image?token={SECRET}", HERE)
        with origin.open() as stream:
            assert SECRET not in repr(origin) + origin.name + stream.name + origin.basename
            read(stream, 1)
            (curl,) = curls(os.getpid())
            lines = Path(f"/proc/{curl}/status").read_text().splitlines()
            assert [pid for pid in descendants(os.getpid()) if shows_secret(pid)] == []
    status = {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}
    assert int(status["Uid"].split()[0]) >= 1_900_000_000
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.row(55)
def test_a_password_goes_to_the_server_it_is_for_and_to_no_other(server: HttpServer) -> None:
    with http_server({"/away": to(f"{server.url}/image"), "/here": to("image"), "/image": Document(IMAGE)}) as first:
        url = first.url.replace("://", f"://user:{SECRET}@")
        assert download(f"{url}/away") == download(f"{url}/here") == IMAGE
    assert ["Authorization" in asked.headers for asked in first.asked] == [True, True, True]
    assert ["Authorization" in asked.headers for asked in server.asked] == [False]


@pytest.mark.row(55)
def test_no_redirect_leads_out_of_tls_or_to_a_denied_address(server: HttpServer, tmp_path: Path) -> None:
    trusting = HERE.model_copy(update={"curl": "curl -k"})
    with http_server({"/": to(f"{server.url}/image")}, certificate=self_signed(tmp_path)) as secure:
        assert "from https to http" in refusal(f"{secure.url}/", trusting)
    narrow = Settings(image_allow="127.0.0.1")
    with http_server({"/image": Document(IMAGE)}, "127.0.0.2") as denied:
        with http_server({"/": to(f"{denied.url}/image")}) as first:
            assert "127.0.0.2 is one that may not be asked (IMAGE_DENY)" in refusal(f"{first.url}/", narrow)
            assert len(first.asked) == 1
        assert denied.asked == []
    assert server.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "127.1"])
def test_what_only_this_node_can_ask_is_not_asked_however_it_is_written(server: HttpServer, host: str) -> None:
    text = refusal(f"http://{host}:{server.port}/image", Settings())
    assert "may not be asked (IMAGE_DENY)" in text
    assert "IMAGE_ALLOW" in text
    assert server.asked == []


def test_a_host_that_is_allowed_by_its_name_is_asked(server: HttpServer) -> None:
    by_name = Settings(image_allow="LocalHost")
    assert download(f"http://localhost:{server.port}/image", by_name) == IMAGE
    assert "IMAGE_DENY" in refusal(f"{server.url}/image", by_name)


def test_a_name_that_means_another_host_by_now_leads_nowhere_else(server: HttpServer) -> None:
    """As when a name service answers curl otherwise than us: what was checked is what is connected to."""
    elsewhere = HERE.model_copy(update={"curl": f"curl --resolve localhost:{server.port}:127.0.0.3"})
    assert download(f"http://localhost:{server.port}/image", elsewhere) == IMAGE


def test_an_address_of_ipv6_is_one_of_a_server() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return  # there is no IPv6 on this machine
    with http_server({"/image": Document(IMAGE)}, "::1") as server:
        assert download(f"{server.url}/image") == IMAGE


@pytest.mark.row(54)
def test_a_proxy_of_the_administrator_is_asked_instead() -> None:
    asked = iter([How.CUT, How.WHOLE])
    sound = Document(IMAGE)

    def answer(*question: object) -> Answer:
        return replace(sound(*question), how=next(asked))  # type: ignore[arg-type]

    with http_server({"http://images.invalid/image": answer}) as proxy:
        settings = HERE.model_copy(update={"curl": f"curl --proxy {proxy.url}"})
        assert download("http://images.invalid/image", settings) == IMAGE
        for host in ("10.0.0.1", "0x0a.1", "167772161", "10.0.0.1.", "[::ffff:10.0.0.1]"):
            assert "may not be asked (IMAGE_DENY)" in refusal(f"http://{host}/image", settings)
    assert len(proxy.asked) == 2


@pytest.mark.row(54)
@pytest.mark.parametrize("options", ["--proxy PROXY --noproxy other.invalid,localhost", "--proxy-insecure", "-x ''"])
def test_what_curl_asks_without_the_proxy_is_checked_and_pinned(server: HttpServer, options: str) -> None:
    with http_server({}) as proxy:
        curl = f"curl --resolve localhost:{server.port}:127.0.0.3 {options.replace('PROXY', proxy.url)}"
        settings = HERE.model_copy(update={"curl": curl})
        assert download(f"http://localhost:{server.port}/image", settings) == IMAGE
        closed = Settings(curl=curl, image_retries=0)
        assert "may not be asked (IMAGE_DENY)" in refusal(f"http://localhost:{server.port}/image", closed)
    assert len(server.asked) == 1
    assert proxy.asked == []


@pytest.mark.row(54)
def test_a_proxy_may_be_a_way_through_to_a_server_with_tls(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with http_server({"/image": Document(IMAGE)}, certificate=certificate) as server, tunnel() as port:
        settings = HERE.model_copy(update={"curl": f"curl -k --proxy http://127.0.0.1:{port}"})
        assert download(f"https://images.invalid:{server.port}/image", settings) == IMAGE


@pytest.mark.parametrize("path", ["", "/", "/images/", "/image;type=a", "/image;type=D"])
def test_what_ftp_would_list_or_convert_is_no_image(path: str) -> None:
    assert "give the URL of a file" in refusal(f"ftp://127.0.0.1:1{path}")


@pytest.mark.row(55)
def test_what_a_server_refuses_is_told_whatever_curl_is_to_make_of_it() -> None:
    with http_server({"/image": Answer(b"gone" * MIB, 410)}) as server:
        for curl in ("curl", "curl -fL", "curl --fail-with-body"):
            settings = HERE.model_copy(update={"curl": curl})
            assert "the server answered 410: correct the URL" in refusal(f"{server.url}/image", settings)


def test_a_server_or_a_host_that_is_not_there_is_told_at_once() -> None:
    with http_server({}) as server:
        url = server.url
    stubborn = HERE.model_copy(update={"image_retries": 1000})
    assert f"image {url}/image: cannot be connected to" in refusal(f"{url}/image", stubborn)
    assert "nowhere.invalid: there is no host of that name" in refusal("http://nowhere.invalid/image", stubborn)


@pytest.mark.parametrize(
    ("curl", "words"),
    [("curl --no-such-option", "--no-such-option"), ("curl-that-is-not-there", "apt install curl")],
)
def test_a_curl_that_cannot_be_run_is_the_administrators_matter(server: HttpServer, curl: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        download(f"{server.url}/image", HERE.model_copy(update={"curl": curl}))
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "name", "basename"),
    [
        ("https://u:p@h/debian.raw?x=y#z", "image https://h/debian.raw", "debian.raw"),
        ("https://h:8443/a/b/c%20d.raw", "image https://h:8443/.../c%20d.raw", "c d.raw"),
        ("ftp://h/a/b%2Fc", "image ftp://h/.../b%2Fc", "b%2Fc"),
        ("http://h/a%0Ab", "image http://h/a%0Ab", "a%0Ab"),
        ("http://h", "image http://h/", ""),
    ],
)
def test_an_image_is_called_by_its_host_and_its_last_name(url: str, name: str, basename: str) -> None:
    origin = NetworkOrigin(url, Settings())
    assert (origin.name, origin.basename) == (name, basename)


@pytest.mark.parametrize("img_id", ["http://h/", "HTTPS://h/", "ftp://h/", "ftps:x", "http:"])
def test_a_scheme_that_is_fetched_makes_a_url(img_id: str) -> None:
    assert is_url(img_id)


@pytest.mark.parametrize("img_id", ["null", "debian", "local://a", "file:///a", "pithos://a", "s3://a/b", "a/http"])
def test_all_else_is_none(img_id: str) -> None:
    assert not is_url(img_id)


@pytest.mark.parametrize(
    "img_id",
    [
        *("http:x", "http://", "http:///image", "http://h/a b", "http://h/\r\nHost: x", "http://h/\0", "http://höst/"),
        *("http://user:password@ex\u2100mple/", "http://user:password@[::1/", "http://user:pass[word@h/"),
        *("http://[::::]/", "http://[1.2.3.4]/", "http://[.]/"),
        *("http://h:0x50/", "http://h:99999/", "http://h\\@i/", "http://a@b@c/", "http://[::1/", "ftps://"),
    ],
)
def test_a_url_that_can_never_be_fetched_is_refused_without_asking_anybody(img_id: str) -> None:
    with pytest.raises(RequestError, match="OS parameter img_id: not a URL"):
        check_url(img_id, Settings())
    origin = NetworkOrigin(img_id, Settings())
    with pytest.raises(RequestError, match="OS parameter img_id: not a URL"), origin.open():
        pass
    # Whatever is asked of it first: Python's own parser would quote the password of some of them.
    for ask in (lambda: origin.name, lambda: origin.basename, lambda: origin.beside("SHA256SUMS")):
        with pytest.raises(RequestError, match="OS parameter img_id: not a URL"):
            ask()


def beside(url: str, name: str) -> bytes | None:
    return NetworkOrigin(url, HERE).beside(name)


@pytest.mark.row(54)
def test_what_lies_beside_an_image_is_found_by_its_name_alone() -> None:
    answers = {"/a/SHA256SUMS": Answer(b"sums"), "/a/b%20c%3F.sha256": Answer(b"one"), "/a/d": to("/a/SHA256SUMS")}
    with http_server(answers) as server:
        url = f"{server.url}/a/image?token={SECRET}#x"
        assert beside(url, "SHA256SUMS") == beside(url, "d") == b"sums"
        assert beside(url, "b c?.sha256") == b"one"
    assert not any(SECRET in asked.target for asked in server.asked)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_does_not_lie_beside_it_is_nothing(status: int) -> None:
    with http_server({"/SHA256SUMS": Answer(b"no", status)}) as server:
        assert beside(f"{server.url}/image", "SHA256SUMS") is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(status=500), "answered 500"),
        (Answer(how=How.DROPPED), "closed the connection"),
        (Answer(b"x" * (MIB + 1)), "larger than 1048576 bytes"),
        (to("http://10.0.0.1/SHA256SUMS"), "10.0.0.1 is one that may not be asked (IMAGE_DENY)"),
        (to("file:///etc/passwd"), "scheme 'file'"),
    ],
)
def test_what_cannot_be_had_is_not_taken_for_nothing(answer: Answer, words: str) -> None:
    with http_server({"/SHA256SUMS": answer}) as server, pytest.raises(ImageError) as caught:
        beside(f"{server.url}/image", "SHA256SUMS")
    assert words in str(caught.value)
    assert "SHA256SUMS beside it" in str(caught.value)
