# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Ganeti cluster of one node in private namespaces, and what it says of the provider.

`node` is the machine, `cluster` what Ganeti makes of it; the tests drive it with Ganeti's own commands. It is a package
so that its cluster ends with its last test.
"""
