# SPDX-License-Identifier: GPL-2.0-or-later
"""Real cloud-inits of Debian, unpacked and never installed, and rooms in which one runs over the tree of a guest.

In such a room the files of the guest lie over /etc and /var/lib of the machine, which keeps what is below them, and the
host name, the network, /run, /home and /root are nobody's.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from snf_image_helper_builder.debian import apt_mirror
from unit.helper.disk_images import sh
from unit.helper.guest_tools import GuestTools

OWN, TRIXIE = "own", "trixie"  # the release that this machine is of, and Debian 13
_ROOM = """
mount -t tmpfs room "$ROOM"
for place in etc var/lib; do
    mkdir -p "$ROOM/upper/$place" "$ROOM/work/$place"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$ROOM/upper/$place,workdir=$ROOM/work/$place" "/$place"
done
rm -rf /etc/cloud /etc/ssh /etc/netplan /etc/network
cp -a "$GUEST/etc/." /etc/
cp -a "$GUEST/var/lib/." /var/lib/
for place in /run /home /root /var/log; do mount -t tmpfs "$place" "$place"; done
mount -t sysfs -o ro sysfs /sys
mkdir -p /run/cloud-init /run/lock
ip link set lo up
hostname image
"""

_VALIDATE = """
import json, sys
from cloudinit.config import schema
found = {}
for name, document in json.load(sys.stdin).items():
    kind = getattr(getattr(schema, "SchemaType", None), "NETWORK_CONFIG_V2", None) if name == "network-config" else None
    if name == "network-config" and kind is None:
        continue
    rules = schema.get_schema(kind) if kind else schema.get_schema()
    try:
        schema.validate_cloudconfig_schema(document, schema=rules, strict=True, log_details=False)
    except schema.SchemaValidationError as error:
        found[name] = str(error)
json.dump(found, sys.stdout)
"""


class CloudInit:
    """`release` is one of OWN and TRIXIE, `tree` where the package was unpacked; its libraries are this machine's."""

    def __init__(self, tools: GuestTools, tree: Path) -> None:
        self.tools = tools
        self.tree = tree

    @classmethod
    def of(cls, release: str, cache: Path) -> CloudInit:
        tools = GuestTools.unpack(cache)
        return cls(tools, tools.root if release == OWN else _unpacked(release, cache))

    @property
    def command(self) -> str:
        """The shell's words for the program."""
        packages = "usr/lib/python3/dist-packages"
        path = f"{self.tree}/{packages}:{self.tools.root}/{packages}"
        return f"env PYTHONPATH={path} /usr/bin/python3 -W ignore -m cloudinit.cmd.main"

    @property
    def ds_identify(self) -> str:
        return f"{self.tree}/usr/lib/cloud-init/ds-identify"

    def give(self, guest: Path, modules: Mapping[str, list[str]]) -> None:
        """Put the package's settings into a guest, with these modules in the place of its own ("init": ["ssh"])."""
        shutil.copytree(self.tree / "etc/cloud", guest / "etc/cloud", dirs_exist_ok=True)
        lists = {f"cloud_{stage}_modules": modules.get(stage, []) for stage in ("init", "config", "final")}
        (guest / "etc/cloud/cloud.cfg.d/10_modules.cfg").write_text(json.dumps(lists))
        version = Path("usr/lib/python3/dist-packages/cloudinit/version.py")
        (guest / version).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.tree / version, guest / version)
        (guest / "usr/bin").mkdir(parents=True, exist_ok=True)
        (guest / "usr/bin/cloud-init").touch()

    def run(self, script: str, guest: Path, room: Path) -> str:
        """Run a shell script in a room with this guest's files; `cloud-init` is the program."""
        room.mkdir(exist_ok=True)
        argv = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        argv += ["env", f"ROOM={room}", f"GUEST={guest}", "sh", "-euc"]
        return self.tools.run(*argv, f'{_ROOM}\nci() {{ {self.command} "$@"; }}\n{script}')

    def complaints(self, documents: Mapping[str, object]) -> Mapping[str, str]:
        """What cloud-init's own schemas have against documents: cloud-configs, or for "network-config" that.

        22.4 has no schema for network-config of version 2, and lets it pass.
        """
        path = self.command.split()[1]
        argv = ["env", path, "/usr/bin/python3", "-W", "ignore", "-c", _VALIDATE]
        found: Mapping[str, str] = json.loads(self.tools.run(*argv, stdin=json.dumps(documents)))
        return found


def _unpacked(suite: str, cache: Path) -> Path:
    """cloud-init of another release of Debian, by an apt that has state and sources of its own."""
    root = cache / f"cloud-init-{suite}"
    with (cache / f".cloud-init-{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "tree").exists():
            (root / "lists/partial").mkdir(parents=True, exist_ok=True)
            keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
            (root / "sources.list").write_text(f"deb [signed-by={keys}] {apt_mirror()} {suite} main\n")
            places = {
                "Dir::Etc::SourceList": root / "sources.list",
                "Dir::Etc::SourceParts": "/dev/null",
                "Dir::State::Lists": root / "lists",
                "Dir::State::Status": "/dev/null",
                "Dir::Cache": root,
                "Acquire::Languages": "none",
                "APT::Sandbox::User": "root",
            }
            apt = ["apt-get", "-q", *(word for name, value in places.items() for word in ("-o", f"{name}={value}"))]
            sh(*apt, "update")
            sh("env", f"--chdir={root}", *apt, "download", "cloud-init")
            sh("dpkg-deb", "--extract", str(next(root.glob("*.deb"))), str(root / "unpacked"))
            (root / "unpacked").rename(root / "tree")
    return root / "tree"
