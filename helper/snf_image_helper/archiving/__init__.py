# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest becomes an archive that goes out through the stream port, and one that comes in there becomes a guest."""
