"""Single measurements: the result of a load, the resources of a server's processes, a single response."""

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

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Paths of the programs; set by `run`.
PROGRAMS = {}
CIPHER = "TLS_AES_128_GCM_SHA256"


class Failed(Exception):
    """An error response, a truncated body or a client that could not run. Makes the exit code 1."""


def get(url, fields=None):
    """Fetch a URL with these header fields; return status, header fields with names in lower case, and body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
    try:
        connection.request("GET", parts.path, headers=fields or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def is_hit(headers):
    """True if the header fields mark the response as a hit."""
    if "cache-status" in headers:  # the mirror, RFC 9211
        return "; hit" in headers["cache-status"]
    if "x-cache" in headers:  # nginx
        return headers["x-cache"] == "HIT"
    return len(headers.get("x-varnish", "").split()) == 2  # the ids of this request and of the one that stored the object


def sha256(bytes_):
    return hashlib.sha256(bytes_).hexdigest()


# Resources of a server's processes


def cpu(server):
    """CPU time of all processes of a server so far, in seconds."""
    total = 0
    for pid in server.pids():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_SECOND


def memory(server, field="RssAnon"):
    """Memory of all processes of a server in MiB; field is RssAnon or VmRSS."""
    total = 0
    for pid in server.pids():
        try:
            found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        except OSError:
            continue
        total += int(found[1]) if found else 0
    return total / 1024


def disk_read(server):
    """Bytes that a server's processes have read from the disk, without the page cache; None if not permitted."""
    try:
        texts = [Path(f"/proc/{pid}/io").read_text() for pid in server.pids()]
    except OSError:
        return None
    return sum(int(re.search(r"^read_bytes: (\d+)", text, re.MULTILINE)[1]) for text in texts)


# Loads


@contextlib.contextmanager
def started(command, **more):
    """Context manager: starts a client and kills it on exit."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    try:
        yield process
    finally:
        process.kill()  # no effect if it has ended
        process.wait()


def wrk_command(url, connections, seconds, script=None, threads=2, field=None):
    more = ["-s", str(script)] if script else []
    more += ["-H", field] if field else []
    return ["wrk", f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", *more, url]


def read_wrk(text, url):
    """Parse the output of wrk: requests, requests/s, p99. Raise Failed for any reported error."""
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    if not (done and rate and late) or not int(done[1]):
        raise Failed(f"wrk {url}: {text.strip()[-500:]}")
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    # A time-out is part of the latency percentiles; everything else is an error.
    if wrong or (sockets and any(int(count) for count in sockets.groups()[:3])):
        raise Failed(f"wrk {url}: {(wrong or sockets)[0]}")
    scale = {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}
    return {"requests": int(done[1]), "rate": float(rate[1]), "p99_ms": float(late[1]) * scale[late[2]]}


def wrk(url, connections, seconds, script=None, threads=2, field=None):
    ran = subprocess.run(wrk_command(url, connections, seconds, script, threads, field), capture_output=True, text=True)
    return read_wrk(ran.stdout + ran.stderr, url)


def load_command(url, **options):
    command = [str(PROGRAMS["load"]), "--json"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return [*command, url]


def read_load(text, url):
    try:
        summary = json.loads(text)
    except ValueError:
        raise Failed(f"load {url}: {text.strip()[-500:]}") from None
    if summary["errors"] or not summary["bytes"]:
        raise Failed(f"load {url}: {summary['errors']} errors, {summary['bytes']} bytes; first: {summary['first_error']}")
    return summary


def load(url, **options):
    ran = subprocess.run(load_command(url, **options), capture_output=True, text=True)
    return read_load(ran.stdout or ran.stderr, url)


def curl_command(ca):
    return ["curl", "-sS", "--http1.1", "--tlsv1.3", "--tls13-ciphers", CIPHER, "--cacert", str(ca)]


def curl(url, ca):
    """Fetch one body over TLS 1.3."""
    ran = subprocess.run([*curl_command(ca), "-f", url], capture_output=True)
    if ran.returncode:
        raise Failed(f"curl {url}: {ran.stderr.decode(errors='replace').strip()}")
    return ran.stdout


def curls(url, processes, each, ca):
    """Fetch a URL over TLS 1.3 with several curl processes, one connection each; return bytes and seconds."""
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
            output, errors = process.communicate()
            responses = [line.split() for line in output.splitlines()]
            if process.returncode or [status for status, _ in responses] != ["200"] * each:
                raise Failed(f"curl {url}: {errors.strip()} {output[:200]}")
            total += sum(int(size) for _, size in responses)
    return {"bytes": total, "seconds": time.monotonic() - begun}


def say(text):
    """Print progress to standard error; the table goes to standard output."""
    print(text, file=sys.stderr, flush=True)
