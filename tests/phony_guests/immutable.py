# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems whose root is not written by tasks: Flatcar, Fedora CoreOS and Silverblue, MicroOS, NixOS.

Each tree is that of the partition which a deployment would take for the root, as it is published. PARTITIONS of a
published image stand beside it, for those that are told by them.
"""

from __future__ import annotations

from phony_guests.tree import Entry, accounts, directory, enabled, file, link, of, phony, programs

_FLATCAR = phony(
    "phony-flatcar-root",
    of(
        "github.com/flatcar/scripts build_library/build_image_util.sh finish_image: of the root nothing is kept "
        "but the "
        "mount points",
        directory("/boot"),
        directory("/usr"),
        directory("/oem"),
        directory("/lost+found", 0o700),
    ),
)
_FLATCAR_BOOTED = phony(
    "phony-flatcar-booted",
    of(
        "flatcar.org/docs: a Flatcar that has booted, with USR-A mounted: /etc is the upper layer of an overlay",
        file(
            "/usr/lib/os-release",
            'NAME="Flatcar Container Linux by Kinvolk"\nID=flatcar\nID_LIKE=coreos\nVERSION=4230.2.0\n'
            "VERSION_ID=4230.2.0\nBUILD_ID=2025-06-03-0732\nSYSEXT_LEVEL=1.0\n"
            'PRETTY_NAME="Flatcar Container Linux by Kinvolk 4230.2.0 (Oklo)"\nANSI_COLOR="38;5;75"\n'
            'FLATCAR_BOARD="amd64-usr"\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        *programs("/usr/lib/systemd/systemd", "/usr/bin/bash", "/usr/sbin/sshd", "/usr/lib/systemd/systemd-networkd"),
        link("/bin", "usr/bin"),
        link("/sbin", "usr/sbin"),
        accounts(
            "root:x:0:0:root:/root:/bin/bash",
            "core:x:500:500:CoreOS Admin:/home/core:/bin/bash",
            shadow="root:*:15887:0:::::\ncore:*:15887:0:::::\n",
            shadow_group=0,
        ),
        file("/etc/machine-id", "1f9ecc2f6b4b3a1e8c7d6e5f4a3b2c1d\n", 0o444),
        file("/etc/.ignition-result.json", "{}\n", 0o600),
        link("/etc/localtime", "../usr/share/zoneinfo/UTC"),
        file("/usr/share/zoneinfo/UTC", "TZif2"),
    ),
    of(
        "github.com/flatcar/init systemd/network/zz-default.network; units enabled below /usr/lib",
        file(
            "/usr/lib/systemd/network/zz-default.network",
            "[Network]\nDHCP=yes\nKeepConfiguration=dhcp-on-stop\nIPv6AcceptRA=true\n\n[Match]\nName=*\n"
            "Type=!loopback bridge tunnel vxlan wireguard\nDriver=!veth dummy\n\n[DHCP]\nUseMTU=true\n"
            "UseDomains=true\n",
        ),
        file("/usr/lib/systemd/system/systemd-networkd.service", "[Install]\nWantedBy=multi-user.target\n"),
        link("/usr/lib/systemd/system/multi-user.target.wants/systemd-networkd.service", "../systemd-networkd.service"),
        file("/usr/lib/systemd/system/systemd-resolved.service", "[Install]\nWantedBy=multi-user.target\n"),
        link("/usr/lib/systemd/system/multi-user.target.wants/systemd-resolved.service", "../systemd-resolved.service"),
        link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        directory("/etc/systemd/network"),
        link("/etc/ssh/sshd_config", "../../usr/share/ssh/sshd_config"),
        file("/usr/share/ssh/sshd_config", "UsePAM yes\nSubsystem sftp internal-sftp\nClientAliveInterval 180\n"),
    ),
)


def _deployed(stateroot: str, release: str, *etc: Entry) -> tuple[Entry, ...]:
    """An ostree root: the deployment's /etc and /usr lie below it, /var of all deployments beside it."""
    commit = "0d3a7a2f4c5b6e8f9a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071"
    top = f"/ostree/deploy/{stateroot}/deploy/{commit}.0"
    return (
        directory("/boot"),
        directory("/ostree/repo/objects"),
        file("/ostree/repo/config", "[core]\nrepo_version=1\nmode=bare\n"),
        link("/ostree/boot.1", "boot.1.1"),
        link(f"/ostree/boot.1.1/{stateroot}/{commit[:8]}/0", f"../../../deploy/{stateroot}/deploy/{commit}.0"),
        directory(f"/ostree/deploy/{stateroot}/var"),
        file(f"{top}.origin", "[origin]\nrefspec=fedora\n"),
        file(f"{top}/usr/lib/os-release", release),
        link(f"{top}/etc/os-release", "../usr/lib/os-release"),
        link(f"{top}/ostree", "sysroot/ostree"),
        directory(f"{top}/sysroot"),
        *(Entry(entry.kind, f"{top}{entry.path}", entry.content, entry.mode) for entry in etc),
    )


_DEPLOYMENT = "ostreedev.github.io/ostree/deployment: layout of a sysroot, boot links, /etc of a deployment"
_COREOS = phony(
    "phony-fedora-coreos-42",
    of(
        _DEPLOYMENT,
        _deployed(
            "fedora-coreos",
            'NAME="Fedora Linux"\nVERSION="42.20250609.3.0 (CoreOS)"\nID=fedora\nVERSION_ID=42\nVARIANT="CoreOS"\n'
            "VARIANT_ID=coreos\nOSTREE_VERSION='42.20250609.3.0'\nPRETTY_NAME=\"Fedora CoreOS 42.20250609.3.0\"\n",
            *programs("/usr/bin/NetworkManager"),
            *enabled("NetworkManager.service"),
        ),
    ),
)
_SILVERBLUE = phony(
    "phony-fedora-silverblue-42",
    of(
        _DEPLOYMENT,
        _deployed(
            "fedora",
            'NAME="Fedora Linux"\nVERSION="42.20250609.0 (Silverblue)"\nID=fedora\nVERSION_ID=42\n'
            "VARIANT_ID=silverblue\n"
            'PRETTY_NAME="Fedora Linux 42.20250609.0 (Silverblue)"\n',
        ),
    ),
)
_MICROOS = phony(
    "phony-opensuse-microos",
    of(
        "package openSUSE-release-MicroOS; documentation.suse.com/sle-micro: read-only btrfs, /etc an overlay or "
        "subvolume",
        file(
            "/usr/lib/os-release",
            'NAME="openSUSE MicroOS"\nID="opensuse-microos"\nID_LIKE="suse opensuse opensuse-tumbleweed microos"\n'
            'VERSION_ID="20250601"\nPRETTY_NAME="openSUSE MicroOS"\nANSI_COLOR="0;32"\n',
        ),
        link("/etc/os-release", "../usr/lib/os-release"),
        *programs("/usr/lib/systemd/systemd", "/usr/sbin/transactional-update", "/usr/bin/combustion"),
        directory("/usr/lib/dracut/modules.d/30ignition"),
        directory("/usr/lib/dracut/modules.d/35combustion"),
        file(
            "/etc/fstab",
            "UUID=b3c4d5e6-f708-4192-a3b4-c5d6e7f80910 / btrfs ro 0 0\n"
            "UUID=b3c4d5e6-f708-4192-a3b4-c5d6e7f80910 /var btrfs subvol=@/var,x-initrd.mount 0 0\n"
            "overlay /etc overlay defaults,lowerdir=/sysroot/etc,upperdir=/sysroot/var/lib/overlay/1/etc,"
            "workdir=/sysroot/var/lib/overlay/1/work-etc,x-systemd.requires-mounts-for=/var,x-initrd.mount 0 0\n",
        ),
    ),
)
_NIXOS = phony(
    "phony-nixos-25.05",
    of(
        "nixos.org/manual: /etc is generated from the store at every activation; nixpkgs "
        "nixos/modules/misc/version.nix",
        link("/etc/static", "/nix/store/8b5i2y3q-etc/etc"),
        link("/etc/os-release", "/etc/static/os-release"),
        file(
            "/nix/store/8b5i2y3q-etc/etc/os-release",
            'NAME=NixOS\nID=nixos\nVERSION_ID="25.05"\nVERSION="25.05 (Warbler)"\nPRETTY_NAME="NixOS 25.05 (Warbler)"\n'
            "DEFAULT_HOSTNAME=nixos\n",
        ),
        file("/etc/NIXOS", ""),
        link("/etc/fstab", "/etc/static/fstab"),
        file("/nix/store/8b5i2y3q-etc/etc/fstab", "/dev/disk/by-label/nixos / ext4 x-initrd.mount 0 1\n"),
        file("/etc/machine-id", "1f9ecc2f6b4b3a1e8c7d6e5f4a3b2c1d\n", 0o444),
        link("/run/current-system", "/nix/var/nix/profiles/system"),
    ),
)

GUESTS = (_FLATCAR, _FLATCAR_BOOTED, _COREOS, _SILVERBLUE, _MICROOS, _NIXOS)
