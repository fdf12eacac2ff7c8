# SPDX-License-Identifier: GPL-2.0-or-later
"""Password hashes for shadow(5), made by libxcrypt through ctypes: Python lost its crypt module in 3.13."""

from __future__ import annotations

import ctypes
import os
import re
from enum import StrEnum

from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError

LOGIN_DEFS = "/etc/login.defs"
_DEFAULT_LOGIN_DEFS = "/usr/etc/login.defs"  # SUSE's, where nobody has changed it
LONGEST_PASSWORD = 511  # bytes: CRYPT_MAX_PASSPHRASE_SIZE of crypt(3), less its NUL
_SALT_SIZE = 192  # CRYPT_GENSALT_OUTPUT_SIZE
_DATA_SIZE = 32768  # sizeof(struct crypt_data) in libxcrypt
ENTROPY = 16  # bytes of a salt
_LONGEST_HASH = 512
# Debian, Red Hat's family and Arch, SUSE.
_PAM = ("/etc/pam.d/common-password", "/etc/pam.d/system-auth", "/etc/pam.d/common-password-pc")


class Method(StrEnum):
    """The values of the property PASSWD_HASHING_METHOD that a Linux guest understands, and yescrypt."""

    MD5 = "md5"
    BLOWFISH = "blowfish"
    SHA256 = "sha256"
    SHA512 = "sha512"
    YESCRYPT = "yescrypt"


_PREFIX = {
    Method.MD5: b"$1$",
    Method.BLOWFISH: b"$2b$",
    Method.SHA256: b"$5$",
    Method.SHA512: b"$6$",
    Method.YESCRYPT: b"$y$",
}
# libxcrypt's own choice for bcrypt is 2^5 rounds, too few today; for the others it is sound.
_COST = {Method.BLOWFISH: 10}


def parse_method(name: str) -> Method:
    """Read the property PASSWD_HASHING_METHOD. Raises GuestError for what a Linux guest cannot verify."""
    try:
        return Method(name.strip().lower())
    except ValueError as error:
        raise GuestError(
            f"property PASSWD_HASHING_METHOD: {name[:40]!r} is none a Linux guest knows; use one of {', '.join(Method)}"
        ) from error


def method_of(guest: Guest, shadow: str) -> Method:
    """What the guest itself uses, if its C library can verify that: yescrypt or sha512.

    login.defs says it, else PAM, else a hash in `shadow`. Of a library that cannot be found the best is assumed.
    """
    texts = (guest.read_text(path, missing_ok=True) for path in (LOGIN_DEFS, _DEFAULT_LOGIN_DEFS))
    defaults = next((text for text in texts if text is not None), "")
    chosen = re.search(r"^[ \t]*ENCRYPT_METHOD[ \t]+(\S+)", defaults, re.MULTILINE)
    wanted = (
        chosen[1].upper() == "YESCRYPT"
        if chosen
        else _pam_says_yescrypt(guest) or re.search(r"^[^:\n]+:\$y\$", shadow, re.MULTILINE)
    )
    return Method.YESCRYPT if wanted and accepts_yescrypt(guest) is not False else Method.SHA512


def accepts_yescrypt(guest: Guest) -> bool | None:
    """Whether the guest's crypt(3) knows yescrypt: libxcrypt from 4.3 on has its prefix; glibc and musl never do.

    None when there is no C library to look into.
    """
    libraries = [
        f"{directory}/{name}"
        for directory in _library_directories(guest)
        for name in guest.list_directory(directory, missing_ok=True)
        if re.fullmatch(r"libcrypt\.so\.[12]", name) and guest.is_file(f"{directory}/{name}")
    ]
    if libraries:
        return any(b"$y$" in guest.read_bytes(path) for path in libraries)
    has_musl = any(name.startswith("ld-musl-") for name in guest.list_directory("/lib", missing_ok=True))
    return False if has_musl else None


def hash_password(password: str, method: Method, entropy: bytes | None = None) -> str:
    """Hash with a salt of `entropy`, ENTROPY bytes, or a new one. Raises GuestError for what crypt(3) cannot take."""
    return hash_with(password, _PREFIX[method], _COST.get(method, 0), entropy)


def hash_with(password: str, prefix: bytes, cost: int = 0, entropy: bytes | None = None) -> str:
    """As hash_password(), by the `prefix` of crypt(5); a `cost` of 0 is libxcrypt's own choice."""
    phrase = password.encode("utf-8", "surrogateescape")
    if b"\0" in phrase or b"\n" in phrase or b"\r" in phrase:
        raise GuestError(
            "OS parameter img_passwd contains a NUL or a line break; nobody could type it, so leave it out"
        )
    if len(phrase) > LONGEST_PASSWORD:
        raise GuestError(f"OS parameter img_passwd is longer than {LONGEST_PASSWORD} bytes; use a shorter password")
    library = _library()
    salt = ctypes.create_string_buffer(_SALT_SIZE)
    entropy = entropy or os.urandom(ENTROPY)
    refusal = f"the helper's libcrypt cannot make hashes of the kind {prefix.decode()}; set PASSWD_HASHING_METHOD"
    if not library.crypt_gensalt_rn(prefix, cost, entropy, len(entropy), salt, len(salt)):
        raise GuestError(refusal)
    memory = ctypes.create_string_buffer(_DATA_SIZE)
    hashed = library.crypt_rn(phrase, salt.value, memory, len(memory))
    if not isinstance(hashed, bytes):
        raise GuestError(refusal)
    return hashed.decode("ascii")


def check_hash(text: str) -> str:
    """A hash that is taken verbatim, "!" and "" included. Raises GuestError for what would break shadow(5)."""
    if not text.isascii() or not (text.isprintable() or not text) or ":" in text or " " in text:
        raise GuestError(
            "OS parameter img_passwd_hash contains a colon, a blank, a line break or the like; give one crypt(5) hash"
        )
    if len(text) > _LONGEST_HASH:
        raise GuestError(
            f"OS parameter img_passwd_hash is longer than {_LONGEST_HASH} characters; give one crypt(5) hash"
        )
    return text


def change_shadow(shadow: str, user: str, hashed: str, today: int) -> str | None:
    """The file with the user's hash changed and the day of change set to `today` (days since 1970).

    Order, the other fields and the other lines stay as they are. None when the user has no line.
    """
    lines = shadow.split("\n")
    found = False
    for number, line in enumerate(lines):
        fields = line.split(":")
        if len(fields) > 1 and fields[0] == user:
            fields += [""] * (9 - len(fields))
            # Day 0 would mean "must be changed at the next login".
            fields[1], fields[2] = hashed, str(max(today, 1))
            lines[number] = ":".join(fields)
            found = True
    return "\n".join(lines) if found else None


def shadow_fields(shadow: str, user: str) -> list[str]:
    """The fields of the user's first line, the one that counts; empty when there is none."""
    lines = (line.split(":") for line in shadow.split("\n"))
    return next((fields for fields in lines if len(fields) > 1 and fields[0] == user), [])


def _pam_says_yescrypt(guest: Guest) -> bool:
    for path in _PAM:
        text = guest.read_text(path, missing_ok=True) or ""
        if re.search(r"^[ \t]*-?password\b[^#\n]{0,400}\bpam_unix\.so\b[^#\n]{0,400}\byescrypt\b", text, re.MULTILINE):
            return True
    return False


def _library_directories(guest: Guest) -> tuple[str, ...]:
    """Where ld.so looks, Debian's directories of architectures among them; /lib may be a link to /usr/lib."""
    plain = ("/lib64", "/lib", "/usr/lib64", "/usr/lib")
    named = tuple(
        f"{directory}/{name}"
        for directory in ("/lib", "/usr/lib")
        for name in guest.list_directory(directory, missing_ok=True)
        if "-linux-" in name
    )
    return (*named, *plain)


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError as error:
        raise GuestError("the helper has no libcrypt.so.1; rebuild it with snf-image-update-helper") from error
    library.crypt_gensalt_rn.restype = ctypes.c_char_p
    library.crypt_gensalt_rn.argtypes = (
        ctypes.c_char_p,
        ctypes.c_ulong,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
    )
    library.crypt_rn.restype = ctypes.c_char_p
    library.crypt_rn.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
    return library
