# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's hooks and overlays: what runs in the helper VM, what on the node, and what either gets."""
