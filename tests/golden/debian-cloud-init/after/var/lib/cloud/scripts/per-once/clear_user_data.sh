#!/bin/sh
# Written by snf-image.
set -e
: > '/var/lib/cloud/seed/nocloud-net/user-data'
rm -f -- '/var/lib/cloud/scripts/per-once/clear_user_data.sh'
