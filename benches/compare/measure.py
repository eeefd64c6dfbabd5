"""Single measurements: what a load says, what a server's processes used, what an answer was."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Where the programs are; `run` fills it in.
PROGRAMS = {}
CIPHER = "TLS_AES_128_GCM_SHA256"


class Failed(Exception):
    """An error answer, a short body or a client that could not run: it counts against the exit code."""


def get(url):
    """One answer: its status, its headers in lower case, its body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def is_hit(headers):
    """Whether the server itself calls this answer a hit."""
    if "cache-status" in headers:  # the mirror, RFC 9211
        return "; hit" in headers["cache-status"]
    if "x-cache" in headers:  # nginx
        return headers["x-cache"] == "HIT"
    return len(headers.get("x-varnish", "").split()) == 2  # its own number and that of the request that stored it


def sha256(bytes_):
    return hashlib.sha256(bytes_).hexdigest()


# What a server's processes used


def cpu(server):
    """Seconds of processor time of all processes of a server, so far."""
    total = 0
    for pid in server.pids():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory(server, field="RssAnon"):
    """MiB of all processes of a server: RssAnon, VmRSS."""
    total = 0
    for pid in server.pids():
        try:
            found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total / 1024


def disk_read(server):
    """Bytes that a server's processes had read from the disk, not from the page cache; None where nobody may know."""
    try:
        texts = [Path(f"/proc/{pid}/io").read_text() for pid in server.pids()]
    except OSError:
        return None
    return sum(int(re.search(r"^read_bytes: (\d+)", text, re.MULTILINE)[1]) for text in texts)


# Loads


@contextlib.contextmanager
def started(command, **more):
    """A client that never outlives what it is used for, whatever happens meanwhile."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    try:
        yield process
    finally:
        process.kill()  # nothing where it has ended
        process.wait()


def wrk_command(url, connections, seconds, script=None, threads=2):
    more = ["-s", str(script)] if script else []
    return ["wrk", f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", *more, url]


def read_wrk(text, url):
    """What wrk printed: requests, seconds, requests/s, p99. Any error in it is a failure."""
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    if not (done and rate and late) or not int(done[1]):
        raise Failed(f"wrk {url}: {text.strip()[-500:]}")
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    # A timeout is slowness, which the percentiles tell; everything else is an error.
    if wrong or (sockets and any(int(count) for count in sockets.groups()[:3])):
        raise Failed(f"wrk {url}: {(wrong or sockets)[0]}")
    scale = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}
    return {"requests": int(done[1]), "rate": float(rate[1]), "p99_ms": float(late[1]) * scale[late[2]]}


def wrk(url, connections, seconds, script=None, threads=2):
    ran = subprocess.run(wrk_command(url, connections, seconds, script, threads), capture_output=True, text=True)
    return read_wrk(ran.stdout + ran.stderr, url)


def load_command(url, **options):
    command = [str(PROGRAMS["load"]), "--json"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return [*command, url]


def read_load(text, url):
    try:
        told = json.loads(text)
    except ValueError:
        raise Failed(f"load {url}: {text.strip()[-500:]}") from None
    if told["errors"] or not told["bytes"]:
        raise Failed(f"load {url}: {told['errors']} errors, {told['bytes']} bytes; first: {told['first_error']}")
    return told


def load(url, **options):
    ran = subprocess.run(load_command(url, **options), capture_output=True, text=True)
    return read_load(ran.stdout or ran.stderr, url)


def curl_command(ca):
    return ["curl", "-sS", "--http1.1", "--tlsv1.3", "--tls13-ciphers", CIPHER, "--cacert", str(ca)]


def curl(url, ca):
    """One body over TLS 1.3."""
    ran = subprocess.run([*curl_command(ca), "-f", url], capture_output=True)
    if ran.returncode:
        raise Failed(f"curl {url}: {ran.stderr.decode(errors='replace').strip()}")
    return ran.stdout


def curls(url, processes, each, ca):
    """Bytes fetched over TLS 1.3 by several curls, each keeping its connection, and the seconds it took."""
    fetch = f'url = "{url}"\noutput = "{os.devnull}"\n' * each
    command = [*curl_command(ca), "-w", "%{http_code} %{size_download}\\n", "-K", "-"]
    begun = time.monotonic()
    total = 0
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(started(command, stdin=subprocess.PIPE)) for _ in range(processes)]
        for process in running:
            process.stdin.write(fetch)
            process.stdin.close()
            process.stdin = None
        for process in running:
            said, errors = process.communicate()
            answers = [line.split() for line in said.splitlines()]
            if process.returncode or [status for status, _ in answers] != ["200"] * each:
                raise Failed(f"curl {url}: {errors.strip()} {said[:200]}")
            total += sum(int(size) for _, size in answers)
    return {"bytes": total, "seconds": time.monotonic() - begun}


def say(text):
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)
