"""A mirror on loopback that counts the bytes that it sends, sends them slowly, and can be killed and started again."""
import html
import random
import threading
import time
import urllib.parse
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = random.Random(7).randbytes(1 << 20)
PIECE = 64 << 10
MODIFIED = formatdate(1_700_000_000, usegmt=True)


def content(start, length):
    """Bytes of any file: a block over and over."""
    at, parts = start, []
    while at < start + length:
        part = BLOCK[at % len(BLOCK):][:start + length - at]
        parts.append(part)
        at += len(part)
    return b"".join(parts)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = urllib.parse.unquote(self.path).lstrip("/")
        files = self.server.files
        if path in files:
            return self.send_file(path, files[path], with_body)
        inside = sorted({name[len(path):].split("/")[0] + ("/" if "/" in name[len(path):] else "")
                         for name in files if name.startswith(path)})
        if not inside or (path and not path.endswith("/")):
            return self.send_error(404)
        links = "".join(f'<li><a href="{urllib.parse.quote(name)}">{html.escape(name)}</a></li>\n' for name in inside)
        body = f"<!DOCTYPE HTML><html><head><title>Directory listing for /</title></head><body><ul>\n{links}</ul></body></html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def send_file(self, path, size, with_body):
        wanted = self.headers.get("Range")
        first, last = 0, size - 1
        if wanted:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", MODIFIED)
        self.send_header("ETag", f'"{size:x}"')
        self.send_header("Content-Length", str(last - first + 1))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        while with_body and first <= last:
            piece = content(first, min(PIECE, last - first + 1))
            self.server.wait_for_turn(len(piece))
            self.wfile.write(piece)
            with self.server.lock:
                self.server.mirror.sent_bytes += len(piece)
            first += len(piece)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, mirror, address):
        super().__init__(address, Handler)
        self.mirror, self.files, self.lock, self.free_at = mirror, mirror.files, threading.Lock(), 0.0
        self.open = set()

    def get_request(self):
        request = super().get_request()
        self.open.add(request[0])
        return request

    def shutdown_request(self, request):
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_):
        """Who broke off has its reasons."""

    def wait_for_turn(self, count):
        """All connections together have one rate."""
        with self.lock:
            now = time.monotonic()
            self.free_at = max(self.free_at, now) + count / self.mirror.bytes_per_second
            pause = self.free_at - now
        time.sleep(pause)


class Mirror:
    """`files`: sizes by name."""

    def __init__(self, files, bytes_per_second):
        self.files, self.bytes_per_second, self.sent_bytes, self.port = files, bytes_per_second, 0, 0
        self.start()
        self.url = f"http://127.0.0.1:{self.port}/"

    def start(self):
        self.server = Server(self, ("127.0.0.1", self.port))
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def kill(self):
        """Its port refuses, and what was under way breaks off."""
        self.server.shutdown()
        self.server.socket.close()
        for connection in list(self.server.open):
            try:
                connection.shutdown(2)
            except OSError:
                pass
