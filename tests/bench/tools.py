"""The programs that are compared, as their own documentation says to run them fast."""
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import ideas
from measure import compiled

MOUNT_SECONDS_MAX = 20
RCLONE = ("--read-only --config /dev/null --dir-cache-time 1h --attr-timeout 1h --max-read-ahead 1M "
          "--buffer-size 16M")
RCLONE_OFF = "--vfs-cache-mode off --vfs-read-chunk-size 8M --vfs-read-chunk-streams 4"
RCLONE_FULL = "--vfs-cache-mode full --vfs-read-ahead 64M --cache-dir {cache}"


class Tool:
    """Something that is mounted. `command` has {urls}, {url} (the first), {file} (a configuration with
    them all, by HTTP/2), {mount} and {cache}; it must stay in the foreground. `keeps`: it has a cache on disk. `variant`: it
    takes part only in rows that name it."""

    def __init__(self, name, program, command, keeps, version=("--version",), variant=False):
        self.name, self.program, self.command, self.keeps = name, program, command, keeps
        self.version_words, self.variant = version, variant

    @property
    def is_ours(self):
        return self.name.startswith("braidfs")

    def is_here(self):
        return shutil.which(self.program) is not None

    def version(self):
        done = subprocess.run([self.program, *self.version_words], capture_output=True, text=True)
        return ((done.stdout or done.stderr).splitlines() or ["unknown"])[0].strip()

    def mount(self, scratch, mirrors, counted=False):
        return Mount(self, scratch, mirrors, counted)


class Mount:
    """A mounted tool; leaving the `with` ends it and clears its cache. `counted`: what it allocates is counted."""

    def __init__(self, tool, scratch, mirrors, counted):
        self.tool, scratch = tool, Path(scratch)
        plain = tool.name.replace(",", "").replace(" ", "-").replace("/", "-")
        self.path, self.cache = scratch / f"mnt-{plain}", scratch / f"cache-{plain}"
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        self.path.mkdir(exist_ok=True)
        urls = [f"{mirror.url}/" for mirror in mirrors]
        file = scratch / "mirrors.toml"
        file.write_text("".join(f'[[mirror]]\nurl = "{url}"\nhttp2 = true\n' for url in urls))
        self.words = tool.command.format(program=tool.program, urls=" ".join(urls), url=urls[0], mount=self.path,
                                         cache=self.cache, file=file)
        self.log, certificate = scratch / f"{plain}.log", scratch / "tls/cert.pem"
        # A certificate of our own mirrors, where they have one.
        self.environment = {"SSL_CERT_FILE": str(certificate)} if certificate.exists() else {}
        self.counted = counted
        if counted:
            self.count = scratch / "allocated"
            self.count.write_bytes(bytes(8))
            library = compiled(scratch, "allocations", "-shared", "-fPIC")
            self.environment |= {"LD_PRELOAD": str(library), "COUNT_FILE": str(self.count)}
        self.start()

    def start(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(f"exec {self.words}", shell=True, stdout=log, stderr=log,
                                            start_new_session=True, env={**os.environ, **self.environment})
        self.pid = self.process.pid
        until = time.monotonic() + MOUNT_SECONDS_MAX
        while not os.path.ismount(self.path):
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"`{self.words}` did not mount: {self.log.read_text()[-500:]}")
            time.sleep(0.01)

    def again(self):
        """End it and mount it again over the same cache folder."""
        self.stop()
        self.start()

    def afresh(self):
        """End it and mount it again over an empty cache folder."""
        self.stop()
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        self.start()

    def allocations(self):
        """Since it was mounted, where they are counted."""
        return struct.unpack("=Q", self.count.read_bytes())[0]

    def on_disk_bytes(self, name):
        """Of ours: what is durable of a file."""
        words = [self.tool.program, "status", str(self.path / name), "--json"]
        return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)["on_disk_bytes"]

    def counter(self, name):
        """Of ours: one of the daemon's counters."""
        words = [self.tool.program, "status", str(self.path), "--json"]
        return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)["counters"][name]

    def stop(self):
        subprocess.run(["umount", self.path], capture_output=True)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            subprocess.run(["umount", "-l", self.path], capture_output=True)
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.cache, ignore_errors=True)


def all_tools(braidfs):
    """Ours twice: with one command line, but for where bytes are kept; and with an idea switched off, for its row only."""
    ours = "{program} mount {urls} {mount} --cache-dir {cache} --cache-size 8GiB"
    rclone = "{program} mount2 ':http,url=\"{url}\":' {mount} "
    return [
        Tool("braidfs, no cache", braidfs, "{program} mount {urls} {mount} --cache-dir none", False),
        Tool("braidfs", braidfs, ours, True),
        Tool("rclone mount2, no cache", "rclone", rclone + f"{RCLONE} {RCLONE_OFF}", False, ("version",)),
        Tool("rclone mount2, full cache", "rclone", rclone + f"{RCLONE} {RCLONE_FULL}", True, ("version",)),
        Tool("httpdirfs, no cache", "httpdirfs", "{program} -f --no-range-check {url} {mount}", False),
        Tool("httpdirfs, cache", "httpdirfs", "{program} -f --no-range-check --cache --cache-location {cache} {url} {mount}", True),
        Tool(ideas.HTTP2, braidfs, ours.replace("{urls}", "{file}"), True, variant=True),
        *[Tool(name, braidfs, f"{ours} {options}", True, variant=True) for name, options in ideas.ALL],
    ]
