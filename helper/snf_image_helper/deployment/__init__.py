# SPDX-License-Identifier: GPL-2.0-or-later
"""An empty disk becomes a guest's: divided, file systems made, an archive unpacked there, fstab written."""
