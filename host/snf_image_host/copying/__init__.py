# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of an image on their way onto a disk."""
