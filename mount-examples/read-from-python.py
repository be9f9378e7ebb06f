#!/usr/bin/env python3
"""Read a mounted dataset from Python: whole files, parts of them, and by mmap. Nothing special is
needed, since it is a folder; only what is touched is fetched.

    MOUNTPOINT=mnt mount-examples/read-from-python.py

MOUNTPOINT  a folder where braidfs is mounted (several-mirrors.sh shows how). Default: ./mnt
FILE        a file in it. Default: the largest one.
"""
import mmap
import os
import sys
from pathlib import Path

mountpoint = Path(os.environ.get("MOUNTPOINT", "mnt"))
if not os.path.ismount(mountpoint):
    sys.exit(f"{mountpoint} is not mounted; mount it first: braidfs mount URL... {mountpoint}")

files = [path for path in mountpoint.rglob("*") if path.is_file()]
path = mountpoint / os.environ["FILE"] if "FILE" in os.environ else max(files, key=lambda path: path.stat().st_size)
size = path.stat().st_size
print(f"{len(files)} files; reading {path.relative_to(mountpoint)}, {size} bytes")

# The last bytes first, as readers of zip, parquet and HDF5 do: only their pages are fetched.
with open(path, "rb") as file:
    file.seek(max(0, size - 64))
    print("its end:", file.read().hex()[:32])

# By mmap: each page is fetched when it is touched.
with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    print("its middle:", mapped[size // 2 : size // 2 + 16].hex())

# Front to back: fetched ahead of the reader, from all mirrors at once.
total = 0
with open(path, "rb", buffering=0) as file:
    while part := file.read(1 << 20):
        total += len(part)
print(f"read {total} bytes")
assert total == size
