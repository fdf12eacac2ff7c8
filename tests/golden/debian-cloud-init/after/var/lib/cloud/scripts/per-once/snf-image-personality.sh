#!/bin/sh
# Written by snf-image.
set -e
store='/var/lib/snf-image/personality'
umask 077
put() {
    directory=$(dirname -- "$5")
    missing=
    while [ ! -d "$directory" ]; do
        missing="$directory
$missing"
        directory=$(dirname -- "$directory")
    done
    printf '%s' "$missing" | while IFS= read -r directory; do
        mkdir -m 0750 -- "$directory"
        chown -- "$2:$3" "$directory"
    done
    cat -- "$store/$1" > "$5.snf-image"
    chown -- "$2:$3" "$5.snf-image"
    chmod -- "$4" "$5.snf-image"
    mv -f -- "$5.snf-image" "$5"
    rm -f -- "$store/$1"
}
put '0' 'user' 'adm' '0600' '/srv/app/secret'
put '1' '0' '0' '0440' '/etc/motd'
rm -f -- '/var/lib/cloud/scripts/per-once/snf-image-personality.sh'
