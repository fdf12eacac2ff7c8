# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks as bytes: partition tables, volumes, file systems, and how they fill what they lie on."""
