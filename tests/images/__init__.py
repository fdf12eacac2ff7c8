# SPDX-License-Identifier: GPL-2.0-or-later
"""Real images for the tests and the demo, made by the real tools, and readers that look at a disk from outside.

`distribution` gives images that boot, `layouts` gives small ones for the matrix of partition tables and file
systems, `inspection` reads what became of them. Nothing here imports the code under test, save `process.run`.
"""
