# SPDX-License-Identifier: GPL-2.0-or-later
"""STORY: the installed helper -> checked against its manifest -> one tarball for other nodes, with its checksum."""

from __future__ import annotations

from pathlib import Path

from snf_image_helper_builder import tarball
from snf_image_helper_builder.build import Say, held
from snf_image_helper_builder.replacement import scratch_beside
from snf_image_helper_builder.trust import sha256_of
from snf_image_shared.errors import ConfigurationError
from snf_image_shared.manifest import Manifest


def dump(helper: Path, directory: Path, say: Say) -> Path:
    """Pack `helper` into `directory`, in place of an older tarball of the same version, and give the tarball.

    The same helper gives the same bytes. Raises ConfigurationError for a helper that is not whole, OSError.
    """
    Manifest.load(helper)
    if not directory.is_dir():
        raise ConfigurationError(f"{directory} is no directory: create it, or name another one")
    target = directory / tarball.name()
    # Nobody puts another one in its place meanwhile, of which half of the files would be.
    with held(say, helper.parent), scratch_beside(target) as scratch:
        Manifest.load(helper).check(helper, deep=True)
        packed, checksum = scratch / target.name, scratch / "sha256"
        tarball.pack(helper, packed)
        checksum.write_text(f"{sha256_of(packed)}  {target.name}\n", encoding="ascii")
        for path in (packed, checksum):
            path.chmod(0o644)
        packed.replace(target)
        checksum.replace(directory / f"{target.name}.sha256")
    return target
