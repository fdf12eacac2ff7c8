# SPDX-License-Identifier: GPL-2.0-or-later
"""What FreeBSD, NetBSD and OpenBSD have in common, and where each keeps it."""
