# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs in the unprivileged process that interprets an image: content from strangers is looked at here alone.

Only the standard library and the codecs are imported, the latter when they are needed: the process starts for each image.
"""
