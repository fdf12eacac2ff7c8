# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs in the unprivileged process that interprets an image: content from strangers is looked at here alone.

Only the standard library and the codecs are imported, these when they are needed: there is a process for each image.
"""
