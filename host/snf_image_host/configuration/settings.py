# SPDX-License-Identifier: GPL-2.0-or-later
"""What the administrator's files say, checked: the one place for every setting's default, type and meaning.

`snf-image-config`, the manual page and the messages are made from the fields below. Values are data, never executed.
Source of the names: contract of snf-image 0.23, configuration variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from snf_image_host import programs
from snf_image_host.configuration.backends import Backend, built_in, read_backends
from snf_image_host.configuration.own_programs import os_directory
from snf_image_host.configuration.setting_files import BACKENDS, Given, SettingFiles
from snf_image_host.configuration.setting_types import (
    Accelerator,
    AnswerFile,
    ConfigDevice,
    Directory,
    Flag,
    Hosts,
    ImageSchemes,
    Networks,
    NicDefault,
    NodeFile,
    Program,
    PropertySet,
    Schemes,
    Seconds,
    Timezone,
    Verify,
)
from snf_image_host.hooks.switches import Shipped
from snf_image_host.parameters.osparams import OS_PARAMETERS
from snf_image_host.parameters.windows_timezones import windows_timezone
from snf_image_shared.errors import ConfigurationError

MEANT_WHEN_EMPTY = frozenset({"DEFAULT_NIC_CONFIG", "IMAGE_SCHEMES"})  # an empty value of all others is the default


class Settings(BaseModel):
    """The effective settings. Time in seconds, memory in MiB, sizes in bytes.

    A field with a description is a setting: the files may give it by its name in upper case. `parameters` are OS
    parameters preset by the files. With `accept_sha1` a list of SHA-1 beside an image vouches for it as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    image_dir: Directory = Field(
        default=Path("/var/lib/snf-image"),
        description="Where the images lie that img_id names. Also in backends/src/local.conf.",
    )
    variants_dir: Directory = Field(
        default=Path("/etc/ganeti/snf-image/variants"),
        description="Where the variants' own files, NAME.conf, lie. A variant's file cannot change it.",
    )
    helper_dir: Directory = Field(
        default=Path("/var/lib/snf-image/helper"),
        description="Where the image of the helper VM lies; snf-image-update-helper builds it.",
    )
    helper_url: str = Field(
        default="",
        description="Where snf-image-update-helper fetches the image of the helper VM from, a directory of a mirror "
        "(http, https, file) or of this node with what snf-image-dump-helper made. Empty: it builds the image.",
    )
    helper_memory: int = Field(
        default=512, ge=128, le=65536, description="Memory of the helper VM in MiB, 128 to 65536."
    )
    helper_user: str = Field(
        default="",
        description="Who the helper VM runs as. Empty: a user id of its own for each run, which owns nothing.",
    )
    helper_accel: Accelerator = Field(
        default=Accelerator.AUTO,
        description="How the helper VM's processor is made: kvm, tcg (emulation, slow), or auto: kvm where it works.",
    )
    kvm: Program = Field(
        default="qemu-system-x86_64",
        description="QEMU, perhaps with options of its own. Accelerator, machine, processor and user are not its to "
        "choose: such options (-enable-kvm, -accel, -machine, -cpu, -runas, ...) are left out.",
    )
    helper_boot_timeout: Seconds | None = Field(
        default=None,
        description="How long the helper VM may take to say its first word: 90, 90s, 2m, 1h. "
        "Empty: 20s with kvm, 2m with emulation.",
    )
    helper_soft_timeout: Seconds | None = Field(
        default=None, description="How long the helper VM may take in all. Empty: 2m with kvm, 15m with emulation."
    )
    helper_hard_timeout: Seconds = Field(
        default=5.0, description="How long the helper VM may take to end when it is told to; then it is killed."
    )
    helper_config_device: ConfigDevice = Field(
        default=ConfigDevice.AUTO,
        description="How the job reaches the helper VM: floppy, disk, or auto "
        "(with kvm a floppy while it fits on one, else a disk).",
    )
    helper_debug: Flag = Field(
        default=False,
        description="yes: when a task fails, a root shell inside the helper VM waits on a terminal that the log names.",
    )
    image_debug: Flag = Field(
        default=False,
        description="yes: the log also tells the settings in force and what was asked for, without any secret.",
    )
    cloud_init_debug: Flag = Field(default=False, description="yes: cloud-init logs everything inside the guest.")
    progress_monitor: str = Field(
        default="",
        description="A program (with arguments) that reads progress messages, one JSON object a line, on its standard "
        "input; the instance's name is added to its arguments. Empty: the messages go to the log.",
    )
    rename: Flag = Field(
        default=True, description="no: `gnt-instance rename` leaves the name inside the guest as it is."
    )
    curl: Program = Field(
        default="curl",
        description="The program that fetches config_url and os_answer_file, perhaps with options of its own.",
    )
    fetch_schemes: Schemes = Field(
        default="http https ftp ftps",
        description="The schemes of the URLs that may be fetched for a tenant. With file he gets what any user of this "
        "node may read.",
    )
    fetch_deny: Networks = Field(
        default="169.254.0.0/16 fe80::/10",
        description="Networks that no URL may lead to, by name or by redirect. Add 127.0.0.0/8 and ::1/128, and what "
        "else only this node may ask, where tenants choose the URLs. A proxy in CURL decides this itself.",
    )
    fetch_timeout: Seconds = Field(default=60.0, description="How long one fetch may take in all.")
    fetch_max_size: int = Field(
        default=16 << 20, ge=1024, le=256 << 20, description="How many bytes a document that is fetched may have."
    )
    storage_user: str = Field(
        default="",
        description="Who the program runs as that reaches disks which Ganeti names by a URI; for ssh: the user whose "
        ".ssh directory holds the key and known_hosts. Empty: a user id of its own for each run.",
    )
    image_schemes: ImageSchemes = Field(
        default="http https ftp ftps", description="The schemes of the URLs that img_id may be. Empty in quotes: none."
    )
    image_deny: Networks = Field(
        default="0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 "
        "192.168.0.0/16 198.18.0.0/15 224.0.0.0/3 ::/127 64:ff9b::/96 64:ff9b:1::/48 fc00::/7 fe80::/10 fec0::/10 "
        "ff00::/8",
        description="Networks that no image is fetched from, by name or by redirect: what this node can reach and a "
        "tenant cannot. A proxy in CURL decides this itself, but for addresses in the URL.",
    )
    image_allow: Hosts = Field(
        default="",
        description="Hosts and networks that images may be fetched from although IMAGE_DENY has them: your own mirror, "
        "as mirror.example.com or 10.1.2.0/24.",
    )
    image_stall_timeout: Seconds = Field(
        default=60.0,
        description="How long the server of an image may send nothing before the connection is made anew, and a "
        "program of yours before it is given up.",
    )
    image_min_rate: int = Field(
        default=128,
        ge=1,
        le=1 << 20,
        description="KiB a second that the server of an image has to send in the long run; with the image's size it "
        "says how long a download may wait for its server in all, ten times IMAGE_STALL_TIMEOUT on top.",
    )
    image_retries: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="How often a server is asked again for an image without a byte having come.",
    )
    cache_dir: Directory = Field(
        default=Path("/var/cache/snf-image/images"),
        description="Where images from the network are kept, and where one lies while it has to be read out of order: "
        "a directory of its own, root's alone (0700), which is made if it is missing.",
    )
    cache_size: int = Field(
        default=0,
        ge=0,
        le=1 << 30,
        description="MiB of images from the network that are kept for the next deployment; what was not used for "
        "longest goes first. 0: none, for the node's disk may be small; they are streamed onto the instance then.",
    )
    spool_size: int = Field(
        default=65536,
        ge=1,
        le=1 << 30,
        description="MiB in CACHE_DIR that one image may take while it is deployed, if it has to be read out of order.",
    )
    verify: Verify = Field(
        default=Verify.NO,
        description="What every image must have: no (img_checksum, if it is given, always holds), checksum "
        "(img_checksum, or a file of checksums beside the image), or signature (OpenPGP, of the image or that file; "
        "img_checksum does not replace it).",
    )
    verify_local: Verify | None = Field(
        default=None, description="The same for images below IMAGE_DIR. Empty: as VERIFY. Also VERIFY in local.conf."
    )
    verify_network: Verify | None = Field(
        default=None, description="The same for images at URLs. Empty: as VERIFY. Also VERIFY in network.conf."
    )
    verify_program: Verify | None = Field(
        default=None, description="The same for images that a program of yours delivers. Empty: as VERIFY."
    )
    verify_keyring: NodeFile = Field(
        default="",
        description="The OpenPGP keys whose signatures count, as gpgv reads them: 'gpg --export KEY > FILE'.",
    )
    copy_bandwidth: int = Field(
        default=0,
        ge=0,
        le=1 << 20,
        description="MiB a second that a copy may write, for nodes whose other instances need the disks. 0: no limit.",
    )
    copy_idle: Flag = Field(
        default=False, description="yes: a copy uses the disks when nobody else wants them (ionice's idle class)."
    )
    copy_verify: Flag = Field(
        default=False,
        description="yes: after a copy the disk is read, and has to give back all that was written to it.",
    )
    clear_disk: Flag = Field(
        default=False,
        description="yes: what an image does not fill of a disk is zeroed as well, so that nothing of its last owner "
        "is left. Otherwise only the first and the last MiB of a disk are.",
    )
    default_properties: PropertySet = Field(
        default="",
        description="Image properties of every instance, a JSON object; img_properties and inst_properties override "
        'them one by one: {"TIMEZONE": "Europe/Athens", "UNKNOWN_GUEST": "deliver"}.',
    )
    dhcp_tags: str = Field(default="auto dhcp nfdhcpd", description="Tags of a Ganeti network that mean DHCP for IPv4.")
    stateful_dhcpv6_tags: str = Field(
        default="dhcpv6 stateful_dhcpv6", description="Tags of a Ganeti network that mean stateful DHCPv6."
    )
    stateless_dhcpv6_tags: str = Field(
        default="nfdhcpd stateless_dhcpv6",
        description="Tags of a Ganeti network that mean SLAAC with stateless DHCPv6.",
    )
    default_nic_config: NicDefault = Field(
        default="dhcp",
        description="What an only NIC gets that Ganeti knows no address for: dhcp, dhcpv6, slaac, slaac_dhcp, "
        'dhcp+dhcpv6, dhcp+slaac, dhcp+slaac_dhcp, or "" for nothing.',
    )
    networks_dir: Directory | None = Field(
        default=Path("/etc/ganeti/instance-image/networks"),
        description="Networks as ganeti-instance-image has them: instances/NAME (ADDRESS, SUBNET) makes the first card "
        "static, with subnets/SUBNET (NETMASK, GATEWAY, DNS_DOMAIN, DNS_SEARCH, DNS_SERVERS). Without such a file "
        "nothing is different.",
    )
    customize_dir: Directory | None = Field(
        default=None,
        description="Programs of yours that change a guest, run-parts' way and inside the helper VM. Empty: none.",
    )
    shipped_hooks: Shipped = Field(
        default=Shipped.TASKS,
        description="Who does the work of a hook that ganeti-instance-image ships: tasks (ours), or programs (itself).",
    )
    hooks_timeout: Seconds = Field(default=600.0, description="How long one hook may take, in the VM or on the node.")
    overlays_dir: Directory | None = Field(
        default=None, description="Directories of files for guests: the property OVERLAY names one. Empty: none."
    )
    node_hooks_dir: Directory | None = Field(
        default=None,
        description="Programs of yours that run on this node, as root and without a guest in sight: those in its "
        "directory pre before anything is written, those in post when all is done. Empty: none.",
    )
    windows_timezone: Timezone = Field(
        default="GMT Standard Time",
        description="The time zone of Windows guests, as Windows names it; upper and lower case are the same. "
        "It is in the answer file that an image without one gets; the property TIMEZONE overrides it.",
    )
    unattend: AnswerFile = Field(
        default="",
        description="Deprecated: an answer file on this node for Windows guests; give the OS parameter os_answer_file. "
        "An image that has none of its own gets this one. It must be XML as Windows takes it.",
    )

    run_dir: Path = Path("/run/snf-image")
    accept_sha1: bool = False
    parameters: Mapping[str, str] = Field(default_factory=dict, repr=False)
    backends: tuple[Backend, ...] = built_in()
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, variant: str, root: Path = Path("/")) -> Settings:
        """Read the files below `root` (the file system the provider is installed in) for this variant ("" is none).

        Raises ConfigurationError with all faults of the files, each naming file, line, variable and cure.
        """
        return survey(variant, root).checked()


@dataclass(frozen=True)
class Survey:
    """What the files say for one variant: where each value was given, and the settings unless there are faults."""

    settings: Settings | None
    given: Mapping[str, Given]
    variants_dir: Path
    faults: tuple[str, ...]
    warnings: tuple[str, ...]

    def checked(self) -> Settings:
        """Raises ConfigurationError with all faults."""
        if self.settings is None:
            raise ConfigurationError("; ".join(self.faults))
        return self.settings

    @property
    def progress_monitor(self) -> str:
        """The setting, also of files with faults as far as it could be read: those faults are to be heard there."""
        given = self.given.get("PROGRESS_MONITOR")
        return given.value if given else ""


def survey(variant: str, root: Path) -> Survey:
    """Read and judge all files. Raises nothing: what is wrong is in the result."""
    fields = setting_fields()
    files = SettingFiles.read(root, frozenset(fields) | frozenset(OS_PARAMETERS), variant)
    backends, doubts = read_backends(root / BACKENDS, os_directory(root) / "backends")
    values = {
        name.lower(): given.value
        for name, given in files.values.items()
        if name in fields and (given.value or name in MEANT_WHEN_EMPTY)
    }
    defaults = {
        name: root / field.default.relative_to("/")
        for name, field in Settings.model_fields.items()
        if isinstance(field.default, Path)
    }
    parameters = {name: files.values[name].value for name in OS_PARAMETERS if name in files.values}
    warnings = (*files.warnings, *files.doubts(), *doubts, *_remarks(files.values))
    rest = {"parameters": parameters, "backends": backends, "warnings": warnings}
    try:
        settings = Settings.model_validate({**defaults, **values, **rest})
    except ValidationError as error:
        faults = [_fault(str(each["loc"][0]), each["msg"], files.values) for each in error.errors(include_input=False)]
        return Survey(None, files.values, files.variants_dir, (*files.faults, *faults), warnings)
    found = (*files.faults, *_contradictions(settings, files.values))
    return Survey(None if found else settings, files.values, files.variants_dir, found, warnings)


def setting_fields() -> dict[str, FieldInfo]:
    """Each setting by its name in the files, in the order of the manual."""
    return {name.upper(): field for name, field in Settings.model_fields.items() if field.description}


def as_written(value: object) -> str:
    """A setting's value as the files spell it, without quotes."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _fault(field: str, message: str, given: Mapping[str, Given]) -> str:
    name = field.upper()
    default = as_written(Settings.model_fields[field].default)
    cure = f"correct it, or remove it for the default ({default})" if default else "correct it, or remove it"
    return f"{given[name]}: {name}: {message.removeprefix('Value error, ')}; {cure}"


def _contradictions(settings: Settings, given: Mapping[str, Given]) -> Iterator[str]:
    """Faults of values that are right by themselves."""
    for name in ("VERIFY", "VERIFY_LOCAL", "VERIFY_NETWORK", "VERIFY_PROGRAM"):
        if getattr(settings, name.lower()) is Verify.SIGNATURE and not settings.verify_keyring:
            yield f"{given[name]}: {name}: signature needs VERIFY_KEYRING; name the file of the publishers' keys there"


def _remarks(given: Mapping[str, Given]) -> list[str]:
    """Warnings about values that are accepted."""
    remarks = []
    for name, where in given.items():
        match name:
            case "UNATTEND" if where.value:
                remarks.append(f"{where}: UNATTEND is deprecated; give the OS parameter os_answer_file")
            case "WINDOWS_TIMEZONE" if where.value and not windows_timezone(where.value):
                remarks.append(f"{where}: WINDOWS_TIMEZONE: Windows knows no {where.value[:60]!r}; is it misspelt?")
            case "KVM" if left_out := _left_out(where.value):
                remarks.append(f"{where}: KVM: {left_out} is left out; HELPER_ACCEL and the jail decide that")
    return remarks


def _left_out(setting: str) -> str:
    try:
        return " ".join(programs.qemu_words(setting)[1])
    except ValueError:
        return ""  # told as a fault
