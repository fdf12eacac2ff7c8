# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows guests that cannot be had here: C: as each version lays it out, with real hives and sysprep states.

`PHONY_WINDOWS["phony-windows-server-2022"].make(tmp_path / "c")` lays one out as sysprep has left it;
`replace(phony, image_state="IMAGE_STATE_COMPLETE")` is another state. Programs are nothing but their name: nobody runs
them. Sources: learn.microsoft.com "Windows Server release information", "Windows 10 release information", "Windows
Setup States", "OpenSSH Server configuration"; inspections by libguestfs (inspect_fs_windows.c) for names and values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from images.hives import Key, make_hive

__all__ = ["CLOUDBASE", "PHONY_WINDOWS", "RESEALED", "PhonyWindows", "security_accounts"]

RESEALED = "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
CLOUDBASE = "/Program Files/Cloudbase Solutions/Cloudbase-Init"
_CLOUDBASE_BACKSLASHED = CLOUDBASE.replace("/", "\\")
_PROGRAM = b"MZ" + bytes(62)
# What the installer of cloudbase-init writes, but for log levels (github.com/cloudbase/cloudbase-init-installer).
_CLOUDBASE_CONF = """[DEFAULT]\r
username=Admin\r
groups=Administrators\r
inject_user_password=true\r
config_drive_raw_hhd=true\r
config_drive_cdrom=true\r
config_drive_vfat=true\r
bsdtar_path=C:\\Program Files\\Cloudbase Solutions\\Cloudbase-Init\\bin\\bsdtar.exe\r
mtools_path=C:\\Program Files\\Cloudbase Solutions\\Cloudbase-Init\\bin\\\r
verbose=true\r
debug=true\r
log_dir=C:\\Program Files\\Cloudbase Solutions\\Cloudbase-Init\\log\\\r
log_file=cloudbase-init.log\r
local_scripts_path=C:\\Program Files\\Cloudbase Solutions\\Cloudbase-Init\\LocalScripts\\\r
check_latest_version=true\r
"""


@dataclass(frozen=True)
class PhonyWindows:
    """One Windows. `version` is CurrentVersion, `major` CurrentMajorVersionNumber, 0 before Windows 10.

    `image_state` is Setup's since Vista; `mini_setup` says that sysprep -mini or -reseal has prepared XP or 2003.
    """

    name: str
    version: str
    build: int
    product: str
    edition: str = ""
    installation: str = ""
    major: int = 0
    revision: int = 0
    architecture: str = "AMD64"
    image_state: str = RESEALED
    mini_setup: bool = True
    rdp_denied: int = 0
    openssh: bool = False
    cloudbase: bool = False

    @property
    def legacy(self) -> bool:
        """Whether it is from before Vista."""
        return self.version.startswith("5.")

    def make(self, root: Path) -> Path:
        """Lay C: out in `root`, which is made."""
        for directory in _LEGACY_DIRECTORIES if self.legacy else _DIRECTORIES:
            (root / directory).mkdir(parents=True, exist_ok=True)
        for path, content in self._files():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        config = root / ("WINDOWS/system32/config" if self.legacy else "Windows/System32/config")
        names = ("system", "software", "SAM") if self.legacy else ("SYSTEM", "SOFTWARE", "SAM")
        for name, keys in zip(names, (self.system, self.software, _SAM), strict=True):
            make_hive(config / name, keys)
        return root

    @property
    def system(self) -> Key:
        """The keys of the hive SYSTEM."""
        services: dict[str, Key] = {"Tcpip": {"Parameters": {"Hostname": "WIN-TEMPLATE"}}}
        if self.openssh:
            services["sshd"] = {"ImagePath": r"%SystemRoot%\System32\OpenSSH\sshd.exe", "Start": 3, "Type": 16}
        if self.cloudbase:
            services["cloudbase-init"] = {
                "ImagePath": rf"C:{_CLOUDBASE_BACKSLASHED}\bin\OpenStackService.exe",
                "Start": 2,
            }
        control: Key = {
            "ComputerName": {"ComputerName": {"ComputerName": "WIN-TEMPLATE"}},
            "Session Manager": {
                "Environment": {"PROCESSOR_ARCHITECTURE": self.architecture, "OS": "Windows_NT"},
            },
            "Terminal Server": {"fDenyTSConnections": self.rdp_denied, "TSEnabled": 1},
            "Class": {},
            **({"CriticalDeviceDatabase": {}} if self.version in {"5.1", "5.2", "6.1"} else {}),
        }
        database: Key = {"DeviceIds": {"PCI": {}}, "DriverInfFiles": {}, "DriverPackages": {}}
        return {
            "Select": {"Current": 1, "Default": 1, "Failed": 0, "LastKnownGood": 1},
            "ControlSet001": {"Control": control, "Services": services},
            "Setup": self._setup,
            **({"DriverDatabase": database} if self.version in {"6.2", "6.3"} else {}),
        }

    @property
    def software(self) -> Key:
        """The keys of the hive SOFTWARE."""
        current: dict[str, int | str] = {
            "CurrentVersion": self.version,
            "CurrentBuildNumber": str(self.build),
            "CurrentBuild": str(self.build),
            "ProductName": self.product,
            "SystemRoot": r"C:\WINDOWS" if self.legacy else r"C:\Windows",
        }
        if self.major:
            current |= {"CurrentMajorVersionNumber": self.major, "CurrentMinorVersionNumber": 0, "UBR": self.revision}
        if not self.legacy:
            current |= {"EditionID": self.edition, "InstallationType": self.installation}
        setup: Key = {} if self.legacy else {"State": {"ImageState": self.image_state}}
        return {
            "Microsoft": {"Windows NT": {"CurrentVersion": current}, "Windows": {"CurrentVersion": {"Setup": setup}}}
        }

    @property
    def _setup(self) -> Key:
        if self.legacy:
            running = int(self.mini_setup)
            command = "setup -newsetup -mini" if running else ""
            return {"SystemSetupInProgress": running, "MiniSetupInProgress": running, "CmdLine": command}
        running = int(self.image_state != "IMAGE_STATE_COMPLETE")
        return {
            "SystemSetupInProgress": running,
            "OOBEInProgress": running,
            "SetupType": 2 * running,
            "CmdLine": r"oobe\windeploy.exe" if running else "",
        }

    def _files(self) -> Iterator[tuple[str, bytes]]:
        if self.legacy:
            yield from ((path, _PROGRAM) for path in _LEGACY_PROGRAMS)
            yield (
                "boot.ini",
                b"[boot loader]\r\ntimeout=30\r\ndefault=multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS\r\n",
            )
            return
        yield from ((path, _PROGRAM) for path in _PROGRAMS)
        state = f"[State]\r\nImageState={self.image_state}\r\n"
        yield "Windows/Setup/State/State.ini", f"\ufeff{state}".encode("utf-16-le")
        if self.openssh:
            yield from ((f"Windows/System32/OpenSSH/{name}", _PROGRAM) for name in ("sshd.exe", "sshd_config_default"))
        if self.cloudbase:
            yield f"{CLOUDBASE[1:]}/conf/cloudbase-init.conf", _CLOUDBASE_CONF.encode()
            yield f"{CLOUDBASE[1:]}/conf/cloudbase-init-unattend.conf", _CLOUDBASE_CONF.encode()
            yield f"{CLOUDBASE[1:]}/bin/OpenStackService.exe", _PROGRAM


_DIRECTORIES = (
    "$Recycle.Bin", "PerfLogs", "Program Files/Common Files", "Program Files (x86)", "ProgramData/Microsoft",
    "Users/Default", "Users/Public", "Windows/INF", "Windows/Panther", "Windows/System32/config/RegBack",
    "Windows/System32/drivers", "Windows/Temp",
)  # fmt: skip
_PROGRAMS = (
    "Windows/explorer.exe", "Windows/System32/ntoskrnl.exe", "Windows/System32/cmd.exe", "Windows/System32/net.exe",
    "Windows/System32/diskpart.exe", "Windows/System32/Sysprep/sysprep.exe", "Windows/System32/oobe/windeploy.exe",
)  # fmt: skip
_LEGACY_DIRECTORIES = (
    "Documents and Settings/All Users", "Documents and Settings/Default User", "Program Files", "RECYCLER",
    "WINDOWS/inf", "WINDOWS/repair", "WINDOWS/system32/config", "WINDOWS/system32/drivers", "WINDOWS/Temp", "sysprep",
)  # fmt: skip
_LEGACY_PROGRAMS = (
    "NTDETECT.COM", "ntldr", "WINDOWS/explorer.exe", "WINDOWS/system32/ntoskrnl.exe", "WINDOWS/system32/cmd.exe",
    "sysprep/sysprep.exe", "sysprep/setupcl.exe",
)  # fmt: skip


def security_accounts(*users: str, administrator: str = "Administrator", complex_from: int | None = None) -> Key:
    """The hive SAM with the built-in two and these users; `complex_from` asks for complex passwords of that length.

    Layouts: chntpw's sam.h (V: names behind a head of 0xCC bytes), impacket's DOMAIN_ACCOUNT_F.
    """
    names = {500: administrator, 501: "Guest", **dict(enumerate(users, 1000))}
    entries: dict[str, Key] = {
        f"{number:08X}": {"V": struct.pack("<12xII", 0, 2 * len(name)).ljust(0xCC, b"\0") + name.encode("utf-16-le")}
        for number, name in names.items()
    }
    policy = struct.pack("<76xIH", int(complex_from is not None), complex_from or 0).ljust(0xF0, b"\0")
    known: Key = {name: {} for name in names.values()}
    return {"SAM": {"Domains": {"Account": {"F": policy, "Users": {**entries, "Names": known}}}}}


_SAM = security_accounts()

_SERVER = PhonyWindows("", "6.3", 0, "", "ServerStandard", "Server", major=10)
_CLIENT = PhonyWindows("", "6.3", 0, "", "Professional", "Client", major=10)

PHONY_WINDOWS: Mapping[str, PhonyWindows] = {
    phony.name: phony
    for phony in (
        PhonyWindows("phony-windows-xp", "5.1", 2600, "Microsoft Windows XP", architecture="x86"),
        PhonyWindows("phony-windows-server-2003", "5.2", 3790, "Microsoft Windows Server 2003"),
        PhonyWindows(
            "phony-windows-server-2008r2", "6.1", 7601, "Windows Server 2008 R2 Standard", "ServerStandard", "Server"
        ),
        PhonyWindows("phony-windows-8.1", "6.3", 9600, "Windows 8.1 Pro", "Professional", "Client", architecture="x86"),
        replace(_CLIENT, name="phony-windows-10", build=19045, revision=4291, product="Windows 10 Pro"),
        # The name in the registry has never become 11.
        replace(_CLIENT, name="phony-windows-11", build=22631, revision=3447, product="Windows 10 Pro"),
        replace(
            _CLIENT,
            name="phony-windows-11-arm64",
            build=26100,
            revision=1742,
            product="Windows 10 Pro",
            architecture="ARM64",
        ),
        replace(
            _SERVER,
            name="phony-windows-server-2016",
            build=14393,
            revision=6897,
            product="Windows Server 2016 Standard",
        ),
        replace(
            _SERVER,
            name="phony-windows-server-2019",
            build=17763,
            revision=5696,
            product="Windows Server 2019 Standard",
        ),
        replace(
            _SERVER,
            name="phony-windows-server-2022",
            build=20348,
            revision=2402,
            product="Windows Server 2022 Standard",
        ),
        # OpenSSH's server is there from the beginning, and off.
        replace(
            _SERVER,
            name="phony-windows-server-2025",
            build=26100,
            revision=1742,
            product="Windows Server 2025 Standard",
            openssh=True,
        ),
    )
}
