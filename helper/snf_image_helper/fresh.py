# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes that are no other deployment's, and the same when a task of one deployment is done again."""

from __future__ import annotations

import os
from _blake2 import blake2b  # what hashlib gives, which would load OpenSSL with it: that takes long under emulation

from snf_image_shared.job import Job


def fresh_bytes(job: Job, purpose: str, size: int) -> bytes:
    """At most 64 bytes for one purpose, from the host's randomness in the job; without that they are new every time."""
    if not job.seed:
        return os.urandom(size)
    return blake2b(f"{purpose}\0{job.seed}".encode(), digest_size=size).digest()
