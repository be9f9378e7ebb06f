"""What is read, how fast, and what it cost: the same for every program."""
import hashlib
import mmap
import os
import random
import re
import subprocess
import threading
import time
from pathlib import Path

READ_BYTES = 1 << 20


def cpu_seconds(pid):
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_resident_mb(pid):
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    if not found:
        raise RuntimeError("the program that was mounted has ended")
    return int(found[1]) * 1024 / 1e6


class Buffer:
    """Memory that was touched before the clock runs, for bytes that are compared after it has stopped."""

    def __init__(self, count):
        self.memory = mmap.mmap(-1, max(count, 1))
        for at in range(0, count, 4096):
            self.memory[at] = 1
        self.view = memoryview(self.memory)[:count]

    def sum(self, count):
        return hashlib.sha256(self.view[:count]).hexdigest()


def sum_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sum(file)


def _sum(file):
    digest = hashlib.sha256()
    while part := file.read(READ_BYTES):
        digest.update(part)
    return digest.hexdigest()


class Wrong(Exception):
    """A program gave other bytes than the mirrors have."""


class Sums:
    """SHA-256 of the data set's files, each taken once."""

    def __init__(self, root):
        self.root, self.known = Path(root), {}

    def check(self, name, found):
        if name not in self.known:
            self.known[name] = sum_of(self.root / name)
        if found != self.known[name]:
            raise Wrong(f"{name}: the bytes that were read are not those of the mirrors")


def read_into(path, buffer, offset=0, count=None):
    """From front to back, 1 MiB at a time. Bytes, and the longest that one read took, in seconds."""
    done, longest = 0, 0.0
    count = len(buffer.view) if count is None else count
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while done < count:
            began = time.perf_counter()
            read = file.readinto(buffer.view[done:min(done + READ_BYTES, count)])
            longest = max(longest, time.perf_counter() - began)
            if not read:
                break
            done += read
    return done, longest


def sequential(sums, path, name, buffer):
    """One file, once. MB/s, and the longest read in ms."""
    began = time.perf_counter()
    count, longest = read_into(path, buffer)
    seconds = time.perf_counter() - began
    sums.check(name, buffer.sum(count))
    return {"MB/s": count / 1e6 / seconds, "longest read ms": longest * 1e3, "bytes": count, "seconds": seconds}


def part(root, path, name, buffer, count):
    """The first `count` bytes of a file, once. MB/s."""
    began = time.perf_counter()
    done, _ = read_into(path, buffer, 0, count)
    seconds = time.perf_counter() - began
    with open(Path(root) / name, "rb") as truth:
        if done != count or hashlib.sha256(truth.read(count)).hexdigest() != buffer.sum(count):
            raise Wrong(f"{name}: the bytes that were read are not those of the mirrors")
    return count / 1e6 / seconds


def streams(sums, path, name, count, buffers):
    """So many readers, each of its own part of one file."""
    size = os.path.getsize(path)
    part = size // count
    done = [0] * count

    def one(at):
        done[at], _ = read_into(path, buffers[at], at * part, part)

    began = time.perf_counter()
    run_threads(one, count)
    seconds = time.perf_counter() - began
    digest = hashlib.sha256()
    for at in range(count):
        digest.update(buffers[at].view[:done[at]])
    sums.check(name, digest.hexdigest())
    return {"MB/s": sum(done) / 1e6 / seconds, "bytes": sum(done), "seconds": seconds}


def run_threads(work, count):
    errors = []

    def guarded(at):
        try:
            work(at)
        except Exception as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def offsets(seed, count, length, size):
    dice = random.Random(seed)
    return [dice.randrange(0, (size - length) // 4096) * 4096 for _ in range(count)]


def random_reads(root, path, name, places, length, threads=1):
    """At these places. Median and P99 in ms, MB/s; what was read is compared with the mirrors' file afterwards."""
    each = [places[at::threads] for at in range(threads)]
    taken, got = [[] for _ in range(threads)], [[] for _ in range(threads)]

    def one(at):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for place in each[at]:
                began = time.perf_counter()
                part = os.pread(descriptor, length, place)
                taken[at].append(time.perf_counter() - began)
                got[at].append(part)
        finally:
            os.close(descriptor)

    began = time.perf_counter()
    run_threads(one, threads)
    seconds = time.perf_counter() - began
    with open(Path(root) / name, "rb") as truth:
        for at in range(threads):
            for place, part in zip(each[at], got[at]):
                truth.seek(place)
                if truth.read(length) != part:
                    raise Wrong(f"{name}: {length} bytes at {place} are not those of the mirrors")
    all_taken = sorted(sum(taken, []))
    return {
        "p50 ms": all_taken[len(all_taken) // 2] * 1e3,
        "p99 ms": all_taken[int(len(all_taken) * 0.99)] * 1e3,
        "MB/s": len(places) * length / 1e6 / seconds,
    }


def compiled(scratch, name, *options):
    """A C program of this folder, made once."""
    source = Path(__file__).resolve().parent / f"{name}.c"
    program = Path(scratch) / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", *options, "-o", program, source, "-lpthread"], check=True)
    return program


def read_parts(bench, path, name, threads):
    """A file by so many threads, each its part. MB/s."""
    out = Path("/dev/shm/braidfs-bench-read")
    try:
        done = subprocess.run([compiled(bench.scratch, "readers"), "parts", path, out, str(threads)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{threads} readers of {name}: {done.stderr.strip()}")
        bench.sums.check(name, sum_of(out))
    finally:
        out.unlink(missing_ok=True)
    return os.path.getsize(bench.root / name) / 1e6 / float(done.stdout)


BLOCK = 64 << 10


def read_blocks(bench, path, name, threads, numbers, rate=0):
    """64 KiB blocks in a random order by so many threads, `numbers` of that order: at so many a second whether or not those
    before have come (open loop), or as fast as they come (0). Blocks a second; median and P99 in ms from when each was due."""
    out = Path("/dev/shm/braidfs-bench-read")
    words = [compiled(bench.scratch, "readers"), "blocks", path, out, threads, numbers.start, numbers.stop, rate]
    try:
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{threads} readers of {name}: {done.stderr.strip()}")
        first, *order = done.stdout.splitlines()
        with open(bench.root / name, "rb") as truth, open(out, "rb") as got:
            for number in order:
                truth.seek(int(number) * BLOCK)
                if got.read(BLOCK) != truth.read(BLOCK):
                    raise Wrong(f"{name}: block {number} is not that of the mirrors")
    finally:
        out.unlink(missing_ok=True)
    seconds, middle, p99, _ = map(float, first.split())
    return {"blocks/s": len(numbers) / seconds, "p50 ms": middle, "p99 ms": p99}


def files_by_readers(bench, mount, names, readers):
    """Whole files of at most 64 KiB, by so many readers at a time. Seconds."""
    out, listed = Path("/dev/shm/braidfs-bench-read"), bench.scratch / "names"
    listed.write_text("".join(f"{Path(mount) / name}\n" for name in names))
    try:
        done = subprocess.run([compiled(bench.scratch, "readers"), "files", listed, out, str(readers)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{readers} readers: {done.stderr.strip()}")
        with open(out, "rb") as got:
            for at, name in enumerate(names):
                body = (bench.root / name).read_bytes()
                got.seek(at * BLOCK)
                if got.read(BLOCK) != body.ljust(BLOCK, b"\0"):
                    raise Wrong(f"{name}: the bytes that were read are not those of the mirrors")
    finally:
        out.unlink(missing_ok=True)
    return float(done.stdout)


def command(words, folder=None):
    """Seconds that a command takes, and the lines that it says."""
    began = time.perf_counter()
    done = subprocess.run(words, shell=isinstance(words, str), cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"`{words}` ended with {done.returncode}: {done.stderr.strip()[:300]}")
    return seconds, done.stdout.splitlines()


# What the mirrors serve, mapped, by folder. A machine may take file pages away that nobody maps and that were not read for a
# while (proactive reclaim, as virtual machines have it): then a mirror waits for its disk, and each reader with it.
MAPPED = {}


def drop_caches(keep_warm=()):
    """The kernel forgets every page and inode but for what the mirrors serve, so that only the mount is cold."""
    os.sync()
    for folder in MAPPED.keys() - set(keep_warm) if keep_warm else ():
        del MAPPED[folder]
    Path("/proc/sys/vm/drop_caches").write_text("3")
    for folder in keep_warm:
        if folder not in MAPPED:
            MAPPED[folder] = [mapped(path) for path in Path(folder).rglob("*") if path.is_file() and path.stat().st_size > 1024]
        subprocess.run(f"find {folder} | wc -l >/dev/null", shell=True, check=True)


def mapped(path):
    with open(path, "rb") as file:
        # In order first, since the kernel's readahead knows that; then each of its pages.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while file.read(1 << 20):
            pass
        return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
