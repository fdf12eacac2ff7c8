# SPDX-License-Identifier: GPL-2.0-or-later
"""Answer files of Windows Vista and later (unattend.xml): read, held to the documented structure, changed, written.

Source: Microsoft, "Unattended Windows Setup Reference" and "Answer files overview": below <unattend> stands a
<settings> for each configuration pass, and in it a <component> for each name and architecture. Who reads one does not
import XML for guests that have none: import this module where it is needed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree as ET

from snf_image_helper.files.guest_errors import shown
from snf_image_shared.errors import GuestError

LIMIT = 1 << 20  # bytes: a hundred times what they have
UNATTEND = "urn:schemas-microsoft-com:unattend"
WCM = "http://schemas.microsoft.com/WMIConfig/2002/State"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
DEPLOYMENT = "Microsoft-Windows-Deployment"
INTERNATIONAL = "Microsoft-Windows-International-Core"
SHELL_SETUP = "Microsoft-Windows-Shell-Setup"
_PREFIXES = {"": UNATTEND, "wcm": WCM, "xsi": XSI, "cpi": "urn:schemas-microsoft-com:cpi"}
_IDENTITY = {"publicKeyToken": "31bf3856ad364e35", "language": "neutral", "versionScope": "nonSxS"}
_ARCHITECTURES = frozenset({"amd64", "arm", "arm64", "ia64", "msil", "wow64", "x86"})
_DEEPEST = 32
_ENCODING = re.compile(r"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_XML_TEXT = re.compile("[\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_MARK = "snf-image "


class Pass(StrEnum):
    """The configuration passes, in the order in which Setup has them."""

    WINDOWS_PE = "windowsPE"
    OFFLINE_SERVICING = "offlineServicing"
    GENERALIZE = "generalize"
    SPECIALIZE = "specialize"
    AUDIT_SYSTEM = "auditSystem"
    AUDIT_USER = "auditUser"
    OOBE_SYSTEM = "oobeSystem"


@dataclass(frozen=True)
class Component:
    """Which component: the pass that it is for, its name, and the architecture of the guest (amd64, x86, arm64)."""

    configuration_pass: Pass
    name: str
    architecture: str


@dataclass(frozen=True)
class Command:
    """What Setup is to run; `description` says to whom reads its log what it is for."""

    line: str
    description: str


@dataclass(frozen=True)
class Element:
    """An element to put into a component: a text, or elements. One of a list is marked as Setup wants it: with what
    tells it from its siblings as `key`, if that is not in it."""

    name: str
    content: str | tuple[Element, ...]
    is_listed: bool = False
    key: str = ""


class AnswerFile:
    """One document, in memory. Comments of its author stay, its formatting does not."""

    def __init__(self, content: bytes, called: str) -> None:
        """Read it; messages call it `called`. Raises GuestError for what Setup could not, or should not, read."""
        self.called = shown(called)
        self._root = self._parsed(content)
        self._check()
        self._before = _written(self._root)

    @property
    def is_changed(self) -> bool:
        """Whether it says something else than when it was read."""
        return _written(self._root) != self._before

    @property
    def content(self) -> bytes:
        """The document in UTF-8."""
        return _written(self._root)

    @property
    def oddities(self) -> tuple[str, ...]:
        """What Setup may refuse, or take for something that is not meant: worth a warning."""
        found = []
        for settings in self._root.findall(_name("settings")):
            where = settings.get("pass")
            for component in settings.findall(_name("component")):
                name = shown(component.get("name", ""))
                missing = [word for word in ("processorArchitecture", *_IDENTITY) if not component.get(word)]
                if missing:
                    found.append(f"{self.called}: the component {name} of pass {where} has no {', '.join(missing)}")
                elif component.get("processorArchitecture") not in _ARCHITECTURES:
                    found.append(
                        f"{self.called}: the component {name} of pass {where} is for processorArchitecture "
                        f"{shown(component.get('processorArchitecture', ''))}, which Windows does not know"
                    )
        return tuple(found)

    def has_pending(self, *passes: Pass) -> bool:
        """Whether Setup has still to do one of these: it marks in its cached copies what it has done."""
        pending = {
            settings.get("pass")
            for settings in self._root.findall(_name("settings"))
            if settings.get("wasPassProcessed", "").lower() != "true"
        }
        return not pending.isdisjoint(passes)

    def forget_done_passes(self) -> None:
        """Let a copy that Setup has marked be a fresh one: what is done is left out, with what it has been done to."""
        for settings in self._root.findall(_name("settings")):
            if settings.get("wasPassProcessed", "").lower() == "true":
                self._root.remove(settings)
            else:
                settings.attrib.pop("wasPassProcessed", None)

    def text(self, component: Component, *path: str) -> str | None:
        """The text of the element at the end of the path; None if there is none."""
        element: ET.Element | None = self._find(component)
        for name in path:
            element = None if element is None else element.find(_name(name))
        return None if element is None else (element.text or "").strip()

    def set_text(self, component: Component, path: Sequence[str], text: str) -> None:
        """Make the element at the end of the path say so; it and all above it are made if they are missing.

        Raises GuestError for a text that XML cannot hold.
        """
        if not _XML_TEXT.fullmatch(text):
            raise GuestError(f"{path[-1]}: has a character that no answer file can hold; leave it out")
        element = self._made(component)
        for name in path:
            element = _child(element, name)
        for below in list(element):
            element.remove(below)
        element.text = text

    def put(self, component: Component, *elements: Element) -> None:
        """Have these below a component, each in the place of those of its name."""
        parent = self._made(component)
        for element in elements:
            for old in parent.findall(_name(element.name)):
                parent.remove(old)
            _build(parent, element)

    def run_synchronously(self, architecture: str, command: Command) -> None:
        """Let Setup run it in the specialize pass, as SYSTEM, after what it is told already; once."""
        parent = self._made(Component(Pass.SPECIALIZE, DEPLOYMENT, architecture))
        _add_command(_child(parent, "RunSynchronous"), command)

    def set_administrator_password(self, architecture: str, password: str) -> None:
        """Set that of the built-in administrator, whatever its name is; nobody is asked for it then."""
        shell = self._made(Component(Pass.OOBE_SYSTEM, SHELL_SETUP, architecture))
        element = _child(_child(shell, "UserAccounts"), "AdministratorPassword")
        _set_password(element, password, "AdministratorPassword")

    def local_accounts(self, architecture: str) -> dict[str, LocalAccount]:
        """The accounts that Setup makes, by their names in small letters."""
        found = self._find(Component(Pass.OOBE_SYSTEM, SHELL_SETUP, architecture))
        accounts = [] if found is None else found.findall("/".join(map(_name, _LOCAL_ACCOUNT)))
        named = ((account.findtext(_name("Name"), "").strip(), account) for account in accounts)
        return {name.lower(): LocalAccount(name, account) for name, account in named if name}

    @property
    def mark(self) -> str | None:
        """What set_mark() has left."""
        found = next(self._marks(), None)
        return None if found is None else (found.text or "").strip().removeprefix(_MARK)

    def set_mark(self, mark: str) -> None:
        """Leave a word in a comment that tells which file this was made of."""
        for node in list(self._marks()):
            self._root.remove(node)
        self._root.insert(0, ET.Comment(f" {_MARK}{mark} "))

    def _parsed(self, content: bytes) -> ET.Element:
        text = self._decoded(content)
        # No answer file has one, and with one come entities: that of another file, or a billion of them.
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise GuestError(f"{self.called}: has a document type declaration (DOCTYPE); remove it")
        parser = ET.XMLParser(target=_Shallow(insert_comments=True), encoding="utf-8")  # noqa: S314  # checked above
        try:
            # In parts: nothing is read on after what is refused.
            for start in range(0, len(text), 4096):
                parser.feed(text[start : start + 4096].encode())
            root: ET.Element = parser.close()
        except ET.ParseError as error:
            raise GuestError(f"{self.called}: is no XML ({error}); correct it") from error
        except _TooDeepError as error:
            raise GuestError(f"{self.called}: is nested deeper than {_DEEPEST} elements; correct it") from error
        return root

    def _decoded(self, content: bytes) -> str:
        if len(content) > LIMIT:
            raise GuestError(f"{self.called}: is larger than {LIMIT} bytes, which no answer file is; shorten it")
        try:
            text = content.decode(_encoding(content))
        except UnicodeDecodeError as error:
            raise GuestError(f"{self.called}: is neither UTF-8 nor UTF-16; save it as one of them") from error
        declared = _ENCODING.match(text)
        if declared and declared[1].lower().partition("-")[0] not in {"utf", "us", "ascii", "utf8", "unicode"}:
            raise GuestError(f"{self.called}: is written in {declared[1]}; save it as UTF-8, and say so there")
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise GuestError(f"{self.called}: has characters that no XML can have; correct it")
        return text

    def _check(self) -> None:
        if self._root.tag != _name("unattend"):
            raise GuestError(
                f"{self.called}: its outermost element is {shown(str(self._root.tag))}, not unattend of the namespace "
                f"{UNATTEND}; correct it"
            )
        for settings in self._root.findall(_name("settings")):
            word = settings.get("pass")
            if word not in set(Pass):
                raise GuestError(
                    f"{self.called}: has settings for the pass {shown(word or '')!r}, none of {', '.join(Pass)}"
                )
            known = set()
            for component in settings.findall(_name("component")):
                identity = component.get("name"), component.get("processorArchitecture")
                if not identity[0]:
                    raise GuestError(f"{self.called}: a component of the pass {word} has no name; correct it")
                if identity in known:
                    raise GuestError(
                        f"{self.called}: the component {shown(identity[0])} stands twice in the pass {word}; "
                        "put its settings into one"
                    )
                known.add(identity)

    def _marks(self) -> Iterator[ET.Element]:
        return (node for node in self._root if _is_comment(node) and (node.text or "").strip().startswith(_MARK))

    def _settings(self, wanted: Pass) -> Iterator[ET.Element]:
        return (found for found in self._root.findall(_name("settings")) if found.get("pass") == wanted)

    def _find(self, wanted: Component) -> ET.Element | None:
        for settings in self._settings(wanted.configuration_pass):
            for component in settings.findall(_name("component")):
                if (component.get("name"), component.get("processorArchitecture")) == (
                    wanted.name,
                    wanted.architecture,
                ):
                    return component
        return None

    def _made(self, wanted: Component) -> ET.Element:
        found = self._find(wanted)
        if found is not None:
            return found
        settings = next(self._settings(wanted.configuration_pass), None)
        if settings is None:
            settings = ET.Element(_name("settings"), {"pass": wanted.configuration_pass.value})
            self._root.insert(self._place(wanted.configuration_pass), settings)
        identity = {"name": wanted.name, "processorArchitecture": wanted.architecture, **_IDENTITY}
        return ET.SubElement(settings, _name("component"), identity)

    def _place(self, wanted: Pass) -> int:
        """Behind the settings of the passes before it."""
        earlier = list(Pass)[: list(Pass).index(wanted)]
        place = 0
        for number, node in enumerate(self._root):
            is_title = _is_comment(node) and place == number
            if is_title or (node.tag == _name("settings") and node.get("pass") in earlier):
                place = number + 1
        return place


@dataclass(frozen=True)
class LocalAccount:
    """An account that Setup makes, as the answer file names it."""

    name: str
    _element: ET.Element

    def set_password(self, password: str) -> None:
        """Let it have this password."""
        _set_password(_child(self._element, "Password"), password, "Password")


_LOCAL_ACCOUNT = ("UserAccounts", "LocalAccounts", "LocalAccount")


def _set_password(element: ET.Element, password: str, name: str) -> None:
    """As Setup takes it with PlainText=false: the name of its element is behind it, UTF-16, base64.

    That hides it from no one, but carries any character over. An empty one is an empty string.
    """
    hidden = base64.b64encode((password + name).encode("utf-16-le")).decode("ascii")
    _child(element, "Value").text = hidden if password else ""
    _child(element, "PlainText").text = "false" if password else "true"


class _TooDeepError(Exception):
    """Elements within elements, to no end."""


class _Shallow(ET.TreeBuilder):
    """Builds no tree that takes more stack than there is to write it again."""

    depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _TooDeepError
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self.depth -= 1
        return super().end(tag)


def _encoding(content: bytes) -> str:
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return encoding
    # XML 1.0, appendix F: it begins with "<", whatever the encoding.
    return {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}.get(content[:2], "utf-8")


def _name(local: str) -> str:
    return f"{{{UNATTEND}}}{local}"


def _is_comment(node: ET.Element) -> bool:
    return not isinstance(node.tag, str)


def _child(parent: ET.Element, name: str) -> ET.Element:
    found = parent.find(_name(name))
    return ET.SubElement(parent, _name(name)) if found is None else found


def _build(parent: ET.Element, element: Element) -> None:
    attributes = {f"{{{WCM}}}action": "add"} if element.is_listed else {}
    if element.key:
        attributes[f"{{{WCM}}}keyValue"] = element.key
    made = ET.SubElement(parent, _name(element.name), attributes)
    if isinstance(element.content, str):
        made.text = element.content
    else:
        for below in element.content:
            _build(made, below)


def _add_command(parent: ET.Element, command: Command) -> None:
    there = parent.findall(_name("RunSynchronousCommand"))
    if any(_text(known, "Path") == command.line for known in there):
        return
    orders = [int(order) for known in there if (order := _text(known, "Order")).isdecimal() and len(order) < 6]
    added = ET.SubElement(parent, _name("RunSynchronousCommand"), {f"{{{WCM}}}action": "add"})
    ET.SubElement(added, _name("Order")).text = str(max(orders, default=0) + 1)
    ET.SubElement(added, _name("Path")).text = command.line
    ET.SubElement(added, _name("Description")).text = command.description


def _text(element: ET.Element, name: str) -> str:
    return (element.findtext(_name(name)) or "").strip()


def _written(root: ET.Element) -> bytes:
    """Indented anew: texts that are nothing but blanks are formatting."""
    from copy import deepcopy  # noqa: PLC0415  # only where an answer file is written

    for prefix, uri in _PREFIXES.items():
        ET.register_namespace(prefix, uri)
    tree = deepcopy(root)
    ET.indent(tree)
    body = ET.tostring(tree, encoding="unicode").replace("\r", "&#13;")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'.encode()
