# SPDX-License-Identifier: GPL-2.0-or-later
"""The job: all that the host tells the helper, in one versioned document on the config floppy.

The host has already checked it; the helper loads it strictly and trusts its types, never its content as code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from snf_image_shared import codec
from snf_image_shared.deployment import CloudConfig, Deployment, Hooks, Input
from snf_image_shared.errors import HelperError
from snf_image_shared.properties import Properties
from snf_image_shared.shell import Shell

JOB_VERSION = 5
JOB_FILE = "job.json"
FLOPPY_LABEL = "SNFIMAGE"


class Action(StrEnum):
    """What the helper does: CREATE makes an image the instance's own, RENAME only changes the guest's host name.

    INSPECT says what is on the disk, which it may only read, and what a CREATE with the rest of the job would do.
    EXPORT writes the guest's file systems into the stream, and IMPORT makes them anew from there. SHELL mounts the
    guest and lets somebody work in it.
    """

    CREATE = "create"
    RENAME = "rename"
    INSPECT = "inspect"
    EXPORT = "export"
    IMPORT = "import"
    SHELL = "shell"


class Archive(StrEnum):
    """What an EXPORT writes: instance-image's tar of dumps, a tar of the guest, or the dump of one file system."""

    EXCHANGE = "exchange"
    TARBALL = "tarball"
    ROOT_DUMP = "root-dump"
    BOOT_DUMP = "boot-dump"


class Ipv4Method(StrEnum):
    """How a NIC gets its IPv4 address; NONE leaves it without one."""

    NONE = "none"
    DHCP = "dhcp"
    STATIC = "static"


class Ipv6Method(StrEnum):
    """How a NIC gets its IPv6 address: stateful DHCPv6, SLAAC, SLAAC with stateless DHCPv6, or as it is told."""

    NONE = "none"
    DHCP = "dhcp"
    SLAAC = "slaac"
    SLAAC_DHCP = "slaac_dhcp"
    STATIC = "static"


@dataclass(frozen=True)
class Route:
    """Packets to `destination` (CIDR; 0.0.0.0/0 and ::/0 are the defaults) go to `gateway`, None for "on this link".

    Both are of one family. `on_link`: the gateway itself is reached without a route. `metric` 0 is "not given".
    """

    destination: str
    gateway: str | None = None
    on_link: bool = False
    metric: int = 0


@dataclass(frozen=True)
class Nic:
    """One network card in Ganeti's order. `address4` is CIDR ("192.0.2.7/24"), set exactly when ipv4 is STATIC.

    `address6` likewise. A gateway may lie outside the subnet: the renderer then makes it on-link. `addresses` are
    further ones (CIDR, of either family), beside those of any method. `nameservers` are addresses, `search` domains, in
    order. `mtu` 0 is "not given". `model` is Ganeti's frontend type or "".
    """

    mac: str
    model: str = ""
    ipv4: Ipv4Method = Ipv4Method.NONE
    address4: str | None = None
    gateway4: str | None = None
    ipv6: Ipv6Method = Ipv6Method.NONE
    address6: str | None = None
    gateway6: str | None = None
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int = 0


@dataclass(frozen=True)
class PersonalityFile:
    """A file to put into the guest. `contents` is base64; owner and group are names or numbers of the guest."""

    path: str
    contents: str = field(repr=False)
    owner: str | None = None
    group: str | None = None
    mode: int = 0o440


@dataclass(frozen=True)
class Secrets:
    """What no log, message or argument list may ever show. None is "not given", "" is "given, and empty".

    `answer_file` is the content of the user's Windows answer file in base64, `node_answer_file` that of the node's, for
    images that have none; `product_key` goes into either.
    """

    password: str | None = None
    password_hash: str | None = None
    authorized_keys: str | None = None
    cloud_userdata: str | None = None
    product_key: str | None = None
    answer_file: str | None = None
    node_answer_file: str | None = None

    def __repr__(self) -> str:
        return "Secrets(...)"


@dataclass(frozen=True)
class Job:
    """`disks` are the virtio serial numbers of the instance's disks in Ganeti's order; only the first is customised.

    An INSPECT has the first disk alone in its VM, however many are named.
    `hostname` is what the guest is to be called: the instance's name, unless the user gave another. For a RENAME
    `old_hostname` is what it is called if nobody changed it by hand; `image_format` is "" then.
    With a `deployment` the first disk is empty and becomes the guest's before it is customised. `overlay` is a tar
    archive of files of the administrator's for the guest, and `hooks` are his programs. `archive` is what an EXPORT
    writes, dumps of it compressed if `compressed` says so. `visit` is what a SHELL runs.
    `windows_timezone` is the node's, as Windows names it. `environment` is what custom tasks see besides the properties
    (SNF_IMAGE_NIC_0_MAC, ...). `seed` is hexadecimal randomness of the host: what the helper generates must not depend
    on the entropy of a VM a second old.
    """

    version: int
    instance: str
    hostname: str
    image_format: str
    disks: tuple[str, ...]
    action: Action = Action.CREATE
    old_hostname: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    personality: tuple[PersonalityFile, ...] = field(default=(), repr=False)
    nics: tuple[Nic, ...] = ()
    secrets: Secrets = field(default_factory=Secrets)
    deployment: Deployment | None = None
    overlay: Input | None = None
    hooks: Hooks | None = None
    kept_off: Mapping[str, str] = field(default_factory=dict)
    cloud_config: CloudConfig | None = None
    sends_name: bool = False
    archive: Archive | None = None
    compressed: bool = False
    visit: Shell | None = None
    windows_timezone: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    seed: str = field(default="", repr=False)
    cloud_init_debug: bool = False
    debug: bool = False

    @property
    def wishes(self) -> Properties:
        """The merged image and instance properties."""
        return Properties(self.properties)

    def dump(self) -> bytes:
        """The job as JSON, secrets in clear: it goes onto the floppy and nowhere else."""
        return codec.dump(self)

    @classmethod
    def load(cls, text: bytes) -> Job:
        """Read dump()'s document back. Raises HelperError when host and helper do not speak the same version."""
        try:
            job = codec.load(cls, text)
        except codec.CodecError as error:
            raise HelperError(f"the job on the config floppy cannot be read ({error}); {_CURE}") from error
        if job.version != JOB_VERSION:
            raise HelperError(f"the job is of version {job.version}, this helper speaks {JOB_VERSION}; {_CURE}")
        return job


_CURE = "rebuild the helper with snf-image-update-helper"
