# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes what is published of the OS parameters, from the registry and the models: `make parameters`.

parameters.list and the files of `image` beside this file, and docs/schema. Tests hold them up to date.
"""

from __future__ import annotations

from pathlib import Path

from snf_image_host.hooks.switches import SWITCH_FILE, Switch
from snf_image_host.instance_image.manual import defaults_file
from snf_image_host.parameters.osparams import parameters_list
from snf_image_host.parameters.schemas import published

PROJECT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Write all files; a schema that is not published any more goes."""
    (PROJECT / "host/ganeti/parameters.list").write_text(parameters_list(), encoding="ascii")
    settings = PROJECT / "host/ganeti/image/etc"
    (settings / "default/ganeti-instance-image").write_text(defaults_file(), encoding="ascii")
    for switch in Switch:
        (settings / "ganeti/instance-image/hooks" / switch).write_bytes(SWITCH_FILE)
    directory = PROJECT / "docs/schema"
    directory.mkdir(exist_ok=True)
    for path in directory.glob("*.json"):
        path.unlink()
    for name, text in published().items():
        (directory / name).write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
