# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux guests alone have, and where each distribution keeps it."""
