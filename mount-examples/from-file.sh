#!/usr/bin/env bash
# The same by a file that lists the mirrors: what one keeps beside a project.
#
#   mount-examples/from-file.sh
#
# MIRRORS_FILE  the file. Default: mirrors.toml beside this script.
# MOUNTPOINT    an empty folder. Default: ./mnt, made if it is missing.
# CACHE_DIR     where fetched bytes are kept. Default: ~/.cache/braidfs, one folder per dataset.
# BRAIDFS       the program. Default: braidfs, from PATH.
set -euo pipefail
braidfs=${BRAIDFS:-braidfs}
mountpoint=${MOUNTPOINT:-./mnt}
file=${MIRRORS_FILE:-$(dirname "$0")/mirrors.toml}

mkdir -p "$mountpoint"
"$braidfs" mount "$file" "$mountpoint" ${CACHE_DIR:+--cache-dir "$CACHE_DIR"} --background
trap '"$braidfs" umount "$mountpoint"' EXIT

du -sh --apparent-size "$mountpoint"
"$braidfs" status "$mountpoint" --json
