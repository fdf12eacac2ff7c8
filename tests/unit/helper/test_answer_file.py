# SPDX-License-Identifier: GPL-2.0-or-later
"""Answer files: what is read, what is refused, and that only what is asked for changes."""

from __future__ import annotations

import resource
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.windows.answer_file import (
    DEPLOYMENT,
    INTERNATIONAL,
    SHELL_SETUP,
    AnswerFile,
    Command,
    Component,
    Pass,
)
from snf_image_shared.errors import GuestError
from unit.helper.unattend_structure import ACTION, NS, PASSES, faults, value

HEAD = (
    '<unattend xmlns="urn:schemas-microsoft-com:unattend" xmlns:w="http://schemas.microsoft.com/WMIConfig/2002/State">'
)
EMPTY = f"{HEAD}</unattend>".encode()
AMD64 = 'processorArchitecture="amd64"'
IDENTITY = 'publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS"'
NAME = Component(Pass.SPECIALIZE, SHELL_SETUP, "amd64")
XML_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from("<>&\"'%^!]\t\n\r"), max_size=40
)


def document(*settings: str) -> bytes:
    return f"{HEAD}{''.join(settings)}</unattend>".encode()


def settings(pass_: str, component: str, content: str, architecture: str = "amd64", marks: str = "") -> str:
    return (
        f'<settings pass="{pass_}"{marks}><component name="Microsoft-Windows-{component}" '
        f'processorArchitecture="{architecture}" {IDENTITY}>{content}</component></settings>'
    )


def read(content: bytes) -> AnswerFile:
    return AnswerFile(content, "/unattend.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("declared", ["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-16"?>'])
def test_it_is_read_in_every_encoding_that_windows_writes(encoding: str, declared: str) -> None:
    text = declared + document(settings("specialize", "Shell-Setup", "<ComputerName>Bücher</ComputerName>")).decode()
    big_endian_mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    answers = read(big_endian_mark + text.encode(encoding))
    assert answers.text(NAME, "ComputerName") == "Bücher"


def test_what_is_only_read_is_not_changed() -> None:
    answers = read(document(settings("specialize", "Shell-Setup", "<TimeZone>UTC</TimeZone>")))
    assert answers.text(NAME, "ComputerName") is None
    assert answers.text(Component(Pass.OOBE_SYSTEM, SHELL_SETUP, "amd64"), "OOBE", "HideEULAPage") is None
    assert not answers.is_changed


@given(XML_TEXT)
def test_any_text_that_xml_can_hold_is_read_as_it_was_set(text: str) -> None:
    answers = read(EMPTY)
    answers.set_text(NAME, ("RegisteredOwner",), text)
    assert value(answers.content, "specialize/Shell-Setup/RegisteredOwner") == [text]


@given(st.permutations(list(Pass)), XML_TEXT)
def test_passes_stand_in_the_order_of_setup_whatever_is_set_first(order: list[Pass], text: str) -> None:
    answers = read(EMPTY)
    for each in order:
        answers.set_text(Component(each, SHELL_SETUP, "amd64"), ("RegisteredOwner",), text)
    found = [node.get("pass") for node in ET.fromstring(answers.content)]
    assert found == list(PASSES)


def test_what_is_set_twice_is_there_once_and_the_last_word_counts() -> None:
    answers = read(document(settings("specialize", "Shell-Setup", "<ComputerName>OLD</ComputerName>")))
    answers.set_text(NAME, ("ComputerName",), "new")
    content = answers.content
    assert value(content, "specialize/Shell-Setup/ComputerName") == ["new"]
    again = read(content)
    again.set_text(NAME, ("ComputerName",), "new")
    assert not again.is_changed
    assert again.content == content


def test_a_component_of_another_architecture_is_left_alone() -> None:
    answers = read(document(settings("specialize", "Shell-Setup", "<ComputerName>X86</ComputerName>", "x86")))
    answers.set_text(NAME, ("ComputerName",), "web")
    assert value(answers.content, "specialize/Shell-Setup/ComputerName", "x86") == ["X86"]
    assert value(answers.content, "specialize/Shell-Setup/ComputerName", "amd64") == ["web"]
    assert faults(answers.content) == []


def test_comments_foreign_namespaces_and_attributes_stay() -> None:
    own = document(
        "<!-- by hand -->",
        settings(
            "oobeSystem",
            "Shell-Setup",
            '<UserAccounts><LocalAccounts><LocalAccount w:action="add"><Name>a b</Name></LocalAccount></LocalAccounts>'
            "</UserAccounts>",
        ),
        '<cpi:offlineImage cpi:source="wim:c:/x.wim#Windows" xmlns:cpi="urn:schemas-microsoft-com:cpi"/>',
    )
    answers = read(own)
    answers.set_text(NAME, ("ComputerName",), "web")
    content = answers.content
    root = ET.fromstring(content)
    assert b"<!-- by hand -->" in content
    assert root.find(f".//{NS}LocalAccount[@{ACTION}='add']/{NS}Name") is not None
    image = root.find("{urn:schemas-microsoft-com:cpi}offlineImage")
    assert image is not None
    assert image.get("{urn:schemas-microsoft-com:cpi}source") == "wim:c:/x.wim#Windows"
    # Some readers look for the prefix alone.
    assert b' xmlns="urn:schemas-microsoft-com:unattend"' in content
    assert b"ns0:" not in content


def test_blanks_in_a_value_are_no_formatting() -> None:
    own = settings(
        "oobeSystem",
        "Shell-Setup",
        "<UserAccounts><AdministratorPassword><Value>  </Value></AdministratorPassword></UserAccounts>",
    )
    answers = read(document(own))
    answers.set_text(NAME, ("ComputerName",), "web")
    assert value(answers.content, "oobeSystem/Shell-Setup/UserAccounts/AdministratorPassword/Value") == ["  "]


@pytest.mark.row(158)
def test_commands_come_behind_those_of_the_image_and_once() -> None:
    own = "".join(
        f'<RunSynchronousCommand w:action="add"><Order>{order}</Order><Path>{path}</Path></RunSynchronousCommand>'
        for order, path in ((7, "a.exe"), (2, "b.exe"))
    )
    answers = read(document(settings("specialize", "Deployment", f"<RunSynchronous>{own}</RunSynchronous>")))
    for _ in range(2):
        answers.run_synchronously("amd64", Command("c.exe <&>", "third"))
        answers.run_synchronously("amd64", Command("d.exe", "fourth"))
    path = "specialize/Deployment/RunSynchronous/RunSynchronousCommand"
    assert value(answers.content, f"{path}/Path") == ["a.exe", "b.exe", "c.exe <&>", "d.exe"]
    assert value(answers.content, f"{path}/Order") == ["7", "2", "8", "9"]
    assert value(answers.content, f"{path}/Description") == ["third", "fourth"]


def test_commands_of_an_empty_file_are_what_microsoft_documents() -> None:
    answers = read(EMPTY)
    answers.run_synchronously("x86", Command("a.exe", "one"))
    answers.run_synchronously("x86", Command("b.exe", "two"))
    assert faults(answers.content) == []


@pytest.mark.parametrize("order", ["", "x", "-3", "9" * 5000, "٣"])
def test_an_order_that_is_no_number_is_no_reason_to_fail(order: str) -> None:
    own = f"<RunSynchronousCommand><Order>{order}</Order><Path>a</Path></RunSynchronousCommand>"
    answers = read(document(settings("specialize", "Deployment", f"<RunSynchronous>{own}</RunSynchronous>")))
    answers.run_synchronously("amd64", Command("b", ""))
    orders = value(answers.content, "specialize/Deployment/RunSynchronous/RunSynchronousCommand/Order")
    assert orders[1] in {"1", "4"}


def test_the_passwords_of_accounts_are_hidden_as_microsoft_does_it() -> None:
    # "pw" is the example of Microsoft's reference, with its result.
    own = "<UserAccounts><LocalAccounts><LocalAccount><Name>Ann</Name></LocalAccount></LocalAccounts></UserAccounts>"
    answers = read(document(settings("oobeSystem", "Shell-Setup", own)))
    answers.set_administrator_password("amd64", "pw")
    answers.local_accounts("amd64")["ann"].set_password("pw")
    accounts = "oobeSystem/Shell-Setup/UserAccounts"
    assert value(answers.content, f"{accounts}/AdministratorPassword/Value") == [
        "cAB3AEEAZABtAGkAbgBpAHMAdAByAGEAdABvAHIAUABhAHMAcwB3AG8AcgBkAA=="
    ]
    assert value(answers.content, f"{accounts}/AdministratorPassword/PlainText") == ["false"]
    assert value(answers.content, f"{accounts}/LocalAccounts/LocalAccount/Password/Value") == [
        "cAB3AFAAYQBzAHMAdwBvAHIAZAA="
    ]
    assert faults(answers.content) == []


def test_an_empty_password_is_an_empty_string() -> None:
    answers = read(EMPTY)
    answers.set_administrator_password("amd64", "")
    accounts = "oobeSystem/Shell-Setup/UserAccounts/AdministratorPassword"
    assert value(answers.content, f"{accounts}/Value") == [""]
    assert value(answers.content, f"{accounts}/PlainText") == ["true"]


def test_what_setup_has_done_is_left_out_and_the_rest_is_fresh() -> None:
    done = settings("specialize", "Shell-Setup", "<ComputerName>OLD</ComputerName>", marks=' wasPassProcessed="true"')
    todo = settings(
        "oobeSystem", "International-Core", "<UILanguage>de-DE</UILanguage>", marks=' wasPassProcessed="false"'
    )
    answers = read(document(done, todo))
    assert answers.has_pending(Pass.SPECIALIZE, Pass.OOBE_SYSTEM)
    assert not answers.has_pending(Pass.SPECIALIZE)
    answers.forget_done_passes()
    assert answers.text(NAME, "ComputerName") is None
    assert answers.text(Component(Pass.OOBE_SYSTEM, INTERNATIONAL, "amd64"), "UILanguage") == "de-DE"
    assert b"wasPassProcessed" not in answers.content


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is no XML (no element found"),
        (b"not XML", "is no XML (syntax error"),
        (EMPTY[:-3], "is no XML"),
        (EMPTY + b"<more/>", "is no XML (junk after document element"),
        (b"\xff\xfe<", "is neither UTF-8 nor UTF-16"),
        ("<?xml version='1.0' encoding='windows-1252'?><unattend>ü</unattend>".encode("cp1252"), "is neither UTF-8"),
        (b"<?xml version='1.0' encoding='windows-1252'?><unattend/>", "is written in windows-1252"),
        (b"<unattend/>", "its outermost element is unattend, not unattend of the namespace"),
        (EMPTY.replace(b"unattend", b"answers"), "its outermost element is {urn:schemas-microsoft-com:answers}answers"),
        (document('<settings pass="specialise"/>'), "has settings for the pass 'specialise', none of windowsPE, "),
        (document("<settings/>"), "has settings for the pass '', none of"),
        (document('<settings pass="specialize"><component/></settings>'), "a component of the pass specialize has no"),
        (
            document(settings("specialize", "Deployment", f'</component><component name="{DEPLOYMENT}" {AMD64}>')),
            "the component Microsoft-Windows-Deployment stands twice in the pass specialize",
        ),
        (EMPTY.replace(b"><", b">\0<"), "has characters that no XML can have"),
        (document("\x01"), "is no XML"),
        (HEAD.encode() + b"<a>" * 40, "is nested deeper than 32 elements"),
        (HEAD.encode() + b"<a>" * 300_000, "is nested deeper than 32 elements"),
        (EMPTY + b" " * (1 << 20), "is larger than 1048576 bytes"),
    ],
)  # fmt: skip
def test_what_setup_could_not_read_is_refused_in_one_sentence(content: bytes, fault: str) -> None:
    with pytest.raises(GuestError) as caught:
        read(content)
    assert str(caught.value).startswith(f"/unattend.xml: {fault}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


LAUGHS = "".join(f'<!ENTITY l{number + 1} "{f"&l{number};" * 10}">' for number in range(20))


@pytest.mark.parametrize(
    "declaration",
    [
        f'<!DOCTYPE unattend [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE unattend [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE unattend SYSTEM "http://example.com/unattend.dtd">',
        '<!DOCTYPE unattend [<!ENTITY % p SYSTEM "http://example.com/p"> %p;]>',
    ],
    ids=["billion-laughs", "file", "dtd", "parameter"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_before_they_are_read(declaration: str, encoding: str) -> None:
    hostile = f'<?xml version="1.0"?>{declaration}{HEAD}&l20;&x;</unattend>'.encode(encoding)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GuestError, match=r"^/unattend.xml: has a document type declaration \(DOCTYPE\); remove it$"):
        read(hostile)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


@given(
    st.binary(max_size=300)
    | st.text(max_size=200).map(lambda text: f"{HEAD}{text}</unattend>".encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused_in_our_own_words(content: bytes) -> None:
    try:
        answers = read(content)
    except GuestError:
        return
    assert read(answers.content).content == answers.content


def test_what_setup_may_not_like_is_told_in_printable_words() -> None:
    odd = '<settings pass="specialize"><component name="A&#x9b;2J" processorArchitecture="vax" language="neutral"/>'
    other = f'<component name="B" processorArchitecture="vax" {IDENTITY}/></settings>'
    found = read(document(odd + other)).oddities
    assert [line.partition(": ")[2].partition(" of pass specialize ")[2] for line in found] == [
        "has no publicKeyToken, versionScope",
        "is for processorArchitecture vax, which Windows does not know",
    ]
    assert all(line.isprintable() for line in found)


def test_a_mark_is_a_comment_that_is_found_again_and_replaced() -> None:
    answers = read(document("<!-- by hand -->"))
    assert answers.mark is None
    answers.set_mark("one")
    answers = read(answers.content)
    assert answers.mark == "one"
    answers.set_mark("two")
    assert read(answers.content).mark == "two"
    assert answers.content.count(b"<!--") == 2


def test_a_look_at_accounts_makes_no_component() -> None:
    answers = read(EMPTY)
    assert answers.local_accounts("amd64") == {}
    assert not answers.is_changed


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\ud800", "\uffff"])
def test_what_no_xml_can_hold_is_not_written(character: str) -> None:
    answers = read(EMPTY)
    with pytest.raises(
        GuestError, match=r"^RegisteredOwner: has a character that no answer file can hold; leave it out$"
    ):
        answers.set_text(NAME, ("RegisteredOwner",), f"a{character}")
    assert not answers.is_changed
