#!/usr/bin/env python3
"""The page of a mount in a real browser: what it shows is so, what it does is done, and nothing in it breaks.

    tests/web/page.py PROGRAM FOLDER

Mounts two mirrors of its own at FOLDER/mnt, reads, and leaves its screenshots in FOLDER.
"""
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import browser
from mirror import Mirror

HOSTILE = "<img src=x onerror=document.title='broken'>.bin"
FILES = {HOSTILE: 4 << 30, "folder/b.bin": 5 << 20, "folder/c.bin": 300_000}
PHONE = (360, 740)
DESK = (1280, 800)


class Reader(threading.Thread):
    """Reads a file in order until it is told to end."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.ended, self.error = path, threading.Event(), None

    def run(self):
        try:
            with open(self.path, "rb", buffering=0) as file:
                while not self.ended.is_set() and file.read(256 << 10):
                    pass
        except OSError as error:
            self.error = error


def row(mirror):
    return f"document.querySelector('#mirrors tr[data-key=\"{mirror.url}\"]')"


def checks(tab, url, folder, mirrors):
    tab.size(*DESK)
    tab.open(url.split("#")[0])
    assert "needs the token" in tab.until("the notice", "!document.getElementById('notice').hidden && document.getElementById('notice').innerText")
    tab.open("about:blank")
    tab.open(url)
    tab.until("what the mount says", "!document.getElementById('main').hidden")
    assert tab.js("location.hash") == "", "the token is still in the address bar"
    tab.until("rates", "seen.rates.length > 5 && seen.rates.some((one) => one.read > 0)")
    for mirror in mirrors:
        tab.until("both mirrors in use", f"{row(mirror)}.dataset.state === 'closed' && Number({row(mirror)}.dataset.fetched) > 2e6")
    a_strangers_name(tab)
    shares(tab, mirrors)
    prefetched(tab)
    tab.shoot(folder / "desk.png", whole=True)
    killed_and_back(tab, mirrors[1], folder)
    hidden(tab)
    tab.size(*DESK, "dark")
    tab.js("document.querySelector('#decisions summary').click()")
    time.sleep(1.5)
    tab.shoot(folder / "desk-dark.png", whole=True)
    for scheme in ["light", "dark"]:
        tab.size(*PHONE, scheme)
        time.sleep(1.5)
        wide = tab.js("document.documentElement.scrollWidth")
        assert wide <= PHONE[0], f"{wide} pixels wide on a phone"
        tab.shoot(folder / f"phone-{scheme}.png", whole=True)
    assert not tab.errors, tab.errors


def a_strangers_name(tab):
    names = tab.until("the file that is read", "Array.from(document.querySelectorAll('#files tr'), (row) => row.firstChild.textContent)")
    assert names == [HOSTILE], names
    assert tab.js("document.images.length") == 0, "a name became an element"
    assert tab.js("document.title").endswith("– braidfs"), tab.js("document.title")


def shares(tab, mirrors):
    """What the page says is what was sent, but for what was on its way between two looks."""
    def close_enough():
        before = [mirror.sent_bytes for mirror in mirrors]
        told = tab.js("Array.from(document.querySelectorAll('#mirrors tr'), (row) => Number(row.dataset.fetched))")
        after = [mirror.sent_bytes for mirror in mirrors]
        slack = [2 * mirror.bytes_per_second + (1 << 20) for mirror in mirrors]
        return told, before, after, all(b - s <= t <= a for b, t, a, s in zip(before, told, after, slack))
    told, before, after, good = close_enough()
    assert good, f"told {told}, sent {before} to {after}"
    parts = tab.js("Array.from(document.querySelectorAll('#legend li'), (one) => parseFloat(/([0-9.]+)\\s%$/.exec(one.innerText)[1]))")
    assert len(parts) == len(mirrors) and abs(sum(parts) - 100) < 0.2 and min(parts) > 1, parts
    print(f"told {told}, sent {before}; shares {parts} %")


def prefetched(tab):
    tab.click("document.getElementById('path')")
    tab.write("folder")
    tab.click("document.querySelector('#order button[value=prefetch]')")
    tab.until("the job", "document.getElementById('said').innerText.includes('fetches it')")
    tab.until("its end", "document.querySelector('#jobs tr')?.dataset.state === 'done'")
    said = tab.js("document.querySelector('#jobs tr').innerText")
    assert "2 of 2 files" in said and "folder" in said, said
    tab.click("document.querySelector('#order button[value=pin]')")
    tab.until("the pin", "document.getElementById('pins').innerText.includes('folder')")
    tab.click("document.querySelector('#order button[value=unpin]')")
    tab.until("no pin", "document.getElementById('pins').innerText === 'Nothing is pinned.'")


def killed_and_back(tab, mirror, folder):
    mirror.kill()
    tab.until("the mirror that is down", f"{row(mirror)}.dataset.state === 'open' && {row(mirror)}.innerText.includes('down')")
    tab.shoot(folder / "down.png", whole=True)
    mirror.start()
    tab.until("its return", f"{row(mirror)}.dataset.state === 'closed'")


def hidden(tab):
    """Nobody looks, nobody asks."""
    def hide(so):
        tab.js(f"Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {so} }})")
        tab.js("document.dispatchEvent(new Event('visibilitychange'))")
    hide("true")
    # One look may be under way.
    time.sleep(1.5)
    before = tab.requests
    time.sleep(3)
    assert tab.requests == before, f"{tab.requests - before} requests of a hidden page"
    hide("false")
    tab.until("another look", f"seen.rates.at(-1).at > {tab.js('seen.rates.at(-1).at')}")


def main(program, folder):
    folder.mkdir(parents=True, exist_ok=True)
    mountpoint = folder / "mnt"
    mountpoint.mkdir(exist_ok=True)
    mirrors = [Mirror(FILES, 6 << 20), Mirror(FILES, 4 << 20)]
    words = [program, "mount", *(mirror.url for mirror in mirrors), mountpoint, "--cache-dir", folder / "cache",
             "--cache-size", "256MiB", "--memory", "32MiB", "--web", "127.0.0.1:0"]
    with open(folder / "log", "w") as log:
        daemon = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log)
    tab = reader = None
    try:
        end = time.monotonic() + browser.PATIENCE_S
        while not os.path.ismount(mountpoint):
            assert daemon.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.1)
        url = subprocess.run([program, "web", mountpoint], check=True, text=True, capture_output=True).stdout.strip()
        reader = Reader(mountpoint / HOSTILE)
        reader.start()
        tab = browser.Browser(folder / "profile")
        checks(tab, url, folder, mirrors)
        assert reader.error is None and reader.is_alive(), reader.error
    finally:
        if tab:
            tab.close()
        if reader:
            reader.ended.set()
            reader.join(20)
        daemon.terminate()
        daemon.wait(30)
    print("the page is good; screenshots are in", folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if not browser.program():
        sys.exit("no chromium here: install one, e.g. apt-get install chromium")
    main(sys.argv[1], Path(sys.argv[2]))
