# SPDX-License-Identifier: GPL-2.0-or-later
"""The task runner of the helper VM: turns the copied image into the instance's own system."""
