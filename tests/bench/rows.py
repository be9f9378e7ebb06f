"""What is compared. A row says which mirrors it wants, who may take part, and what is done with a fresh mount."""
import json
import os
import random
import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import dataset
import ideas
import measure

MIB = 1 << 20
NO_CACHE, CACHE = "no cache", "cache"


@dataclass
class Figure:
    """One number of a row. `goals`: what ours is to be of the best peer's."""
    name: str
    unit: str = ""
    more_is_better: bool = True
    digits: int = 0
    goals: tuple = ()


@dataclass
class Goal:
    """Ours over the best peer's: at least this where more is better, else at most. `kind`: which are compared, by whether
    they keep bytes on disk (CACHE, NO_CACHE); None: all of them."""
    ratio: float
    kind: str | None = None


@dataclass
class Row:
    name: str
    about: str
    figures: tuple
    work: object
    # How each mirror is made: arguments of `Mirror`.
    mirrors: tuple = ({},)
    # Mounts that are left out, since they cannot do it or take minutes; or the only ones that take part.
    without: tuple = ()
    only: tuple = ()
    # The folders of the data set that it reads: warm at the mirrors before each run.
    reads: tuple = ("big",)
    # Count what the mounted programs allocate.
    counted: bool = False
    # Bounds that are no mount: name and function of (bench, mirrors).
    bounds: tuple = field(default_factory=tuple)


# --- large files, in order

def cold_sequential(bench, mount, mirrors):
    name = "big/b.bin"
    buffer = bench.buffer(dataset.BIG["b.bin"])
    before = measure.cpu_seconds(mount.pid)
    figures = measure.sequential(bench.sums, mount.path / name, name, buffer)
    if mount.tool.is_ours and mount.tool.keeps:
        figures["durable after s"] = until_durable(mount, name, dataset.BIG["b.bin"])
    # What is still written behind the reader counts too.
    figures["CPU s/GB"] = (measure.cpu_seconds(mount.pid) - before) / (figures["bytes"] / 1e9)
    figures["peak RSS MB"] = measure.peak_resident_mb(mount.pid)
    return figures


def until_durable(mount, name, size):
    began = time.perf_counter()
    while mount.on_disk_bytes(name) < size:
        if time.perf_counter() - began > 30:
            raise RuntimeError(f"{name} is not durable 30 s after it was read")
        time.sleep(0.01)
    return time.perf_counter() - began


def some_streams(count):
    def work(bench, mount, mirrors):
        name, size = "big/a.bin", dataset.BIG["a.bin"]
        buffers = bench.parts(size, count)
        before = measure.cpu_seconds(mount.pid)
        figures = measure.streams(bench.sums, mount.path / name, name, count, buffers)
        figures["CPU s/GB"] = (measure.cpu_seconds(mount.pid) - before) / (figures["bytes"] / 1e9)
        figures["peak RSS MB"] = measure.peak_resident_mb(mount.pid)
        return figures
    return work


def curl_of(name):
    def bound(bench, mirrors):
        seconds, _ = measure.command(["curl", "-sf", "-o", "/dev/null", f"{mirrors[0].url}/{name}"])
        return {"MB/s": os.path.getsize(bench.root / name) / 1e6 / seconds}
    return bound


def native_sequential(bench, mirrors):
    name = "big/b.bin"
    return measure.sequential(bench.sums, bench.root / name, name, bench.buffer(dataset.BIG["b.bin"]))


# --- read again, from the disk cache

# The first read that is passed through drops what the kernel had of the mount, and its pages are warm only then.
ONCE_MORE = 5


def again(bench, mount, mirrors):
    """The whole file is in the cache: read again by the same mount and by new ones, with what the cache holds in the page cache of
    the kernel or not, for the native file too."""
    name = "big/c.bin"
    size = dataset.BIG["c.bin"]
    buffer = bench.buffer(size)
    measure.sequential(bench.sums, mount.path / name, name, buffer)
    if mount.tool.is_ours:
        until_durable(mount, name, size)
    read = lambda: measure.sequential(bench.sums, mount.path / name, name, buffer)["MB/s"]  # noqa: E731
    measure.drop_caches()
    figures = {"cold MB/s": read()}
    mount.again()
    measure.drop_caches()
    figures["new mount, cold MB/s"] = read()
    mount.again()
    sent = [mirror.sent_bytes() for mirror in mirrors]
    figures["new mount, warm MB/s"] = read()
    figures["bytes from mirrors"] = sum(mirror.sent_bytes() - was for mirror, was in zip(mirrors, sent)) / size
    figures["once more MB/s"] = statistics.median(read() for _ in range(ONCE_MORE))
    return figures


def again_in_part(bench, mount, mirrors):
    """The first 192 of 256 MiB are in the cache, and are read by a new mount; none of the file can be passed through."""
    name, count = "big/c.bin", 192 << 20
    buffer = bench.buffer(dataset.BIG["c.bin"])
    measure.part(bench.root, mount.path / name, name, buffer, count)
    if mount.tool.is_ours:
        until_durable(mount, name, count)
    mount.again()
    measure.drop_caches()
    cold = measure.part(bench.root, mount.path / name, name, buffer, count)
    mount.again()
    warm = measure.part(bench.root, mount.path / name, name, buffer, count)
    return {"cold MB/s": cold, "warm MB/s": warm}


def native_again(bench, mirrors):
    """A copy of the file on the disk of the caches."""
    name, copy = "big/c.bin", bench.scratch / "native.bin"
    shutil.copyfile(bench.root / name, copy)
    buffer = bench.buffer(dataset.BIG["c.bin"])
    measure.drop_caches()
    read = lambda: measure.sequential(bench.sums, copy, name, buffer)["MB/s"]  # noqa: E731
    figures = {"cold MB/s": read()}
    measure.drop_caches()
    figures |= {"new mount, cold MB/s": read(), "new mount, warm MB/s": read()}
    figures["once more MB/s"] = statistics.median(read() for _ in range(ONCE_MORE))
    copy.unlink()
    return figures


# --- random reads

def random_4k(bench, mount, mirrors):
    name, size, count = "big/a.bin", dataset.BIG["a.bin"], 1000
    places = measure.offsets(bench.seed, count, 4096, size)
    measure.random_reads(bench.root, mount.path / name, name, [0], 4096)
    sent = sum(mirror.body_bytes() for mirror in mirrors)
    figures = measure.random_reads(bench.root, mount.path / name, name, places, 4096)
    now = sum(mirror.body_bytes() for mirror in mirrors)
    figures["bytes per byte"] = (now - sent) / (count * 4096)
    measure.random_reads(bench.root, mount.path / name, name, places, 4096)
    figures["again: bytes per byte"] = (sum(mirror.body_bytes() for mirror in mirrors) - now) / (count * 4096)
    return figures


def random_of(length, threads, count):
    def work(bench, mount, mirrors):
        name, size = "big/a.bin", dataset.BIG["a.bin"]
        places = measure.offsets(bench.seed, count, length, size)
        distinct = distinct_bytes(places, length)
        sent = sum(mirror.body_bytes() for mirror in mirrors)
        figures = measure.random_reads(bench.root, mount.path / name, name, places, length, threads)
        figures["bytes per byte"] = (sum(mirror.body_bytes() for mirror in mirrors) - sent) / distinct
        return figures
    return work


def distinct_bytes(places, length):
    return len({page for place in places for page in range(place // 4096, (place + length - 1) // 4096 + 1)}) * 4096


# --- many readers

def many_readers(bench, mount, mirrors):
    """2,000 beside 200, each cold."""
    name = "big/a.bin"
    few = measure.read_parts(bench, mount.path / name, name, 200)
    mount.afresh()
    measure.drop_caches([bench.root / "big"])
    many = measure.read_parts(bench, mount.path / name, name, 2000)
    return {"200: MB/s": few, "2,000: MB/s": many, "2,000 of 200": many / few, "peak RSS MB": measure.peak_resident_mb(mount.pid)}


def open_loop(bench, mount, mirrors):
    """What blocks take at half of what could be, beside what they take where 50 a second are asked for. All are cold, and
    asked for in no order."""
    path, name = mount.path / "big/a.bin", "big/a.bin"
    measure.read_blocks(bench, path, name, 1, range(0, 50))
    idle = measure.read_blocks(bench, path, name, 16, range(50, 550), 50)
    most = measure.read_blocks(bench, path, name, 16, range(550, 5550))
    half = measure.read_blocks(bench, path, name, 64, range(5550, 11550), most["blocks/s"] / 2)
    return {"most blocks/s": most["blocks/s"], "idle p50 ms": idle["p50 ms"], "idle p99 ms": idle["p99 ms"],
            "half p50 ms": half["p50 ms"], "half p99 ms": half["p99 ms"], "p99 of idle's": half["p99 ms"] / idle["p99 ms"]}


# --- names and small files

def find(bench, mount, mirrors):
    wanted = dataset.NAMES_FOLDERS * dataset.NAMES_FILES

    def once():
        seconds, lines = measure.command(["find", "names", "-type", "f"], mount.path)
        if len(lines) != wanted:
            raise measure.Wrong(f"find sees {len(lines)} of {wanted} files")
        return seconds

    return {"s": once(), "again s": once()}


def wide_folder(bench, mount, mirrors):
    asked = len(mirrors[0].requests())
    seconds, lines = measure.command(["ls", "-f", "wide"], mount.path)
    if len(lines) != dataset.WIDE_FILES + 2:
        raise measure.Wrong(f"ls sees {len(lines) - 2} of {dataset.WIDE_FILES} names")
    listed = len(mirrors[0].requests())
    long_seconds, _ = measure.command(["ls", "-l", "--time-style=full-iso", "wide"], mount.path)
    return {"ls -f s": seconds, "ls -f requests": listed - asked, "ls -l s": long_seconds,
            "ls -l requests": len(mirrors[0].requests()) - listed}


def native_find(bench, mirrors):
    seconds, _ = measure.command(["find", "names", "-type", "f"], bench.root)
    return {"s": seconds}


def listings_only(bench, mirrors):
    """The hundred index pages, one after the other on one connection."""
    urls = [f"{mirrors[0].url}/names/d{at:03}/" for at in range(dataset.NAMES_FOLDERS)]
    words = ["curl", "-sf", *[word for url in urls for word in ("-o", "/dev/null", url)]]
    return {"s": measure.command(words)[0]}


def small_names(numbers):
    return [f"small/d{at // dataset.SMALL_FILES:03}/f{at % dataset.SMALL_FILES:03}.dat" for at in numbers]


def tar(bench, mount, mirrors):
    """500 small files of five folders, in the order of the folders."""
    folders = [f"small/d{at:03}" for at in range(5)]
    seconds, lines = measure.command("tar cf - " + " ".join(folders) + " | sha256sum", mount.path)
    return {"s": seconds}


def small_by_16(bench, mount, mirrors):
    """In no order, and then other ones in that of their folders."""
    names = small_names(range(1000))
    random.Random(bench.seed).shuffle(names)
    return {"s": measure.files_by_readers(bench, mount.path, names, 16),
            "in order s": measure.files_by_readers(bench, mount.path, small_names(range(1000, 2000)), 16)}


# --- latency

def first_byte(bench, mount, mirrors):
    """An open and a read of 4 KiB of files that nobody read before, on a connection that is warm."""
    names = [f"heads/h{at:03}.bin" for at in range(dataset.HEADS)]
    os.listdir(mount.path / "heads")
    (mount.path / names[0]).read_bytes()
    taken = []
    for name in names[1:41]:
        began = time.perf_counter()
        with open(mount.path / name, "rb", buffering=0) as file:
            part = file.read(4096)
        taken.append(time.perf_counter() - began)
        with open(bench.root / name, "rb") as truth:
            if truth.read(4096) != part:
                raise measure.Wrong(name)
    return {"p50 ms": statistics.median(taken) * 1e3}


def curl_first_byte(bench, mirrors):
    urls = [f"{mirrors[0].url}/heads/h{at:03}.bin" for at in range(41)]
    words = ["curl", "-sf", "-r", "0-4095", "-w", "%{time_total}\\n",
             *[word for url in urls for word in ("-o", "/dev/null", url)]]
    _, lines = measure.command(words)
    return {"p50 ms": statistics.median(map(float, lines[1:])) * 1e3}


def long_path(bench, mount, mirrors):
    """How full the link is from two seconds after the start on, by what leaves the mirror: what a reader gets then may
    have been fetched before. Headers of packets are in both numbers, so this is of the payload too."""
    name, size = "big/a.bin", dataset.BIG["a.bin"]
    buffer = bench.buffer(size)
    done, begun, full_from = 0, None, None
    with open(mount.path / name, "rb", buffering=0) as file:
        begun = time.perf_counter()
        while done < size:
            read = file.readinto(buffer.view[done:done + MIB])
            if not read:
                break
            done += read
            if full_from is None and time.perf_counter() >= begun + 2:
                full_from = time.perf_counter(), mirrors[0].sent_bytes()
        ended = time.perf_counter(), mirrors[0].sent_bytes()
    bench.sums.check(name, buffer.sum(done))
    (from_s, from_bytes), (to_s, to_bytes) = full_from, ended
    filled = (to_bytes - from_bytes) / 1e6 / (to_s - from_s) / mirrors[0].rate_mb_s
    return {"MB/s": done / 1e6 / (ended[0] - begun), "of the payload": filled}


# Of a shaped link of 1500-byte packets (measured): what several mirrors can bring at most.
PAYLOAD = 0.967


# --- several mirrors, which no peer can mount

def of_the_sum(bench, mount, mirrors):
    name = "big/a.bin"
    sent = sum(mirror.sent_bytes() for mirror in mirrors)
    figures = measure.sequential(bench.sums, mount.path / name, name, bench.buffer(dataset.BIG["a.bin"]))
    figures["of the sum"] = figures["MB/s"] / sum(mirror.rate_mb_s for mirror in mirrors)
    figures["bytes per byte"] = (sum(mirror.sent_bytes() for mirror in mirrors) - sent) / figures["bytes"]
    return figures


def swapping(bench, mount, mirrors):
    stop = threading.Event()

    def swap():
        rates = [mirror.rate_mb_s for mirror in mirrors]
        while not stop.wait(2):
            rates.reverse()
            for mirror, rate in zip(mirrors, rates):
                mirror.shape(rate)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        return of_the_sum(bench, mount, mirrors)
    finally:
        stop.set()
        thread.join()


def black_hole(bench, mount, mirrors):
    """One of four says nothing any more two seconds after the first byte; `of the ideal` time: 2 s of four, then
    three, at what payload can be of a link."""
    timer = threading.Timer(2.0, mirrors[1].swallow)
    timer.start()
    name, size = "big/b.bin", dataset.BIG["b.bin"]
    try:
        figures = measure.sequential(bench.sums, mount.path / name, name, bench.buffer(size))
    finally:
        timer.join()
        mirrors[1].swallow(False)
    rate = mirrors[0].rate_mb_s * PAYLOAD
    ideal = 2 + (size / 1e6 - 2 * 4 * rate) / (3 * rate)
    return {"s": figures["seconds"], "of the ideal": figures["seconds"] / ideal,
            "longest read ms": figures["longest read ms"]}


def aria2(name):
    def bound(bench, mirrors):
        folder = bench.scratch / "aria2"
        shutil.rmtree(folder, ignore_errors=True)
        urls = [f"{mirror.url}/{name}" for mirror in mirrors]
        words = ["aria2c", "-q", "-d", str(folder), "-o", "out", "--file-allocation=none", "-s", "16", "-x", "4",
                 "--min-split-size=1M", "--uri-selector=adaptive", *urls]
        seconds, _ = measure.command(words)
        bench.sums.check(name, measure.sum_of(folder / "out"))
        shutil.rmtree(folder)
        rate = os.path.getsize(bench.root / name) / 1e6 / seconds
        return {"MB/s": rate, "of the sum": rate / sum(mirror.rate_mb_s for mirror in mirrors), "s": seconds}
    return bound


# --- fio, as mountpoint-s3 measures itself, scaled down

def fio(*options):
    def work(bench, mount, mirrors):
        words = ["fio", "--name=job", f"--filename={mount.path}/big/a.bin", "--readonly", "--minimal",
                 "--output-format=json", "--runtime=6", "--time_based", "--ioengine=sync", "--invalidate=0", *options]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr[:300] or done.stdout[:300])
        jobs = json.loads(done.stdout[done.stdout.index("{"):])["jobs"]
        return {"MB/s": sum(job["read"]["bw_bytes"] for job in jobs) / 1e6}
    return work


RATE = Figure("MB/s", "MB/s", digits=0)
CPU = Figure("CPU s/GB", "s/GB", False, 2)
RSS = Figure("peak RSS MB", "MB", False)


def goals(figure, *of):
    return Figure(figure.name, figure.unit, figure.more_is_better, figure.digits, of)


ROWS = [
    Row("sequential", "512 MiB, cold, one mirror on an unshaped link",
        (goals(RATE, Goal(1.2, NO_CACHE), Goal(1.5, CACHE)), goals(CPU, Goal(0.8, NO_CACHE), Goal(0.7, CACHE)), RSS,
         Figure("durable after s", "s", False, 2)),
        cold_sequential, bounds=(("curl, one stream", curl_of("big/b.bin")), ("native file", native_sequential))),
    Row("4 streams", "four readers of a quarter of 1 GiB each, cold",
        (goals(RATE, Goal(1.5)), CPU, RSS), some_streams(4)),
    Row("64 streams", "64 readers of 16 MiB each, cold", (RATE, CPU, RSS), some_streams(64)),
    Row("again", "256 MiB that is wholly cached: by the same mount, the disk cold; by a new mount, the disk cold, then warm; then five times more, the median",
        (Figure("cold MB/s", "MB/s"), Figure("new mount, cold MB/s", "MB/s"), Figure("new mount, warm MB/s", "MB/s"),
         Figure("once more MB/s", "MB/s"),
         Figure("bytes from mirrors", "of the file", False, 3)),
        again, only=("braidfs", ideas.PASSTHROUGH_OFF[0], "rclone mount2, full cache", "httpdirfs, cache"),
        bounds=(("native file", native_again),)),
    Row("again, in part", "the first 192 of 256 MiB, which are cached, by a new mount; the disk cold, then warm",
        (goals(Figure("cold MB/s", "MB/s"), Goal(1.0)), goals(Figure("warm MB/s", "MB/s"), Goal(1.0))), again_in_part,
        only=("braidfs", "rclone mount2, full cache", "httpdirfs, cache")),
    Row("random 4 KiB", "1,000 reads here and there in 1 GiB, one after the other, cold; then the same again",
        (Figure("p50 ms", "ms", False, 3, (Goal(1.2),)), Figure("p99 ms", "ms", False, 2),
         Figure("bytes per byte", "", False, 2), Figure("again: bytes per byte", "", False, 2)),
        random_4k, without=("rclone mount2, no cache", "rclone mount2, full cache", "httpdirfs, cache")),
    Row("random 64 KiB", "400 reads by four threads in 1 GiB, cold",
        (RATE, Figure("p50 ms", "ms", False, 2), Figure("bytes per byte", "", False, 2)), random_of(65536, 4, 400),
        without=("httpdirfs, cache",)),
    Row("random 256 KiB", "400 reads by four threads in 1 GiB, cold",
        (goals(RATE, Goal(1.3)), Figure("p50 ms", "ms", False, 2), Figure("bytes per byte", "", False, 2)),
        random_of(262144, 4, 400), without=("httpdirfs, cache",)),
    Row("many readers", "1 GiB by 200 readers and by 2,000, each its part in order, cold",
        (Figure("200: MB/s", "MB/s"), Figure("2,000: MB/s", "MB/s"), Figure("2,000 of 200", "", True, 2), RSS), many_readers,
        only=("braidfs", "braidfs, no cache")),
    Row("open loop", "64 KiB blocks here and there in 1 GiB, cold: 50 a second; as fast as 16 threads can; half as many a second "
        "as those, whether or not the ones before have come; the mirror sends by Reno, since BBR holds some answers that have begun for 100 ms",
        (Figure("most blocks/s"), Figure("idle p50 ms", "ms", False, 2), Figure("half p50 ms", "ms", False, 2),
         Figure("idle p99 ms", "ms", False, 2), Figure("half p99 ms", "ms", False, 2), Figure("p99 of idle's", "", False, 2)),
        open_loop, mirrors=({"congestion": "reno"},), only=("braidfs", "braidfs, no cache")),
    Row("find", "100,000 names in 100 folders, cold, and again",
        (Figure("s", "s", False, 2, (Goal(0.3),)), Figure("again s", "s", False, 2)), find,
        without=("httpdirfs, no cache", "httpdirfs, cache"),
        bounds=(("curl, the 100 listings", listings_only), ("native folders", native_find)), reads=("names",)),
    Row("wide folder", "100,000 names in one folder: `ls -f` cold, then `ls -l`",
        (Figure("ls -f s", "s", False, 2), Figure("ls -f requests", "", False), Figure("ls -l s", "s", False, 2),
         Figure("ls -l requests", "", False)), wide_folder, without=("httpdirfs, no cache", "httpdirfs, cache"), reads=("wide",)),
    Row("tar", "`tar` of 500 small files in five folders, cold", (Figure("s", "s", False, 2, (Goal(0.7),)),), tar, reads=("small",)),
    Row("small files", "1,000 files of 4 to 64 KiB by 16 readers, cold: in no order, and others in the order of their folders",
        (Figure("s", "s", False, 2, (Goal(0.7),)), Figure("in order s", "s", False, 2, (Goal(0.7),))), small_by_16,
        reads=("small",)),
    Row("small files, 20 ms", "the same over a round trip of 20 ms",
        (Figure("s", "s", False, 2), Figure("in order s", "s", False, 2, (Goal(0.2),))), small_by_16,
        mirrors=({"round_trip_ms": 20},), without=("httpdirfs, no cache", "httpdirfs, cache"), reads=("small",)),
    Row("first byte", "open and read 4 KiB of files that were listed, on a warm connection",
        (Figure("p50 ms", "ms", False, 3),), first_byte, bounds=(("curl", curl_first_byte),), reads=("heads",)),
    Row("first byte, 20 ms", "the same over a round trip of 20 ms",
        (Figure("p50 ms", "ms", False, 2),), first_byte, mirrors=({"round_trip_ms": 20},),
        bounds=(("curl", curl_first_byte),), reads=("heads",)),
    Row("long path", "1 GiB over 125 MB/s and 50 ms: how full the link is from 2 s on",
        (RATE, Figure("of the payload", "", True, 3)), long_path,
        mirrors=({"rate_mb_s": 125, "round_trip_ms": 50},), bounds=(("curl, one stream", curl_of("big/b.bin")),),
        without=("httpdirfs, no cache", "httpdirfs, cache")),
    Row("four unequal mirrors", "1 GiB from mirrors of 5, 10, 20 and 40 MB/s",
        (Figure("of the sum", "", True, 3), Figure("longest read ms", "ms", False),
         Figure("bytes per byte", "", False, 3)), of_the_sum,
        mirrors=tuple({"rate_mb_s": rate} for rate in (5, 10, 20, 40)), only=("braidfs", "braidfs, no cache"),
        bounds=(("aria2, a download", aria2("big/a.bin")),)),
    Row("rates that swap", "1 GiB from two mirrors of 40 and 5 MB/s that swap their rates every 2 s",
        (Figure("of the sum", "", True, 3), Figure("longest read ms", "ms", False)), swapping,
        mirrors=({"rate_mb_s": 40}, {"rate_mb_s": 5}), only=("braidfs",)),
    Row("black hole", "512 MiB from four mirrors of 20 MB/s, of which one says nothing any more after 2 s",
        (Figure("s", "s", False, 2), Figure("of the ideal", "", False, 3), Figure("longest read ms", "ms", False)),
        black_hole, mirrors=({"rate_mb_s": 20},) * 4, only=("braidfs",)),
    Row("fio sequential", "256 KiB at a time for 6 s", (RATE,), fio("--rw=read", "--bs=256k", "--size=1g")),
    Row("fio sequential, direct", "the same with O_DIRECT", (RATE,),
        fio("--rw=read", "--bs=256k", "--size=1g", "--direct=1")),
    Row("fio 4 threads", "four sequential threads of 256 MiB each", (RATE,),
        fio("--rw=read", "--bs=256k", "--size=256m", "--numjobs=4", "--thread", "--offset_increment=256m",
            "--group_reporting")),
    Row("fio random", "256 KiB here and there for 6 s", (RATE,), fio("--rw=randread", "--bs=256k", "--size=1g"),
        without=("httpdirfs, cache",)),
    Row("fio skip", "256 KiB of each MiB", (RATE,), fio("--rw=read:768k", "--bs=256k", "--size=1g"),
        without=("httpdirfs, cache",)),
    Row("idea: bytes moved", "128 KiB here and there of a file that is wholly cached: pooled pages and passthrough, or a fresh buffer a read",
        (Figure("mean µs", "µs", False), Figure("CPU µs a read", "µs", False)), ideas.bytes_moved,
        only=("braidfs", ideas.POOL_OFF[0])),
    Row("idea: allocations", "the same, and how often the daemon allocates for it",
        (Figure("allocations a read", "", False, 2),), ideas.bytes_moved, only=("braidfs", ideas.POOL_OFF[0]), counted=True),
    Row("idea: HTTP/2", "4 KiB by 16 threads over TLS",
        (Figure("requests/s", "", True), Figure("requests a connection", "", True, 1)), ideas.small_requests,
        mirrors=({"tls": True, "http2": True},), only=("braidfs", ideas.HTTP2)),
    Row("idea: HTTP/2, 20 ms", "the same over a round trip of 20 ms",
        (Figure("requests/s", "", True), Figure("requests a connection", "", True, 1)), ideas.small_requests,
        mirrors=({"tls": True, "http2": True, "round_trip_ms": 20},), only=("braidfs", ideas.HTTP2)),
    Row("idea: HTTP/2, sequential", "512 MiB once, over TLS", (RATE, CPU), cold_sequential,
        mirrors=({"tls": True, "http2": True},), only=("braidfs", ideas.HTTP2)),
    Row("idea: connections", "4 KiB by 16 threads over TLS, 20 requests a connection",
        (Figure("requests/s", "", True), Figure("requests a connection", "", True, 1),
         Figure("full handshakes", "of the connections", False, 3)), ideas.small_requests,
        mirrors=({"tls": True, "requests": 20},),
        only=("braidfs", ideas.RESUMPTION_OFF[0], ideas.RESUMED_EACH[0], ideas.KEPT_OFF[0])),
    Row("idea: data plane", "64 KiB reads, 50 a second, while eight clients ask for status and metrics without a pause and "
        "everything is logged; the mirror sends by Reno, as in the open loop",
        (Figure("p50 ms", "ms", False, 2), Figure("p99 ms", "ms", False, 2), Figure("questions", "", True)), ideas.storm,
        mirrors=({"congestion": "reno"},), only=(ideas.PLANE[0], ideas.PLANE_OFF[0])),
]
