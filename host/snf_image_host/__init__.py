# SPDX-License-Identifier: GPL-2.0-or-later
"""The privileged tier: implements the Ganeti OS interface, streams the image, boots the helper VM."""
