# SPDX-License-Identifier: GPL-2.0-or-later
"""What Windows guests alone have: registry, answer files, NTFS."""
