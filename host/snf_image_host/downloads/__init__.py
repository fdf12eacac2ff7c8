# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of other machines, fetched by an unprivileged curl."""
