# SPDX-License-Identifier: GPL-2.0-or-later
"""The real curl in its real jail against real servers: one GET, within limits, and no secret where it can be seen."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_server import Answer, How, HttpServer, ftp_server, http_server, self_signed
from leaks import sightings
from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads.fetch import MAX_REDIRECTS, fetch, parse_url
from snf_image_shared.errors import ConfigurationError, RequestError

pytestmark = pytest.mark.root
SECRET = f"s3cr3t-{secrets.token_hex(6)}-path"  # made here: a copy of this file in a temporary place must not hold it
LIMIT = 4096  # bytes: FETCH_MAX_SIZE here
BODY = bytes(range(256)) * 4
SMALL = Settings(fetch_max_size=LIMIT)
IMPATIENT = Settings(fetch_timeout=1.0)


def to(target: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": target})


ANSWERS = {
    f"/{SECRET}": Answer(BODY),
    "/chunked": Answer(BODY, how=How.CHUNKED),
    "/as-much-as-may-be": Answer(b"x" * LIMIT, how=How.CHUNKED),
    "/a-byte-more": Answer(b"x" * (LIMIT + 1), how=How.CHUNKED),
    "/a-byte-more-announced": Answer(b"x" * (LIMIT + 1)),
    "/endless": Answer(how=How.ENDLESS),
    "/cut": Answer(BODY, how=How.CUT),
    "/trickled": Answer(how=How.TRICKLED),
    "/dropped": Answer(how=How.DROPPED),
    "/empty": Answer(),
    "/gone": Answer(b"gone" * LIMIT, 410),
    "/gone-for-ever": Answer(status=410, how=How.ENDLESS),
    "/busy": Answer(b"busy", 503, {"Retry-After": "0"}),
    "/unchanged": Answer(status=304),
    "/moved": to(f"/{SECRET}?a=b&c=(d)", 301),
    "/nowhere": to("gopher://127.0.0.1/"),
    "/to-a-file": to("file:///etc/passwd"),
    "/in-circles": to("/in-circles"),
    "/[1-3]": Answer(BODY),
}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server(ANSWERS) as running:
        yield running


def refusal(url: str, settings: Settings | None = None) -> str:
    """What is said of a URL that gives nothing; never more of it than scheme and host."""
    with pytest.raises(RequestError) as caught:
        fetch(url, "config_url", settings or Settings())
    text = str(caught.value)
    assert text.startswith("OS parameter config_url: ")
    assert SECRET not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("path", [SECRET, "chunked"], ids=["with length", "chunked"])
def test_the_bytes_are_those_of_the_server(server: HttpServer, path: str) -> None:
    assert fetch(f"{server.url}/{path}", "config_url", Settings()) == BODY


@pytest.mark.row(29)
def test_the_server_is_asked_once_with_get_and_told_who_asks(server: HttpServer) -> None:
    fetch(f"{server.url}/{SECRET}?a=b&c=(d)", "config_url", Settings())
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("GET", f"/{SECRET}?a=b&c=(d)")
    assert re.fullmatch(r"snf-image/[0-9][0-9A-Za-z.]*", asked.headers["User-Agent"])


def test_brackets_in_a_url_are_one_url(server: HttpServer) -> None:
    fetch(f"{server.url}/[1-3]", "config_url", Settings())
    assert [asked.target for asked in server.asked] == ["/[1-3]"]


@pytest.mark.row(29, 30)
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing", "the server answered 404: is the URL right, and not used up already?"),
        ("gone", "answered 410"),
        ("gone-for-ever", "answered 410"),
        ("busy", "answered 503"),
        ("unchanged", "answered 304"),
        ("cut", "cut off before its end"),
        ("dropped", "closed the connection without an answer"),
        ("empty", "the answer is empty"),
    ],
)
def test_a_failure_of_the_server_is_told_and_nothing_is_tried_again(server: HttpServer, path: str, words: str) -> None:
    stubborn = Settings(curl="curl -L --retry 3 --retry-all-errors --retry-delay 0", fetch_max_size=LIMIT)
    assert words in refusal(f"{server.url}/{path}?token={SECRET}", stubborn)
    assert server.methods == ["GET"]


@pytest.mark.row(30)
def test_an_answer_without_an_end_in_time_is_given_up(server: HttpServer) -> None:
    assert "no whole answer within 1 seconds (FETCH_TIMEOUT)" in refusal(f"{server.url}/trickled", IMPATIENT)
    assert len(server.asked) <= 1


@pytest.mark.parametrize("path", ["a-byte-more", "a-byte-more-announced", "endless"])
def test_an_answer_that_is_too_large_is_refused_however_it_is_sent(server: HttpServer, path: str) -> None:
    assert f"larger than {LIMIT} bytes (FETCH_MAX_SIZE)" in refusal(f"{server.url}/{path}", SMALL)


def test_an_answer_may_be_as_large_as_the_limit(server: HttpServer) -> None:
    assert fetch(f"{server.url}/as-much-as-may-be", "config_url", SMALL) == b"x" * LIMIT


def test_a_server_that_is_not_there_is_told() -> None:
    with http_server({}) as server:
        url = server.url
    assert f"{url}: cannot be connected to" in refusal(f"{url}/{SECRET}")


def test_a_host_without_an_address_is_told() -> None:
    assert "http://nowhere.invalid: there is no host of that name" in refusal(f"http://nowhere.invalid/{SECRET}")


def test_a_host_is_found_by_its_name(server: HttpServer) -> None:
    assert fetch(f"http://localhost:{server.port}/{SECRET}", "config_url", Settings()) == BODY
    assert server.asked[0].headers["Host"] == f"localhost:{server.port}"


def test_a_redirect_is_followed(server: HttpServer) -> None:
    assert fetch(f"{server.url}/moved", "config_url", Settings()) == BODY
    assert [asked.target for asked in server.asked] == ["/moved", f"/{SECRET}?a=b&c=(d)"]


@pytest.mark.parametrize("curl", ["curl", "curl -fL"])
def test_a_redirect_to_another_host_gets_no_password(server: HttpServer, curl: str) -> None:
    answers = {"/away": to(f"{server.url}/{SECRET}"), "/here": to(f"/{SECRET}"), f"/{SECRET}": Answer(b"here")}
    with http_server(answers) as first:
        with_password = first.url.replace("://", f"://user:{SECRET}@")
        assert fetch(f"{with_password}/away", "config_url", Settings(curl=curl)) == BODY
        assert fetch(f"{with_password}/here", "config_url", Settings(curl=curl)) == b"here"
    assert ["Authorization" in asked.headers for asked in first.asked] == [True, True, True]
    assert ["Authorization" in asked.headers for asked in server.asked] == [False]


def test_a_name_that_means_another_host_by_now_leads_nowhere_else(server: HttpServer) -> None:
    """As when a name service answers curl otherwise than us: what was checked is what is connected to."""
    elsewhere = Settings(curl=f"curl --resolve localhost:{server.port}:127.0.0.3")
    assert fetch(f"http://localhost:{server.port}/{SECRET}", "config_url", elsewhere) == BODY


def test_redirects_have_an_end(server: HttpServer) -> None:
    assert f"more than {MAX_REDIRECTS} redirects" in refusal(f"{server.url}/in-circles")
    assert len(server.asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("path", "words"), [("nowhere", "scheme 'gopher' is not one of"), ("to-a-file", "from http to file")]
)
def test_a_redirect_to_another_scheme_is_refused(server: HttpServer, path: str, words: str) -> None:
    settings = Settings(fetch_schemes="http https file")
    assert words in refusal(f"{server.url}/{path}", settings)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fe80::1]", "0xa9fea9fe", "2852039166", "[::ffff:169.254.169.254]", "0.0.0.0", "[::]"],
)
@pytest.mark.row(196)
def test_what_only_this_node_can_ask_is_not_asked_for_anybody(host: str) -> None:
    assert "may not be asked (FETCH_DENY)" in refusal(f"http://{host}:9/{SECRET}")


def test_a_denied_address_is_denied_by_name_and_by_redirect_too() -> None:
    with http_server({"/": Answer(BODY)}, "127.0.0.2") as denied, http_server({"/": to(f"{denied.url}/")}) as server:
        assert "127.0.0.2 is one that may not be asked" in refusal(
            f"{server.url}/", Settings(fetch_deny="127.0.0.2/32")
        )
        by_name = refusal(f"http://localhost:{server.port}/", Settings(fetch_deny="127.0.0.0/8 ::1/128"))
        assert "may not be asked" in by_name
        assert (len(server.asked), len(denied.asked)) == (1, 0)


@pytest.mark.row(36)
def test_a_certificate_nobody_vouches_for_is_refused_unless_the_administrator_says_so(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with http_server(ANSWERS, certificate=certificate) as server:
        assert "TLS failed: SSL certificate problem" in refusal(f"{server.url}/{SECRET}")
        assert server.asked == []
        assert fetch(f"{server.url}/{SECRET}", "config_url", Settings(curl="curl -k")) == BODY
        (published := Path(tempfile.mkdtemp(dir="/var/tmp"))).chmod(0o755)
        try:
            (published / "ca.pem").write_bytes(certificate.read_bytes().partition(b"-----BEGIN CERT")[2])
            (published / "ca.pem").write_bytes(b"-----BEGIN CERT" + (published / "ca.pem").read_bytes())
            trusting = Settings(curl=f"curl --cacert {published}/ca.pem")
            assert fetch(f"{server.url}/{SECRET}", "config_url", trusting) == BODY
        finally:
            (published / "ca.pem").unlink()
            published.rmdir()


def test_no_redirect_leads_out_of_tls(server: HttpServer, tmp_path: Path) -> None:
    with http_server({"/": to(f"{server.url}/{SECRET}")}, certificate=self_signed(tmp_path)) as secure:
        assert "from https to http" in refusal(f"{secure.url}/", Settings(curl="curl -k"))
    assert server.asked == []


def test_a_proxy_of_the_administrator_is_asked_instead(server: HttpServer) -> None:
    with http_server({f"http://config.invalid/{SECRET}": Answer(b"by proxy")}) as proxy:
        settings = Settings(curl=f"curl --proxy {proxy.url}")
        assert fetch(f"http://config.invalid/{SECRET}", "config_url", settings) == b"by proxy"


@pytest.mark.parametrize(
    ("curl", "words"),
    [("curl --no-such-option", "--no-such-option"), ("curl-that-is-not-there", "apt install curl")],
)
def test_a_curl_that_cannot_be_run_is_the_administrators_matter(server: HttpServer, curl: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        fetch(f"{server.url}/{SECRET}", "config_url", Settings(curl=curl))
    assert server.asked == []


def test_ftp_gives_a_file_to_who_may_have_it() -> None:
    with ftp_server({"answer.xml": BODY}, "user", SECRET) as port:
        assert fetch(f"ftp://user:{SECRET}@127.0.0.1:{port}/answer.xml", "config_url", Settings()) == BODY
        assert "does not have the file" in refusal(f"ftp://user:{SECRET}@127.0.0.1:{port}/other.xml")
        assert "refuses the log-in" in refusal(f"ftp://user:wrong@127.0.0.1:{port}/answer.xml")


@pytest.mark.row(196)
def test_files_of_the_node_are_not_given_away() -> None:
    assert "scheme 'file' is not one of http, https, ftp, ftps" in refusal("file:///etc/passwd")
    allowed = Settings(fetch_schemes="file")
    assert "cannot be read by an unprivileged user" in refusal("file:///etc/shadow", allowed)
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.write(BODY)
        file.flush()
        assert "cannot be read" in refusal(f"file://{file.name}", allowed)
        os.fchmod(file.fileno(), 0o644)
        assert fetch(f"file://{file.name}", "config_url", allowed) == BODY


@pytest.mark.parametrize(
    "url",
    [
        *("", "config.xml", "http:/host/", "http:///path", "http://a b/", "http://h\\@evil/", "http://a@b@c/"),
        *("http://h:0x50/", "http://h/\nurl=x", "http://höst/", "http://h:99999/", "http://[::1/", "-oq://h/"),
        "file://host/etc/passwd",
    ],
)
def test_what_is_no_url_is_refused_without_asking_anybody(url: str) -> None:
    with pytest.raises(RequestError, match="OS parameter config_url: "):
        parse_url(url, "config_url", Settings(fetch_schemes="http https file"))


@given(text=st.one_of(st.text(), st.from_regex(r"(https?|ftp)://[!-~]{0,30}/[!-~]*\?token=s3cr3t", fullmatch=True)))
def test_any_text_is_a_url_or_refused_and_what_is_shown_of_it_is_no_secret(text: str) -> None:
    try:
        url = parse_url(text, "config_url", Settings())
    except RequestError as error:
        assert "s3cr3t" not in str(error)
    else:
        assert re.fullmatch(r"[a-z]+://[A-Za-z0-9._\[\]:-]+", str(url))


def while_fetching(url: str, look: Callable[[], None], server: HttpServer) -> None:
    """Call `look` while curl waits for the answer."""
    fetched: list[bytes] = []
    thread = threading.Thread(target=lambda: fetched.append(fetch(url, "config_url", Settings())))
    thread.start()
    try:
        assert server.came.wait(60)
        look()
    finally:
        server.let_go.set()
        thread.join()
    assert fetched == [BODY]


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)


@pytest.mark.row(43)
def test_nobody_sees_the_url_and_curl_has_no_rights_and_sees_nothing_of_the_node(tmp_path: Path) -> None:
    found: list[str] = []
    statuses: list[dict[str, str]] = []
    seen: set[str] = set()

    def look() -> None:
        found.extend(sightings(SECRET, tmp_path))
        for pid in descendants(os.getpid()):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}
            if status["Name"] == "curl":
                statuses.append(status)
                root = Path(f"/proc/{pid}/root")
                seen.update(path.name for path in root.iterdir())
                seen.update(f"etc/{path.name}" for path in (root / "etc").iterdir())

    with http_server({f"/{SECRET}": Answer(BODY, how=How.HELD)}) as server:
        url = server.url.replace("://", f"://user:{SECRET}@")
        while_fetching(f"{url}/{SECRET}?token={SECRET}", look, server)
    assert found == []
    (status,) = statuses
    assert int(status["Uid"].split()[0]) >= 1_900_000_000
    assert len(set(status["Uid"].split() + status["Gid"].split())) == 1
    assert status["Groups"] == ""
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    etc = {f"etc/{name}" for name in ("resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "ssl")}
    assert seen <= {"usr", "lib", "lib64", "bin", "sbin", "dev", "etc"} | etc
