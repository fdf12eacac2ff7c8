# SPDX-License-Identifier: GPL-2.0-or-later
"""The contract between the host tier and the helper: job, report, errors, properties. Standard library only."""

__version__ = "1.0.0.dev0"
