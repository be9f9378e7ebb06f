"""Chromium without a window, by its debugging protocol over a pipe: messages of JSON with a NUL after each."""
import base64
import itertools
import json
import os
import shutil
import subprocess
import threading
import time

PATIENCE_S = 60


def program():
    """Where it is; None where it is not."""
    return next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


class Browser:
    """One tab. `errors`: what its console said that it should not, and what broke in its scripts."""

    def __init__(self, folder):
        to_it, own_write = os.pipe()
        own_read, from_it = os.pipe()
        options = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-gpu",
                   "--hide-scrollbars", "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        # By the numbers 3 and 4 it finds the pipe.
        shell = f'exec "$0" "$@" 3<&{to_it} 4>&{from_it}'
        self.process = subprocess.Popen(["bash", "-c", shell, program(), *options, "about:blank"], pass_fds=[to_it, from_it],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_it)
        os.close(from_it)
        self.write_to, self.numbers, self.errors, self.requests = own_write, itertools.count(1), [], 0
        self.answers, self.arrived = {}, threading.Condition()
        threading.Thread(target=self.listen, args=(os.fdopen(own_read, "rb"),), daemon=True).start()
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def listen(self, pipe):
        rest = b""
        while more := pipe.read1(1 << 16):
            *messages, rest = (rest + more).split(b"\0")
            for message in messages:
                self.hear(json.loads(message))

    def hear(self, message):
        method, about = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"].get("exception", {}).get("description", str(about)))
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.errors.append(str(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(f'{about["entry"]["text"]} {about["entry"].get("url", "")}')
        elif method == "Network.requestWillBeSent":
            self.requests += 1
        with self.arrived:
            if "id" in message:
                self.answers[message["id"]] = message
            self.arrived.notify_all()

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_to, json.dumps(message).encode() + b"\0")
        with self.arrived:
            assert self.arrived.wait_for(lambda: number in self.answers, PATIENCE_S), f"no answer to {method}"
            answer = self.answers.pop(number)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def js(self, expression):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer}"
        return answer["result"].get("value")

    def until(self, what, expression):
        """Wait until it is true in the page."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.js(expression)):
            assert time.monotonic() < end, f"{what} did not come: {self.js('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until("the page", "document.readyState === 'complete'")

    def size(self, width, height, scheme="light"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def shoot(self, path, whole=False):
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def click(self, expression):
        """As with a mouse, at the middle of an element."""
        x, y = self.js(f"(() => {{ const one = {expression}; one.scrollIntoView({{block: 'center'}}); "
                       "const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()")
        for kind in ["mousePressed", "mouseReleased"]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, text):
        self.call("Input.insertText", text=text)

    def close(self):
        session, self.session = self.session, None
        try:
            if session:
                self.call("Browser.close")
            self.process.wait(10)
        except (AssertionError, subprocess.TimeoutExpired, OSError):
            self.process.kill()
            self.process.wait()
