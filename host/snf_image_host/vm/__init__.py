# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper VM as the host sees it: its image, its machine, its jail, its ports."""
