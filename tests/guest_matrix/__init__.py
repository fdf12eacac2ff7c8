# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests on a network of their own: which ones, what they are ordered with, and what is asked of them."""
