# SPDX-License-Identifier: GPL-2.0-or-later
"""DeleteSSHKeys: replace host keys in /etc/ssh, those that HostKey names, and Dropbear's by new ones of their types.

The helper makes them with its own ssh-keygen, so the guest boots with keys whatever its distribution would do, and
nothing of the guest is executed. Under CLOUD_INIT it is told to do that itself (ssh_deletekeys).
"""

from __future__ import annotations

import binascii
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from snf_image_helper import cloud_init
from snf_image_helper.files.scratch import scratch_directory
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_helper.users import dropbear, sshd_config
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import Limits, ProcessError, run

_PRIVATE = Ownership(mode=0o600)
_TOKEN = 8  # bytes
_PUBLIC = Ownership(mode=0o644)
_SSHD = ("/usr/sbin/sshd", "/sbin/sshd")
_MOST_KEYS = 16  # all are made at once; published images have three or four
_TIMEOUT = 300.0  # seconds: primes are slow to find under emulation


class KeyType(StrEnum):
    """What ssh-keygen still makes, best first; DSA keys are removed and never come back."""

    ED25519 = "ed25519"
    ECDSA = "ecdsa"
    RSA = "rsa"


@dataclass(frozen=True)
class HostKey:
    """A private key in the guest; `type` is None when nobody makes such keys any more.

    A `pem` one stays so: OpenSSH before 6.5 reads no other form.
    """

    path: str
    type: KeyType | None
    pem: bool = False
    dropbear: bool = False


def delete_ssh_keys(guest: Guest, job: Job, report: Reporter) -> None:
    """A guest with sshd and no key at all gets an Ed25519 and an ECDSA key. Raises GuestError and ProcessError."""
    if job.wishes.flag("CLOUD_INIT"):
        cloud_init.write_configuration(guest, "50DeleteSSHKeys", {"ssh_deletekeys": True})
        return
    has_sshd = any(guest.exists(path) for path in _SSHD)
    if has_sshd and sshd_config.config_file(guest) is None:
        report.warning("The guest has sshd and no sshd_config: only host keys in /etc/ssh are replaced")
    old = (*find_host_keys(guest), *find_dropbear_keys(guest))
    wanted = tuple(key for key in old if key.type)
    if has_sshd and not any(key.type and not key.dropbear for key in old) and guest.is_dir(sshd_config.DIRECTORY):
        wanted += _first_keys(guest)
    replace_keys(guest, job, old, wanted)


def replace_keys(guest: Guest, job: Job, old: tuple[HostKey, ...], wanted: tuple[HostKey, ...]) -> None:
    """Remove the old keys and make the wanted ones, at once; those of this deployment stay. Raises ProcessError."""
    comment = _comment(job)
    kept = {key.path for key in wanted if job.seed and _has_comment(guest, key, comment)}
    wanted = tuple(key for key in wanted if key.path not in kept)
    with scratch_directory() as directory:
        made = _make_keys(wanted, comment, directory)
        _remove_leftovers(guest, old, {*kept, *(key.path for key in wanted)})
        for key, private in zip(wanted, made, strict=True):
            content = private.read_bytes()
            if key.dropbear:
                guest.write_bytes(key.path, dropbear.from_openssh(content), ownership=_keep_private(guest, key.path))
            else:
                guest.write_bytes(key.path, content, ownership=_keep_private(guest, key.path))
                guest.write_bytes(f"{key.path}.pub", Path(f"{private}.pub").read_bytes(), ownership=_PUBLIC)


def _comment(job: Job) -> str:
    """Tells keys of this deployment from those of any image, so that another run of it leaves them."""
    token = fresh_bytes(job, "host keys", _TOKEN).hex() if job.seed else ""
    return f"root@{job.hostname.partition('.')[0]} {token}".rstrip()


def _has_comment(guest: Guest, key: HostKey, comment: str) -> bool:
    public = f"{key.path}.pub"
    return guest.is_file(key.path) and (guest.read_text(public, missing_ok=True) or "").endswith(f" {comment}\n")


def find_host_keys(guest: Guest) -> tuple[HostKey, ...]:
    """Private keys in /etc/ssh, and what HostKey lines name if it is one."""
    names = guest.list_directory(sshd_config.DIRECTORY, missing_ok=True)
    usual = [f"{sshd_config.DIRECTORY}/{name}" for name in names if _is_private_name(name)]
    named = [words[0] for words in sshd_config.settings(guest, "HostKey") if words[0].startswith("/")]
    paths = [path for path in dict.fromkeys((*usual, *named)) if guest.is_file(path)]
    if len(paths) > _MOST_KEYS:
        raise GuestError(f"{sshd_config.DIRECTORY}: the guest has more than {_MOST_KEYS} SSH host keys; remove some")
    contents = {path: guest.read_bytes(path) for path in paths}
    return tuple(
        HostKey(path, key_type(guest, path), _is_pem(content))
        for path, content in contents.items()
        if path in usual or b"PRIVATE KEY" in content
    )


def find_dropbear_keys(guest: Guest) -> tuple[HostKey, ...]:
    """By their names, which are all that tells their types."""
    paths = {kind: f"{dropbear.DIRECTORY}/dropbear_{kind}_host_key" for kind in (*KeyType, "dss")}
    return tuple(
        HostKey(path, KeyType(kind) if kind != "dss" else None, dropbear=True)
        for kind, path in paths.items()
        if guest.is_file(path)
    )


def key_type(guest: Guest, path: str) -> KeyType | None:
    """By name, else by content; None for DSA and for what is no key."""
    name = path.rpartition("/")[2]
    for kind in KeyType:
        if name == f"ssh_host_{kind}_key":
            return kind
    return type_of_content(guest.read_bytes(path))


def type_of_content(content: bytes) -> KeyType | None:
    """Tell a private key's type from its PEM header, or from the names inside OpenSSH's own format."""
    if b"BEGIN RSA PRIVATE KEY" in content:
        return KeyType.RSA
    if b"BEGIN EC PRIVATE KEY" in content:
        return KeyType.ECDSA
    if b"BEGIN OPENSSH PRIVATE KEY" not in content:
        return None
    body = b"".join(line for line in content.split(b"\n") if b"-----" not in line)
    try:
        inside = binascii.a2b_base64(body)
    except binascii.Error:
        return None
    for word, kind in ((b"ssh-ed25519", KeyType.ED25519), (b"ecdsa-sha2-", KeyType.ECDSA), (b"ssh-rsa", KeyType.RSA)):
        if word in inside:
            return kind
    return None


def _is_pem(content: bytes) -> bool:
    return b"BEGIN RSA PRIVATE KEY" in content or b"BEGIN EC PRIVATE KEY" in content


def _first_keys(guest: Guest) -> tuple[HostKey, ...]:
    """For an sshd without any: where HostKey says that they belong, or the two best at their usual places."""
    named = [words[0] for words in sshd_config.settings(guest, "HostKey") if words[0].startswith("/")]
    missing = [
        path for path in dict.fromkeys(named) if not guest.exists(path) and guest.is_dir(path.rpartition("/")[0])
    ]
    if not missing:
        return tuple(HostKey(_default_path(kind), kind) for kind in (KeyType.ED25519, KeyType.ECDSA))
    kinds = {path: next((kind for kind in KeyType if kind in path.rpartition("/")[2]), None) for path in missing}
    return tuple(HostKey(path, kind) for path, kind in kinds.items() if kind)


def _default_path(kind: KeyType) -> str:
    return f"{sshd_config.DIRECTORY}/ssh_host_{kind}_key"


def _is_private_name(name: str) -> bool:
    return name.startswith("ssh_host_") and not name.endswith(".pub")


def _make_keys(wanted: tuple[HostKey, ...], comment: str, directory: Path) -> tuple[Path, ...]:
    """One new key for each, all at once. Raises the ProcessError of the first that failed."""
    paths = tuple(directory / str(number) for number in range(len(wanted)))
    failures: list[ProcessError] = []

    def make(kind: KeyType, path: Path, form: tuple[str, ...]) -> None:
        try:
            run(
                ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path), *form],
                limits=Limits(timeout=_TIMEOUT),
            )
        except ProcessError as error:
            failures.append(error)

    threads = [
        threading.Thread(target=make, args=(key.type, path, ("-m", "PEM") if key.pem else ()))
        for key, path in zip(wanted, paths, strict=True)
        if key.type
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return paths


def _remove_leftovers(guest: Guest, old: tuple[HostKey, ...], replaced: set[str]) -> None:
    """Keys that get no successor, with their public halves, and every certificate: it spoke for an old key."""
    for name in guest.list_directory(sshd_config.DIRECTORY, missing_ok=True):
        path = f"{sshd_config.DIRECTORY}/{name}"
        if name.startswith("ssh_host_") and not guest.is_dir(path) and path.removesuffix(".pub") not in replaced:
            guest.remove(path)
    for words in sshd_config.settings(guest, "HostCertificate"):
        if words[0].startswith("/") and guest.is_file(words[0]) and b"-cert-v0" in guest.head(words[0], 128):
            guest.remove(words[0])
    for key in old:
        if key.path not in replaced:
            guest.remove(key.path, missing_ok=True)
            guest.remove(f"{key.path}.pub", missing_ok=True)


def _keep_private(guest: Guest, path: str) -> Ownership:
    """The old key's owner and mode where they keep the world out (Red Hat lets a group in), else root alone."""
    old = guest.ownership(path)
    return old if old is not None and not old.mode & 0o007 else _PRIVATE


TASK: Task[Guest] = Task(
    "DeleteSSHKeys",
    delete_ssh_keys,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE,),
    decides="of the types that are there",
)
