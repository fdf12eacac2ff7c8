# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's files, read as data: settings, variants, and programs of his own."""
