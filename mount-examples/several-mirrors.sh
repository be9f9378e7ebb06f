#!/usr/bin/env bash
# Several mirrors of one dataset, given on the command line, read as one folder.
#
#   MIRRORS="https://a.example/data/ https://b.example/data/" mount-examples/several-mirrors.sh
#
# MIRRORS     base URLs of the mirrors, spaces between. Default: two on this machine, ports 8001 and 8002
#             (to try: `python3 -m http.server --directory FOLDER 8001` in one terminal, 8002 in another).
# MOUNTPOINT  an empty folder. Default: ./mnt, made if it is missing.
# CACHE_DIR   where fetched bytes are kept. Default: ~/.cache/braidfs, one folder per dataset.
# BRAIDFS     the program. Default: braidfs, from PATH.
set -euo pipefail
braidfs=${BRAIDFS:-braidfs}
mountpoint=${MOUNTPOINT:-./mnt}
read -ra mirrors <<<"${MIRRORS:-http://127.0.0.1:8001/ http://127.0.0.1:8002/}"

mkdir -p "$mountpoint"
# --background returns once the folder can be read.
"$braidfs" mount "${mirrors[@]}" "$mountpoint" ${CACHE_DIR:+--cache-dir "$CACHE_DIR"} --memory 128MiB --background
trap '"$braidfs" umount "$mountpoint"' EXIT

ls -l "$mountpoint"
echo "files: $(find "$mountpoint" -type f | wc -l)"
first=$(find "$mountpoint" -type f -size +0 | sort | head -n 1)
echo "sha256 of the first one:"
sha256sum "$first"
"$braidfs" status "$mountpoint"
