# SPDX-License-Identifier: GPL-2.0-or-later
"""DISK_n_URI -> the options of a QEMU block node. Pure: nothing is opened, and no string reaches QEMU's own URI parser.

What Ganeti prints: `rbd:POOL/IMAGE[:id=USER]` and `gluster://HOST:PORT/VOLUME/PATH` (ganeti lib/storage/bdev.py,
gluster.py), and whatever an ExtStorage provider's attach says, which is a file name of QEMU's, perhaps behind `kvm:`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from snf_image_shared.errors import RequestError

_PORTS = {"nbd": "10809", "iscsi": "3260", "ssh": "22", "gluster": "24007"}
_MAX_URI = 4096  # characters
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,19}")

Options = dict[str, object]


@dataclass(frozen=True)
class Node:
    """One disk as QEMU's block layer opens it.

    `name` is for messages and carries no credential. `options` are those of the protocol node (qapi/block-core.json);
    an option whose value is a secret is not among them but in `secrets`, by the name it has there. `socket` is the path
    of a unix socket to connect to before the node is opened.
    """

    name: str
    options: Mapping[str, object]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    socket: str = ""


class _BadUriError(ValueError):
    """The rest of a sentence about the URI. It never quotes what may be a credential."""


def parse_uri(uri: str, variable: str) -> Node:
    """The node for a URI. Raises RequestError that names `variable`, and the URI by what is safe to show of it."""
    text = uri.removeprefix("kvm:")
    scheme, colon, rest = text.partition(":")
    parser = _PARSERS.get(scheme.lower())
    # What does not look like a scheme may be a login.
    shown = repr(f"{scheme}:...") if colon and _SCHEME.fullmatch(scheme) else "what it says"
    if not colon or parser is None:
        known = ", ".join(sorted(_PARSERS))
        raise RequestError(
            f"{variable}: {shown} is no kind of disk that is known here ({known}); "
            "let the storage provider attach a block device, or print one of these"
        )
    if len(text) > _MAX_URI or not text.isprintable():
        raise RequestError(f"{variable}: {shown} is too long or has a character that is not printable; correct it")
    try:
        return parser(scheme.lower(), rest)
    except ValueError as error:
        # Of other errors of the standard library the text may quote the URI.
        reason = str(error) if isinstance(error, _BadUriError) else "is not a URI that can be read"
        raise RequestError(f"{variable}: {shown} {reason}; the storage provider's attach script prints it") from None


def _rbd(_scheme: str, rest: str) -> Node:
    """rbd:[POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT][:KEY=VALUE]...; a backslash takes the meaning from the next character."""
    place, *settings = [_unescaped(part) for part in re.findall(r"(?:^|(?<=:))((?:\\.|[^:\\])*)", rest)]
    image, at, snapshot = place.rpartition("@") if "@" in place else (place, "", "")
    *pool, name = image.split("/")
    if not name or len(pool) > 2 or not all(pool) or (at and not snapshot):
        raise _BadUriError("names no image as POOL/IMAGE")
    options: Options = {"driver": "rbd", "pool": pool[0] if pool else "rbd", "image": name}
    if len(pool) == 2:
        options["namespace"] = pool[1]
    if snapshot:
        options["snapshot"] = snapshot
    secrets = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key in {"id", "conf"} and value:
            options["user" if key == "id" else "conf"] = value
        elif key == "key" and value:
            secrets["key-secret"] = value
        else:
            raise _BadUriError("has another option than id, conf or key: put it into a file and name that with conf")
    return Node(f"rbd:{place}", options, secrets)


def _nbd(_scheme: str, rest: str) -> Node:
    """nbd://HOST[:PORT][/EXPORT], and the old nbd:HOST:PORT[:exportname=E] and nbd:unix:PATH[:exportname=E]."""
    if rest.startswith("//"):
        return _nbd_tcp("nbd+tcp", rest)
    place, _, export = rest.partition(":exportname=")
    if place.startswith("unix:"):
        return _nbd_socket(place.removeprefix("unix:"), export)
    host, _, port = place.rpartition(":")
    return Node(f"nbd:{place}", _nbd_options(_inet(host.strip("[]"), port), export))


def _nbd_tcp(_scheme: str, rest: str) -> Node:
    url = _url(rest)
    _no_query(url)
    _no_login(url)
    server = _inet(url.hostname or "", _port(url, "nbd"))
    export = unquote(url.path).removeprefix("/")
    return Node(f"nbd://{_authority(url)}{url.path}", _nbd_options(server, export))


def _nbd_unix(_scheme: str, rest: str) -> Node:
    url = _url(rest)
    if url.netloc:
        raise _BadUriError("has a host, but is a unix socket: write nbd+unix:///EXPORT?socket=PATH")
    return _nbd_socket(_query(url, "socket")["socket"], unquote(url.path).removeprefix("/"))


def _nbd_socket(path: str, export: str) -> Node:
    if not path.startswith("/"):
        raise _BadUriError("has no absolute path of a socket")
    return Node(f"nbd:unix:{path}{':' if export else ''}{export}", _nbd_options({}, export), socket=path)


def _nbd_options(server: Options, export: str) -> Options:
    return {"driver": "nbd", "server": server, **({"export": export} if export else {})}


def _gluster(scheme: str, rest: str) -> Node:
    """gluster[+tcp|+unix|+rdma]://[HOST[:PORT]]/VOLUME/PATH[?socket=PATH]; rdma is gone and means tcp, as in QEMU."""
    url = _url(rest)
    _no_login(url)
    volume, _, path = unquote(url.path).removeprefix("/").partition("/")
    if not volume or not path:
        raise _BadUriError("names no image as gluster://HOST/VOLUME/PATH")
    if scheme == "gluster+unix":
        server: Options = {"type": "unix", "path": _query(url, "socket")["socket"]}
    else:
        _no_query(url)
        server = _inet(url.hostname or "localhost", _port(url, "gluster"))
    options: Options = {"driver": "gluster", "volume": volume, "path": path, "server": [server]}
    return Node(f"{scheme}://{_authority(url)}/{volume}/{path}", options)


def _iscsi(scheme: str, rest: str) -> Node:
    """iscsi://[USER[%PASSWORD]@]HOST[:PORT]/TARGET/LUN; iser is the same over RDMA."""
    url = _url(rest)
    _no_query(url)
    target, slash, lun = unquote(url.path).removeprefix("/").rpartition("/")
    user, _, password = url.netloc.rpartition("@")[0].partition("%")
    if not url.hostname or not slash or not target or not re.fullmatch("[0-9]{1,5}", lun) or ":" in user:
        raise _BadUriError("is not like iscsi://USER%PASSWORD@HOST/TARGET/LUN")
    options: Options = {
        "driver": "iscsi",
        "transport": "iser" if scheme == "iser" else "tcp",
        "portal": f"{_bracketed(url.hostname)}:{_port(url, 'iscsi')}",
        "target": target,
        "lun": int(lun),
    }
    if user:
        options["user"] = unquote(user)
    secrets = {"password-secret": unquote(password)} if password else {}
    return Node(f"{scheme}://{_authority(url)}/{target}/{lun}", options, secrets)


def _ssh(_scheme: str, rest: str) -> Node:
    """ssh://[USER@]HOST[:PORT]/PATH[?host_key_check=no|yes|md5:HASH|sha1:HASH|sha256:HASH]; the key is the user's."""
    url = _url(rest)
    if not url.hostname or len(url.path) < 2 or url.password is not None:
        raise _BadUriError("is not like ssh://USER@HOST/PATH (a password cannot be given)")
    server = {"host": url.hostname, "port": _port(url, "ssh")}
    options: Options = {"driver": "ssh", "server": server, "path": unquote(url.path)}
    if url.username:
        options["user"] = unquote(url.username)
    check = dict(parse_qsl(url.query)).get("host_key_check", "yes") if url.query else "yes"
    kind, _, digest = check.partition(":")
    if check in {"no", "yes"}:
        options["host-key-check"] = {"mode": "none" if check == "no" else "known_hosts"}
    elif kind in {"md5", "sha1", "sha256"} and digest:
        options["host-key-check"] = {"mode": "hash", "type": kind, "hash": digest}
    else:
        raise _BadUriError("has a host_key_check that is none of no, yes, md5:HASH, sha1:HASH and sha256:HASH")
    return Node(f"ssh://{_authority(url)}{url.path}", options)


_PARSERS: dict[str, Callable[[str, str], Node]] = {
    "rbd": _rbd,
    "nbd": _nbd,
    "nbd+tcp": _nbd_tcp,
    "nbd+unix": _nbd_unix,
    "gluster": _gluster,
    "gluster+tcp": _gluster,
    "gluster+unix": _gluster,
    "gluster+rdma": _gluster,
    "iscsi": _iscsi,
    "iser": _iscsi,
    "ssh": _ssh,
}


def _url(rest: str) -> SplitResult:
    """The parts behind `scheme:`; the scheme itself would change how they are split."""
    if not rest.startswith("//"):
        raise _BadUriError("lacks the // behind its scheme")
    url = urlsplit(rest)
    if url.fragment:
        raise _BadUriError("has a '#': write it as %23")
    return url


def _query(url: SplitResult, name: str) -> dict[str, str]:
    """The query, which is this one value."""
    values = parse_qsl(url.query, keep_blank_values=True)
    if [key for key, _ in values] != [name] or not values[0][1]:
        raise _BadUriError(f"needs ?{name}=... and no other query")
    return dict(values)


def _no_query(url: SplitResult) -> None:
    if url.query:
        raise _BadUriError("has a query, which means nothing here")


def _no_login(url: SplitResult) -> None:
    if "@" in url.netloc:
        raise _BadUriError("has a user, which means nothing here")


def _port(url: SplitResult, kind: str) -> str:
    return str(url.port or _PORTS[kind])


def _inet(host: str, port: str) -> Options:
    if not host or not re.fullmatch("[0-9]{1,5}", port):
        raise _BadUriError("names no host and port")
    return {"type": "inet", "host": host, "port": port}


def _authority(url: SplitResult) -> str:
    """Host and port without user and password."""
    return url.netloc.rpartition("@")[2]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
