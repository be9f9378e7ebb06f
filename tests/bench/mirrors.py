"""nginx mirrors in network namespaces of their own, behind links of a given rate and round trip.

Root only. What is made here is taken away by `close`, by process number and by name.
"""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Names of namespaces and devices begin so; a number from 1 on follows.
PREFIX = "bfb"
CONFIGURATION = """
worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; daemon on; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  log_format counted '$request_method $status $body_bytes_sent "$http_range" $request_uri $connection $ssl_session_reused';
  access_log {folder}/access.log counted buffer=64k flush=1s;
  sendfile on; tcp_nopush on; keepalive_requests {requests}; default_type application/octet-stream;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen {address}; root {root}; autoindex on; {more} }}
}}
"""


def sh(command, check=True):
    """Run a shell command; its output, or an error that shows what it said."""
    done = subprocess.run(command, shell=True, text=True, capture_output=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"`{command}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def make_certificate(scratch, address):
    """A key and a certificate for an address, which programs believe by SSL_CERT_FILE. Its folder."""
    folder = scratch / "tls"
    folder.mkdir(exist_ok=True)
    sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={address} "
       f"-addext subjectAltName=IP:{address} -addext basicConstraints=critical,CA:FALSE -keyout {folder}/key.pem -out {folder}/cert.pem")
    return folder


class Mirror:
    """One nginx. `tls`: over TLS, with a certificate of our own. `http2`: it offers HTTP/2 there. `requests`: so many a connection. `congestion`: by which of Linux's ways it sends; None: the machine's own. `rate_mb_s`: of its link, in MB/s, of which payload is 0.967 at most; None: as fast as the loopback.
    `round_trip_ms`: true latency, by a queue between two TUN devices (kernels without netem have no other)."""

    def __init__(self, number, root, scratch, rate_mb_s=None, round_trip_ms=0, tls=None, http2=False, requests=100_000,
                 congestion=None):
        self.number, self.namespace = number, f"{PREFIX}{number}"
        self.folder = Path(scratch) / f"nginx{number}"
        self.line = None
        self._make_link(Path(scratch), round_trip_ms)
        if congestion:
            sh(f"ip netns exec {self.namespace} sysctl -qw net.ipv4.tcp_congestion_control={congestion}")
        self.rate_mb_s = None
        if rate_mb_s:
            self.shape(rate_mb_s)
        self._start(root, make_certificate(Path(scratch), self.address) if tls else None, http2, requests)

    def _make_link(self, scratch, round_trip_ms):
        ours, theirs, name = f"{PREFIX}v{self.number}", f"{PREFIX}w{self.number}", self.namespace
        self._remove()
        host, address = f"10.79.{self.number}.1", f"10.79.{self.number}.2"
        sh(f"ip netns add {name} && ip link add {ours} type veth peer name {theirs} && ip link set {theirs} netns {name}")
        sh(f"ip addr add {host}/24 dev {ours} && ip link set {ours} up")
        sh(f"ip -n {name} addr add {address}/24 dev {theirs} && ip -n {name} link set {theirs} up && ip -n {name} link set lo up")
        self.host, self.address, self.device = host, address, theirs
        if round_trip_ms:
            program = scratch / "delayline"
            if not program.exists():
                sh(f"cc -O2 -w -o {program} {HERE}/delayline.c -lpthread")
            self.host, self.address = f"10.80.{self.number}.1", f"10.80.{self.number}.2"
            self.device = f"{PREFIX}u{self.number}"
            words = [program, name, str(round_trip_ms / 2), f"{PREFIX}t{self.number}", f"{self.host}/30", self.device]
            self.line = subprocess.Popen([*map(str, words), f"{self.address}/30"], stdout=subprocess.PIPE)
            self.line.stdout.readline()

    def _start(self, root, tls, http2, requests):
        self.folder.mkdir(parents=True, exist_ok=True)
        address, more, scheme = f"{self.address}:80", "", "http"
        if tls:
            address, scheme = f"{self.address}:443 ssl{' http2' if http2 else ''}", "https"
            more = f"ssl_certificate {tls}/cert.pem; ssl_certificate_key {tls}/key.pem; ssl_session_cache shared:s:1m;"
        self.url = f"{scheme}://{self.address}"
        text = CONFIGURATION.format(folder=self.folder, root=root, address=address, more=more,
                                    requests=requests)
        (self.folder / "nginx.conf").write_text(text)
        sh(f"ip netns exec {self.namespace} nginx -c {self.folder}/nginx.conf -e {self.folder}/error.log")

    def shape(self, rate_mb_s):
        self.rate_mb_s = rate_mb_s
        rate = f"tbf rate {int(rate_mb_s * 8)}mbit burst 256kb latency 50ms"
        sh(f"ip netns exec {self.namespace} tc qdisc replace dev {self.device} root {rate}")

    def swallow(self, on=True):
        """A black hole: what it sends vanishes; no reset, and the link stays up."""
        verb = "replace" if on else "del"
        sh(f"ip -n {self.namespace} route {verb} blackhole {self.host}/32", check=on)

    def sent_bytes(self):
        """All that left it, headers of packets included."""
        counter = f"/sys/class/net/{self.device}/statistics/tx_bytes"
        return int(sh(f"ip netns exec {self.namespace} cat {counter}"))

    def body_bytes(self):
        """What it has sent in bodies, those of listings too."""
        return sum(int(line.split()[2]) for line in self.requests())

    def requests(self):
        """Lines of its log: method, status, body bytes, range, target, the connection's number, `r` where its TLS session was
        resumed."""
        time.sleep(1.2)
        return (self.folder / "access.log").read_text().splitlines()

    def _pids(self):
        main = int((self.folder / "pid").read_text())
        return [main, *map(int, sh(f"ps -o pid= --ppid {main}", check=False).split())]

    def _remove(self):
        sh(f"ip netns del {self.namespace}", check=False)
        sh(f"ip link del {PREFIX}v{self.number}", check=False)

    def close(self):
        try:
            for pid in self._pids():
                os.kill(pid, signal.SIGTERM)
        except (OSError, ValueError):
            pass
        if self.line:
            self.line.terminate()
            self.line.wait()
        self._remove()
        shutil.rmtree(self.folder, ignore_errors=True)
