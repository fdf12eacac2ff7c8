# SPDX-License-Identifier: GPL-2.0-or-later
"""Images: where they come from, what they are, and what has to hold of them before a disk may boot."""
