# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the image of the helper VM with mmdebstrap."""
