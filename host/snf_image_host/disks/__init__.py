# SPDX-License-Identifier: GPL-2.0-or-later
"""The instance's disks, wherever their bytes are, and what guards them."""
