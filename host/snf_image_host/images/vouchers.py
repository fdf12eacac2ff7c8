# SPDX-License-Identifier: GPL-2.0-or-later
"""VERIFY: what has to vouch for an image, and whether there is such a thing beside it. Nothing is written before.

Checksums and signatures that the image itself has to hold are only found here: they are checked while it is copied.
"""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_host.configuration.setting_types import Verify
from snf_image_host.configuration.settings import Settings
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.origins import Origin, OriginKind
from snf_image_host.images.sidecars import (
    SIGNATURES,
    Sidecar,
    checksum_beside,
    lists_for,
    signature_beside,
    signed_lists,
)
from snf_image_host.images.signatures import DetachedSignature, Keyring, Verdict, is_clearsigned, refusal, signed_text
from snf_image_shared.errors import ImageError


@dataclass(frozen=True)
class Voucher:
    """What has to hold of the image in addition to what img_checksum says."""

    checksums: tuple[Checksum, ...] = ()
    signature: DetachedSignature | None = None


def voucher_for(origin: Origin, settings: Settings, *, is_vouched: bool) -> Voucher:
    """What VERIFY wants of that image; `is_vouched` says that there is an img_checksum.

    Raises ImageError if there is no such thing, or it is no good; ConfigurationError without a usable keyring.
    """
    match policy_for(origin.kind, settings):
        case Verify.CHECKSUM if not is_vouched:
            return Voucher((checksum_beside(origin, accept_sha1=settings.accept_sha1),))
        case Verify.SIGNATURE:
            return _signed(origin, Keyring.read(settings.verify_keyring))
        case _:
            return Voucher()


def policy_for(kind: OriginKind, settings: Settings) -> Verify:
    """What holds for images of that kind."""
    own = {
        OriginKind.LOCAL: settings.verify_local,
        OriginKind.NETWORK: settings.verify_network,
        OriginKind.PROGRAM: settings.verify_program,
    }
    return own[kind] or settings.verify


def _signed(origin: Origin, keyring: Keyring) -> Voucher:
    if origin.basename and (found := signature_beside(origin, origin.basename)):
        signature = DetachedSignature(found.name, found.content, keyring)
        _refuse(origin, found.name, signature.early_verdict())
        return Voucher(signature=signature)
    for each, text in signed_lists(origin):
        if (signed := _signed_part(origin, text, keyring)) is not None:
            checksum = each.checksum(signed, origin.basename, is_signed=True)
            if checksum:
                return Voucher((checksum,))
    names = ", ".join(f"{origin.basename}{suffix}" for suffix in SIGNATURES)
    lists = " or ".join(each.name for each in lists_for(origin.basename)[2:])
    raise ImageError(
        f"{origin.name} is not signed, and this node wants it to be (VERIFY=signature): publish one of {names}, "
        f"or {lists} with a line for it and a signature, beside it"
    )


def _signed_part(origin: Origin, text: Sidecar, keyring: Keyring) -> bytes | None:
    """What is signed of a list; None if nothing is. Raises ImageError if the signature is not good."""
    if is_clearsigned(text.content):
        signed, verdict = signed_text(text.content, keyring)
        _refuse(origin, text.name, verdict)
        return signed
    found = signature_beside(origin, text.name)
    if not found:
        return None
    signature = DetachedSignature(found.name, found.content, keyring)
    try:
        signature.start()
        signature.feed(memoryview(text.content))
        _refuse(origin, found.name, signature.verdict())
    finally:
        signature.close()
    return text.content


def _refuse(origin: Origin, signature: str, verdict: Verdict) -> None:
    if verdict.doubts:
        raise refusal(origin.name, signature, verdict)
