# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-inspect: what is in an image, and what a deployment of it would do."""
