# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's hooks inside the VM: the root they run in, what they find there, and their order."""
