# SPDX-License-Identifier: GPL-2.0-or-later
"""The OS definition `image`: what ganeti-instance-image's files say, and what that is for this provider's stories."""
