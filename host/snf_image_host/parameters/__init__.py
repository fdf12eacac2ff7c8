# SPDX-License-Identifier: GPL-2.0-or-later
"""OS parameters and what belongs to them: text of a user -> checked types."""
