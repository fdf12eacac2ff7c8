# SPDX-License-Identifier: GPL-2.0-or-later
"""Configurations of boot loaders, one kind a file: each says whether a guest has it, and changes its kernels' words.

They are edited as text, and nothing of the guest is run: what its tools would generate is changed beside what they
generate it from.
"""

from __future__ import annotations

from collections.abc import Callable

from snf_image_helper.boot_loaders import bls, extlinux, grub, grub_legacy
from snf_image_helper.files.edits import Edits
from snf_image_helper.linux.kernel_arguments import Arguments

# Each answers whether it has found kernels that are started from its configuration.
LOADERS: tuple[Callable[[Edits, Arguments], bool], ...] = (grub.edit, bls.edit, extlinux.edit, grub_legacy.edit)
