"""The environment of the comparison: a network namespace, and the servers as child processes that are always ended."""

import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import config

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "SRM_COMPARE_NAMESPACE"
MIB = 1 << 20
# The zips of the origin: total bytes and number of files.
PACKAGES = {"z1": (MIB, 1), "z10": (10 * MIB, 1), "z100": (100 * MIB, 1), "z500": (10 * MIB, 500), "json": (4096, 1)}
JSON = "/bench/json/releases/latest"
# Lists of 1,000 releases: of about 2 MB, and of about 10 MB.
LIST, LONG_LIST = "/bench/list/releases", "/bench/longlist/releases"


class Broken(Exception):
    """A server does not work as required, so no figure is valid."""


def zip_path(package, tag="v1.0.0"):
    return f"/bench/{package}/zipball/{tag}"


def enter_namespace():
    """Restart this program in a network namespace of its own; return False if that is not permitted."""
    if INSIDE in os.environ:
        return True
    for flags in ["-n"], ["-r", "-n"]:
        command = ["unshare", *flags]
        if not subprocess.run([*command, "true"], capture_output=True).returncode:
            os.environ[INSIDE] = " ".join(flags)
            os.execvp("unshare", [*command, sys.executable, *sys.argv])
    return False


def prepare_namespace():
    """Bring loopback up and select reno: pacing as in BBR reverses the ranking of bulk transfers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up_and_running = struct.pack("16sH14s", b"lo", 0x41, b"")
        fcntl.ioctl(any_socket, 0x8914, up_and_running)  # SIOCSIFFLAGS
    setting = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    try:
        setting.write_text("reno\n")
    except OSError as error:
        raise Broken(f"{setting}: {error}") from error
    if (found := setting.read_text().strip()) != "reno":
        raise Broken(f"congestion control is {found}, not reno")
    return found


def descendants(pid):
    """The process and all of its descendants: nginx's workers, Varnish's child."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                pass  # it has ended
    family, grown = {pid}, True
    while grown:
        grown = {child for child, parent in parents.items() if parent in family} - family
        family |= grown
    return sorted(family)


class Server:
    """One running server and its URL."""

    def __init__(self, name, process, port):
        self.name, self.process, self.port = name, process, port
        self.url = f"http://127.0.0.1:{port}"

    def pids(self):
        return descendants(self.process.pid)

    def alive(self):
        return self.process.poll() is None


class Stage:
    """All running programs, with their files in one directory that the caller deletes."""

    def __init__(self, directory, programs):
        self.dir, self.programs, self.servers, self.all = Path(directory), programs, {}, []

    def spawn(self, name, command):
        """Start a program, which `close` ends; its output goes to files with its name."""
        # Two workers, as nginx has, unless the caller sets another number. The mirror reads nothing else from the environment.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SRM_MIRROR")}
        environment.setdefault("TOKIO_WORKER_THREADS", "2")
        output = open(self.dir / f"{name}.out", "wb")
        errors = open(self.dir / f"{name}.err", "wb")
        # Ctrl-C would reach all processes of the terminal's group at once; `close` ends them in order, by id.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True, env=environment)
        output.close(), errors.close()
        self.all.append(process)
        return process

    def said(self, name):
        texts = [(self.dir / f"{name}.{end}").read_text(errors="replace") for end in ("out", "err")]
        return "\n".join(texts).strip()[-1500:]

    def await_port(self, name, process, port, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Broken(f"{name} does not answer on port {port}: {self.said(name)}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)

    def end(self, process):
        """End one program and its descendants."""
        if process.poll() is None:
            family = descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in family:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                process.wait()
        if process in self.all:
            self.all.remove(process)

    def close(self):
        for process in reversed(list(self.all)):
            self.end(process)

    # The servers

    def add(self, name, process, port):
        self.await_port(name, process, port)
        self.servers[name] = Server(name, process, port)
        return self.servers[name]

    def nginx(self, name, text, port):
        home = self.dir / name
        (home / "temp").mkdir(parents=True, exist_ok=True)
        (home / "nginx.conf").write_text(text)
        command = ["nginx", "-p", str(home), "-c", "nginx.conf", "-e", "stderr"]
        self.add(name, self.spawn(name, command), port)

    def start_origin(self):
        """Start a forge with GitHub's routes that serves static files, fast enough to be no bottleneck."""
        (self.dir / "files").mkdir()
        for package, (size, files) in PACKAGES.items():
            self.publish(package, "v1.0.0", size, files)
        self.publish_list("list", 1000, 30)
        self.publish_list("longlist", 1000, 165)
        self.nginx("origin", config.origin(self.dir / "files", self.dir / "fetched"), config.ORIGIN)

    def publish(self, package, tag, size, files=1):
        """Create a release whose zip has incompressible files below one top folder, as forges pack it."""
        archive = self.dir / "files/archive" / package / f"{tag}.zip"
        archive.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
            for number in range(files):
                packed.writestr(f"bench-{package}-0000000/src/part{number:04}.bin", os.urandom(size // files))
        api = self.dir / "files/api/repos/bench" / package
        (api / "releases").mkdir(parents=True, exist_ok=True)
        release = config.release(package, tag)
        (api / "releases/latest.json").write_text(json.dumps(release))
        (api / "releases.json").write_text(json.dumps([release]))
        (api.parent / f"{package}.json").write_text(json.dumps(config.repository(package)))
        return archive

    def publish_list(self, package, count, lines):
        """Create a package with so many releases and no zips; the notes of each have so many lines."""
        api = self.dir / "files/api/repos/bench" / package
        api.mkdir(parents=True, exist_ok=True)
        releases = [config.release(package, f"v1.0.{number}", lines) for number in reversed(range(count))]
        (api / "releases.json").write_text(json.dumps(releases))
        (api.parent / f"{package}.json").write_text(json.dumps(config.repository(package)))

    def fetched(self):
        """(begin, end, path) of each complete response of the origin, in seconds since 1970."""
        rows = [line.split() for line in (self.dir / "fetched").read_text().splitlines()]
        return [(float(end) - float(took), float(end), path) for end, took, path in rows]

    def start_nginx(self):
        cache, log = self.dir / "nginx-cache", f"{self.access_log('nginx-log')} combined buffer=64k flush=1s"
        self.nginx("nginx", config.nginx(cache, config.NGINX, "off", self.tls_files()), config.NGINX)
        cache = self.dir / "nginx-log-cache"
        self.nginx("nginx-log", config.nginx(cache, config.NGINX_LOG, log, self.tls_files()), config.NGINX_LOG)

    def access_log(self, name):
        """The access log of a logging server; the mirror logs to standard error."""
        return self.dir / {"nginx-log": "nginx-access.log", "mirror-log": "mirror-log.err"}[name]

    def start_varnish(self):
        vcl = self.dir / "varnish.vcl"
        vcl.write_text(config.VCL)
        command = ["varnishd", "-F", "-j", "none", "-n", self.dir / "varnish", "-f", vcl, "-a", f"127.0.0.1:{config.VARNISH}"]
        command += ["-s", "malloc,2g", "-p", "thread_pools=2", "-p", "thread_pool_min=200", "-T", "none"]
        self.add("varnish", self.spawn("varnish", command), config.VARNISH)

    def tls_files(self):
        """A certificate from `srm-mirror tls init`, used by nginx as well."""
        home = self.dir / "tls"
        if not home.exists():
            command = [self.programs["mirror"], "tls", "init", "--name", "localhost", "--dir", home]
            made = subprocess.run(command, capture_output=True, text=True)
            if made.returncode:
                raise Broken(f"tls init: {made.stderr}")
        return home / "localhost.pem", home / "localhost.key"

    def start_mirror(self, name="mirror", port=None, level="warn", cache=None, tls=None, wait=True):
        port = port or config.MIRROR
        settings = self.dir / f"{name}.toml"
        settings.write_text(config.mirror(cache or self.dir / f"{name}-cache", port, level, tls))
        process = self.spawn(name, [self.programs["mirror"], "serve", "--config", settings])
        if wait:
            return self.add(name, process, port)
        self.servers[name] = Server(name, process, port)
        return self.servers[name]

    def start_all(self):
        self.start_origin()
        self.start_mirror(tls=self.tls_files())
        self.start_mirror("mirror-log", config.MIRROR_LOG, "info")
        self.copy_document()
        self.start_nginx()
        self.start_varnish()

    def copy_document(self):
        """Let the origin of the other servers serve exactly the documents that the mirror sends."""
        from measure import get  # its only use in this module

        gzip = {"Accept-Encoding": "gzip"}
        for path, file, fields in (JSON, "document.json", {}), (LIST, "list.json.gz", gzip), (LONG_LIST, "longlist.json", {}):
            status, _, body = get(self.servers["mirror"].url + path, fields)
            if status != 200:
                raise Broken(f"the mirror answers {status} to {path}: {body[:300]!r}")
            (self.dir / "files" / file).write_bytes(body)

    def stop(self, name):
        self.end(self.servers.pop(name).process)

    def restart(self, name):
        """Restart a program with the same arguments and cache."""
        old = self.servers[name]
        self.stop(name)
        self.add(name, self.spawn(name, old.process.args), old.port)


def missing_programs():
    """The missing programs, as (program, Debian package)."""
    packages = {"nginx": "nginx-light", "varnishd": "varnish", "wrk": "wrk", "curl": "curl", "unshare": "util-linux"}
    return [(program, package) for program, package in packages.items() if not shutil.which(program)]
