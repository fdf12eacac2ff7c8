# SPDX-License-Identifier: GPL-2.0-or-later
"""cloudbase-init, which does on Windows what cloud-init does on Linux: its settings, and a NoCloud seed as it reads it.

It looks for the seed on volumes, by label, and in no directory of C:. Source: github.com/cloudbase/cloudbase-init,
metadata/services/{nocloudservice,baseconfigdrive}.py, plugins/common/{userdata,setuserpassword}.py.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from snf_image_helper import cloud_init
from snf_image_helper.cloud_init import Json
from snf_image_helper.guest import Guest
from snf_image_helper.windows.places import located
from snf_image_shared.errors import GuestError

SERVICE = "cloudbaseinit.metadata.services.nocloudservice.NoCloudConfigDriveService"
_DIRECTORIES = tuple(
    f"/{programs}/Cloudbase Solutions/Cloudbase-Init/conf" for programs in ("Program Files", "Program Files (x86)")
)
_MAIN = "cloudbase-init.conf"
_NAMES = (_MAIN, "cloudbase-init-unattend.conf")  # the second is for what runs within Setup
_BOUNDARY = "==snf-image=="
# Gives its own user a password that nobody knows, after all that user data says.
_RANDOM_PASSWORD = "cloudbaseinit.plugins.common.setuserpassword.SetUserPasswordPlugin"  # noqa: S105
_PLUGINS = (
    "cloudbaseinit.plugins.common.mtu.MTUPlugin",
    "cloudbaseinit.plugins.windows.ntpclient.NTPClientPlugin",
    "cloudbaseinit.plugins.common.sethostname.SetHostNamePlugin",
    "cloudbaseinit.plugins.windows.createuser.CreateUserPlugin",
    "cloudbaseinit.plugins.common.networkconfig.NetworkConfigPlugin",
    "cloudbaseinit.plugins.windows.licensing.WindowsLicensingPlugin",
    "cloudbaseinit.plugins.common.sshpublickeys.SetUserSSHPublicKeysPlugin",
    "cloudbaseinit.plugins.windows.extendvolumes.ExtendVolumesPlugin",
    "cloudbaseinit.plugins.common.userdata.UserDataPlugin",
    "cloudbaseinit.plugins.windows.winrmlistener.ConfigWinRMListenerPlugin",
    "cloudbaseinit.plugins.windows.winrmcertificateauth.ConfigWinRMCertificateAuthPlugin",
    "cloudbaseinit.plugins.common.localscripts.LocalScriptsPlugin",
)
# The seed lies on a volume that everybody may read, and stays there.
_CLEAR = """#ps1_sysnative
foreach ($volume in Get-WmiObject Win32_Volume -Filter "Label='cidata'") {
  $place = $volume.DeviceID
  if ($volume.DriveLetter) { $place = $volume.DriveLetter + '\\' }
  $file = $place + 'user-data'
  $length = (Get-Item -LiteralPath $file).Length
  [IO.File]::WriteAllBytes($file, (New-Object byte[] $length))
  [IO.File]::WriteAllBytes($file, (New-Object byte[] 0))
}
"""


@dataclass(frozen=True)
class Orders:
    """What the seed says; `passwords` by user, in clear: Windows takes no hash."""

    instance_id: str
    name: str
    keys: tuple[str, ...] = ()
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    ethernets: Mapping[str, Json] = field(default_factory=dict)
    user_data: bytes = field(default=b"", repr=False)
    clears: bool = True


def pin(guest: Guest, *, has_password: bool) -> None:
    """Let it ask nobody but the seed, and give nobody a random password after ours.

    Raises GuestError when the image has none.
    """
    places = (located(guest, path) for path in _DIRECTORIES)
    directory = next(filter(guest.is_dir, places), "")
    paths = [located(guest, f"{directory}/{name}") for name in _NAMES]
    found = [path for path in paths if directory and guest.is_file(path)]
    if not found:
        raise GuestError(
            "CLOUD_INIT is set and the image has no cloudbase-init; install it in the image, or leave CLOUD_INIT out"
        )
    for path in found:
        text = guest.read_bytes(path).decode("latin-1")
        wanted = {"metadata_services": SERVICE, **_places(text)}
        if has_password and path.casefold().endswith(f"/{_MAIN}"):
            plugins = [plugin.strip() for plugin in (_option(text, "plugins") or ",".join(_PLUGINS)).split(",")]
            wanted["plugins"] = ",".join(plugin for plugin in plugins if plugin and plugin != _RANDOM_PASSWORD)
        guest.write_bytes(path, _with_options(text, wanted).encode("latin-1"))


def documents(orders: Orders) -> dict[str, bytes]:
    """The seed's files by name. Raises GuestError for user data that ours cannot stand beside."""
    meta_data: dict[str, Json] = {cloud_init.INSTANCE_ID: orders.instance_id, cloud_init.NAME: orders.name}
    if orders.keys:
        meta_data["public-keys"] = orders.keys
    found = {
        cloud_init.META_DATA: cloud_init.as_text(meta_data).encode(),
        cloud_init.USER_DATA: _user_data(orders),
    }
    if orders.ethernets:
        model: dict[str, Json] = {"version": 2, "ethernets": orders.ethernets}
        found[cloud_init.NETWORK_CONFIG] = cloud_init.as_text(model).encode()
    return found


def _places(text: str) -> dict[str, str]:
    """The seed is a FAT file system on a partition, which it looks for unless it is told otherwise."""
    usual = {"config_drive_types": "vfat", "config_drive_locations": "partition"}
    told = {name: _option(text, name) for name in usual}
    return {name: word for name, word in usual.items() if told[name] and word not in (told[name] or "").split(",")}


def _user_data(orders: Orders) -> bytes:
    if not orders.passwords:
        return orders.user_data
    users: list[Json] = [
        {"name": user, "passwd": password, "no_create_home": True} for user, password in orders.passwords.items()
    ]
    parts = [("text/cloud-config", "users", f"#cloud-config\n{cloud_init.as_text({'users': users})}".encode())]
    if orders.user_data:
        parts.append((_type(orders.user_data), "user-data", orders.user_data))
    if orders.clears:
        parts.append(("text/x-shellscript", "clear.ps1", _CLEAR.encode()))
    head = f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\nMIME-Version: 1.0\n\n'
    return (head + "".join(_part(*part) for part in parts) + f"--{_BOUNDARY}--\n").encode()


def _part(kind: str, name: str, content: bytes) -> str:
    return (
        f"--{_BOUNDARY}\nContent-Type: {kind}\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n"
        f'Content-Disposition: attachment; filename="{name}"\n\n{base64.encodebytes(content).decode("ascii")}'
    )


def _type(user_data: bytes) -> str:
    """A script without a suffix is known by its first line, as where it stands alone."""
    if b"content-type: multipart" in user_data[:4096].lower() or user_data.startswith(b"\x1f\x8b"):
        raise GuestError(
            "OS parameter cloud_userdata: user data in parts, or compressed, cannot stand beside a password; "
            "give one of both, or a single script or cloud-config"
        )
    return "text/cloud-config" if user_data.startswith(b"#cloud-config") else "text/x-shellscript"


def _option(text: str, name: str) -> str | None:
    """The value of an option in [DEFAULT], its indented lines joined, as oslo.config reads it: the last one counts."""
    assignments = _assignments(text, name)
    if not assignments:
        return None
    lines = text.splitlines()
    first, *more = (lines[number].strip() for number in assignments[-1])
    return "".join([first.partition("=")[2].strip(), *more])


def _with_options(text: str, wanted: Mapping[str, str]) -> str:
    """The same file with these options at the beginning of [DEFAULT]; what it said of them before is gone."""
    if all(_option(text, name) == value for name, value in wanted.items()):
        return text
    gone = {number for name in wanted for numbers in _assignments(text, name) for number in numbers}
    lines = [line for number, line in enumerate(text.splitlines(keepends=True)) if number not in gone]
    ours = [f"{name}={value}\r\n" for name, value in wanted.items()]
    place = next((number + 1 for number, line in enumerate(lines) if line.strip().upper() == "[DEFAULT]"), None)
    if place is None:
        return "".join(["[DEFAULT]\r\n", *ours, *lines])
    return "".join([*lines[:place], *ours, *lines[place:]])


def _assignments(text: str, name: str) -> list[list[int]]:
    """The numbers of the lines of each assignment in [DEFAULT], with those that continue it."""
    section, within = "", False
    found: list[list[int]] = []
    for number, line in enumerate(text.splitlines()):
        if line.startswith("["):
            section, within = line.strip().upper(), False
        elif within and line[:1].isspace() and line.strip():
            found[-1].append(number)
        else:
            within = section == "[DEFAULT]" and line.partition("=")[0].strip() == name and "=" in line
            if within:
                found.append([number])
    return found
