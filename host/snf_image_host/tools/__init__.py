# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's tools for instances that are there already: an image made of one, a shell beside its disks."""
