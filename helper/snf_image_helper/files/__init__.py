# SPDX-License-Identifier: GPL-2.0-or-later
"""What the mounted guest is read and changed with, beneath `Guest`."""
