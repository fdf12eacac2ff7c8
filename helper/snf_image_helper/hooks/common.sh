# SPDX-License-Identifier: GPL-2.0-or-later
# What hooks written for ganeti-instance-image find after ". common.sh": the settings, and its functions by their names.

. "${SNF_IMAGE_HOOK_SETTINGS:?is set by the helper}"

SCRIPT_NAME="${0##*/}"
AWK="awk"
MKDIR_P="mkdir -p"
VOL_ID="/sbin/blkid -c /dev/null -o value -s UUID"
VOL_TYPE="/sbin/blkid -c /dev/null -o value -s TYPE"
instance="${INSTANCE_NAME:-}"
blockdev="${BLOCKDEV:-}"
CLEANUP=()

log_error() {
    echo "$@" >&2
}

debug() {
    case "${IMAGE_DEBUG:-}" in
    1 | yes) "$@" ;;
    esac
}

# Undo in reverse order what was noted in CLEANUP.
cleanup() {
    local number
    for ((number = ${#CLEANUP[@]} - 1; number >= 0; number--)); do
        ${CLEANUP[number]}
    done
    CLEANUP=()
}

# What a file of the guest says; a link in it is no reason to read another file of the helper.
_guest_text() {
    [ -f "$1" ] && [ ! -L "$1" ] && head -c 4096 "$1" | tr -cd '[:print:]\n'
}

_choose_target() {
    target="${1:-${TARGET:-}}"
    if [ -z "$target" ]; then
        log_error "TARGET is not set, and no directory of a guest was given"
        exit 1
    fi
}

get_os_type() {
    _choose_target "${1:-}"
    if [ -e "$target/etc/redhat-release" ]; then
        OS_TYPE="redhat"
    elif [ -e "$target/etc/debian_version" ]; then
        OS_TYPE="debian"
    elif [ -e "$target/etc/gentoo-release" ]; then
        OS_TYPE="gentoo"
    elif [ -e "$target/etc/SuSE-release" ] || _is_like suse "$target"; then
        OS_TYPE="suse"
    fi
}

# Nothing of the guest is executed: its os-release says what its lsb_release would.
get_os() {
    _choose_target "${1:-}"
    OPERATING_SYSTEM="$(_os_release "$target" ID | tr '[:upper:]' '[:lower:]')"
    if [ -n "$OPERATING_SYSTEM" ]; then
        case "$OPERATING_SYSTEM" in
        rhel) OPERATING_SYSTEM="redhat" ;;
        esac
    elif [ -e "$target/etc/debian_version" ]; then
        OPERATING_SYSTEM="debian"
    elif [ -e "$target/etc/gentoo-release" ]; then
        OPERATING_SYSTEM="gentoo"
    elif [ -e "$target/etc/fedora-release" ]; then
        OPERATING_SYSTEM="fedora"
    elif [ -e "$target/etc/redhat-release" ]; then
        OPERATING_SYSTEM="redhat"
        if _guest_text "$target/etc/redhat-release" | grep -qi centos; then
            OPERATING_SYSTEM="centos"
        fi
    fi
}

get_os_release() {
    _choose_target "${1:-}"
    OS_RELEASE="$(_os_release "$target" VERSION_ID)"
    if [ -z "$OS_RELEASE" ] && [ -e "$target/etc/debian_version" ]; then
        OS_RELEASE="$(_guest_text "$target/etc/debian_version")"
    elif [ -z "$OS_RELEASE" ]; then
        OS_RELEASE="$(_guest_text "$target/etc/redhat-release" | sed -n 's/[^0-9]*\([0-9][0-9.]*\).*/\1/p')"
    fi
}

# One member of os-release, which is often a link to the second of these files.
_os_release() {
    local file
    for file in "$1/etc/os-release" "$1/usr/lib/os-release"; do
        if [ -f "$file" ] && [ ! -L "$file" ]; then
            _guest_text "$file" | sed -n "s/^$2=[\"']\{0,1\}\([^\"']*\).*/\1/p" | head -n 1
            return
        fi
    done
}

_is_like() {
    case " $(_os_release "$2" ID) $(_os_release "$2" ID_LIKE) " in
    *"$1"*) return 0 ;;
    esac
    return 1
}

trap cleanup EXIT
