"""What the ideas that braidfs is built on are worth, each against itself switched off by a hidden option."""
import json
import os
import socket
import threading
import time

import dataset
import measure

# The variants: names of tools, and what is added to our command line.
PASSTHROUGH_OFF = ("braidfs, no passthrough", "--passthrough=false")
POOL_OFF = ("braidfs, fresh buffers", "--without-pool")
# Both with metrics and a log of everything, for the storm.
METRICS = ("127.0.0.1", 19190)
STORMY = f"--metrics {METRICS[0]}:{METRICS[1]} --log-level debug"
PLANE = ("braidfs, data plane apart", STORMY)
PLANE_OFF = ("braidfs, one runtime", f"{STORMY} --without-data-plane")
RESUMPTION_OFF = ("braidfs, no resumption", "--without-tls-resumption")
KEPT_OFF = ("braidfs, a connection each", "--without-kept-connections --without-tls-resumption")
RESUMED_EACH = ("braidfs, a resumed connection each", "--without-kept-connections")
# By HTTP/2 where the mirror speaks it; without, it is not offered.
HTTP2 = "braidfs, HTTP/2"
ALL = (PASSTHROUGH_OFF, POOL_OFF, PLANE, PLANE_OFF, RESUMPTION_OFF, KEPT_OFF, RESUMED_EACH)
STORM_CLIENTS = 8


def bytes_moved(bench, mount, mirrors):
    """128 KiB here and there of a file that is wholly cached, the pages warm below and forgotten above: mean latency, and
    CPU of who reads and of the daemon together."""
    name, size, length, count = "big/c.bin", dataset.BIG["c.bin"], 128 << 10, 4000
    buffer = bench.buffer(size)
    measure.sequential(bench.sums, mount.path / name, name, buffer)
    until = time.monotonic() + 30
    while mount.on_disk_bytes(name) < size:
        if time.monotonic() > until:
            raise RuntimeError(f"{name} is not durable 30 s after it was read")
        time.sleep(0.05)
    places = measure.offsets(bench.seed, count, length, size)
    opened = opened_at_once if mount.tool.name == POOL_OFF[0] else opened_past_us
    descriptor = opened(mount, mount.path / name)
    try:
        # What lies below was written past the kernel's memory: this brings it there.
        for place in range(0, size, length):
            os.pread(descriptor, length, place)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        room, taken, digests = bytearray(length), 0.0, []
        allocated = mount.allocations() if mount.counted else 0
        before = measure.cpu_seconds(mount.pid) + own_cpu_seconds()
        for place in places:
            # Each read shall come to the mount; what lies below stays in the kernel's memory.
            os.posix_fadvise(descriptor, place, length, os.POSIX_FADV_DONTNEED)
            began = time.perf_counter()
            os.preadv(descriptor, [room], place)
            taken += time.perf_counter() - began
            digests.append(hash(bytes(room[:4096])))
        cpu = measure.cpu_seconds(mount.pid) + own_cpu_seconds() - before
        allocated = mount.allocations() - allocated if mount.counted else None
    finally:
        os.close(descriptor)
    with open(bench.root / name, "rb") as truth:
        for place, digest in zip(places, digests):
            truth.seek(place)
            if hash(truth.read(4096)) != digest:
                raise measure.Wrong(name)
    if mount.counted:
        return {"allocations a read": allocated / count}
    return {"mean µs": taken / count * 1e6, "CPU µs a read": cpu / count * 1e6}


def opened_at_once(mount, path):
    return os.open(path, os.O_RDONLY)


def opened_past_us(mount, path):
    """Opened for the kernel to read by itself, as it does with a complete file: a file is marked complete a moment after its
    last byte is durable."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        before = mount.counter("passthrough_opens")
        descriptor = os.open(path, os.O_RDONLY)
        if mount.counter("passthrough_opens") > before:
            return descriptor
        os.close(descriptor)
        time.sleep(0.05)
    raise RuntimeError(f"{path} is not passed through 30 s after it was read")


def own_cpu_seconds():
    times = os.times()
    return times.user + times.system


def small_requests(bench, mount, mirrors):
    """4 KiB here and there by 16 threads, each a request of its own over TLS: how many a second, and how many of the
    connections began with a full handshake."""
    name, size, length, count = "big/a.bin", dataset.BIG["a.bin"], 4096, 3000
    places = measure.offsets(bench.seed, count, length, size)
    measure.random_reads(bench.root, mount.path / name, name, [0], length)
    before = len(mirrors[0].requests())
    began = time.perf_counter()
    measure.random_reads(bench.root, mount.path / name, name, places, length, 16)
    seconds = time.perf_counter() - began
    lines = [line.split() for line in mirrors[0].requests()[before:]]
    # The connection's number and its first request, and whether its session was resumed.
    first = {line[-2]: line[-1] for line in reversed(lines)}
    full = sum(how != "r" for how in first.values())
    return {"requests/s": len(lines) / seconds, "requests a connection": len(lines) / max(len(first), 1),
            "full handshakes": full / max(len(first), 1)}


def storm(bench, mount, mirrors):
    """Blocks here and there, 50 a second, while eight clients ask for status, mirrors, explanations and metrics without a
    pause. The reader is a process of its own: a thread beside the clients would wait for Python's lock, not for the mount."""
    name, count = "big/a.bin", 1000
    measure.read_blocks(bench, mount.path / name, name, 1, range(0, 50))
    stop, asked = threading.Event(), [0] * STORM_CLIENTS
    address = control_socket(mount)
    threads = [threading.Thread(target=ask, args=(address, at, stop, asked)) for at in range(STORM_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        figures = measure.read_blocks(bench, mount.path / name, name, 16, range(50, 50 + count), 50)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if 0 in asked:
        raise RuntimeError("a client of the storm was not answered")
    return {"p50 ms": figures["p50 ms"], "p99 ms": figures["p99 ms"], "questions": sum(asked)}


def control_socket(mount):
    """Of a mount of root's: named by the mount's device."""
    device = os.stat(mount.path).st_dev
    return f"/run/braidfs/{os.major(device)}-{os.minor(device)}.sock"


def ask(address, at, stop, asked):
    """One question after the other, each by a connection of its own; what is answered is read to its end."""
    commands = [{"v": 1, "command": "status", "args": {"path": None}}, {"v": 1, "command": "mirrors", "args": {}},
                {"v": 1, "command": "explain", "args": {"target": None, "last": 100}}]
    questions = [(socket.AF_UNIX, address, json.dumps(command).encode() + b"\n") for command in commands]
    questions.append((socket.AF_INET, METRICS, b"GET /metrics HTTP/1.1\r\nHost: mount\r\nConnection: close\r\n\r\n"))
    while not stop.is_set():
        family, where, question = questions[(at + asked[at]) % len(questions)]
        with socket.socket(family, socket.SOCK_STREAM) as door:
            door.connect(where)
            door.sendall(question)
            if not door.recv(1 << 16):
                raise RuntimeError(f"{where} gave no answer")
            while door.recv(1 << 16):
                pass
        asked[at] += 1
