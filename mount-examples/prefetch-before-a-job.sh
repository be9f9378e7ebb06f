#!/usr/bin/env bash
# Fetch what a job will read before it starts; the job then reads from the local disk, and would even
# if every mirror went away meanwhile.
#
#   MIRRORS="https://a.example/data/ https://b.example/data/" INPUTS="2024 index.csv" JOB="wc -c" \
#     mount-examples/prefetch-before-a-job.sh
#
# MIRRORS     base URLs of the mirrors. Default: two on this machine, ports 8001 and 8002.
# INPUTS      files and folders below the mountpoint, spaces between. Default: everything.
# JOB         a command; the inputs' files are given to it. Default: sha256sum.
# MOUNTPOINT  an empty folder. Default: ./mnt, made if it is missing.
# CACHE_DIR   where fetched bytes are kept. Default: ~/.cache/braidfs, one folder per dataset.
# BRAIDFS     the program. Default: braidfs, from PATH.
set -euo pipefail
braidfs=${BRAIDFS:-braidfs}
mountpoint=${MOUNTPOINT:-./mnt}
read -ra mirrors <<<"${MIRRORS:-http://127.0.0.1:8001/ http://127.0.0.1:8002/}"
read -ra inputs <<<"${INPUTS:-.}"
read -ra job <<<"${JOB:-sha256sum}"

mkdir -p "$mountpoint"
"$braidfs" mount "${mirrors[@]}" "$mountpoint" ${CACHE_DIR:+--cache-dir "$CACHE_DIR"} --background
trap '"$braidfs" umount "$mountpoint"' EXIT

# Returns once all of it is durable on disk; exit code 1 and the files' names where some of it failed.
"$braidfs" prefetch "${inputs[@]/#/$mountpoint/}"

find "${inputs[@]/#/$mountpoint/}" -type f -print0 | sort -z | xargs -0 -r "${job[@]}"
