# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounts, passwords and SSH keys of guests that are Unix."""
