"""What the proof plays on: three nodes, the bucket, the forge, each in its namespace."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
import xml.etree.ElementTree
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from clients import PORT, Failed, ask, await_
from network import MACHINES, Network, clock, inside

HERE = Path(__file__).resolve().parent
NODES = ["a", "b", "c"]
# The name that nodes are found by, where they are not listed.
NODES_NAME = "nodes.test"
NODE_PORT, BUCKET_PORT = 8470, 7480
FORGE = f"http://{MACHINES['forge']}:9001"
# What the forge is asked by this program, to know what is right, is no fetch.
REFERENCE = "the-proof-itself"
BIG_VERSIONS, BIG_BYTES = 15, 6 << 20
# The other forge has versions of the same names with a byte less.
# What the forge sends where it is slow: a big zip takes some 4 s.
SLOW_BITS = 12_000_000


@dataclass
class Package:
    """A version of a package, and the digest of its zip as the forge sends it."""

    name: str
    tag: str
    sha256: str

    @property
    def path(self):
        return f"/{self.name}/zipball/{self.tag}"


class Node:
    """A mirror: its files, and its process while it runs."""

    def __init__(self, scene, name):
        self.scene, self.name, self.address = scene, name, MACHINES[name]
        self.dir = scene.dir / name
        self.dir.mkdir()
        self.config = scene.dir / f"{name}.toml"
        self.process, self.starts, self.clock = None, 0, 0

    def _command(self, program, *arguments):
        return [*inside(self.name), program, *arguments, "--config", self.config, "--cache-dir", self.dir / "cache"]

    def _environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.dir), **clock(self.clock)}

    def begin(self, program=None, seconds_ahead=0):
        """Starts it; `ready` waits for the rest."""
        self.starts += 1
        self.clock = seconds_ahead
        self.log = self.scene.dir / f"{self.name}-{self.starts}.log"
        # It ends with this program, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", *self._command(program or self.scene.program, "serve")]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=self._environment()
            )

    def ready(self):
        await_(f"node {self.name}", lambda: "\nready" in self.said() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise Failed(f"node {self.name} does not start:\n{self.said()[-2000:]}")

    def start(self, program=None, seconds_ahead=0):
        self.begin(program, seconds_ahead)
        self.ready()

    def said(self):
        return self.log.read_text(errors="replace")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.is_running():
            self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends it as a service manager does."""
        self.process.terminate()
        code = self.process.wait(timeout=60)
        if code:
            raise Failed(f"node {self.name} ends with {code} after SIGTERM:\n{self.said()[-2000:]}")

    def run(self, *arguments, codes=(0,)):
        """Runs a command of the mirror's operator on this machine; returns its standard output."""
        done = subprocess.run(
            self._command(self.scene.program, *arguments), capture_output=True, text=True, env=self._environment()
        )
        if done.returncode not in codes:
            words = " ".join(map(str, arguments))
            raise Failed(f"{words} on node {self.name}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self):
        return json.loads(self.run("status", "--json", codes=(0, 1)))

    def stored(self):
        """The digest of each zip on its disk, by package and version."""
        rows = [json.loads(line) for line in self.run("cache", "ls", "--json", codes=(0, 1)).splitlines()]
        return {(row["package"], row["version"]): row["sha256"] for row in rows if "sha256" in row}

    def ask(self, path, **options):
        return ask(self.address, path, **options)


class Scene:
    def __init__(self, directory, mirror, forge, broken=None):
        self.dir, self.program, self.broken = Path(directory), mirror, broken
        self.network = Network()
        self.numbers = iter(range(1, 1 << 20))
        self.big_versions = iter(range(BIG_VERSIONS))
        self.released = {}
        self.running = []
        self.nodes = []
        try:
            self._start(forge)
        except BaseException:
            self.close()
            raise

    def _start(self, forge):
        gateway = [*inside("bucket"), "ip", "link", "set", "lo", "up"]
        subprocess.run(gateway, check=True)
        up = [HERE / "rgw", "up", self.dir / "rgw", str(BUCKET_PORT), MACHINES["bucket"]]
        bucket = subprocess.Popen([*inside("bucket"), *up], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.running.append(bucket)
        self.forge_log = self.dir / "forge.log"
        self.forge = self._start_forge(forge, "forge", 9001, BIG_BYTES, self.forge_log)
        self.other_forge = self._start_forge(forge, "other-forge", 9101, BIG_BYTES - 1, self.dir / "other-forge.log")
        self._certificates()
        (self.dir / "sealing").write_text(os.urandom(32).hex())
        (self.dir / "s3-key").write_text("testtest")
        self.nodes = [Node(self, name) for name in NODES]
        for node in self.nodes:
            node.config.write_text(self._configuration(node))
        if bucket.wait(timeout=120):
            raise Failed("the gateway does not start")
        # One after the other: the first one writes the tokens and keys of all.
        for node in self.nodes:
            node.start()
        self._make_tokens()
        self.stored = self.new_elsewhere(12)

    def is_alone(self, node):
        """True for a node without the bucket, in a scene that is broken so."""
        fault = self.broken.configure if self.broken else {}
        return "no-bucket" in fault or (node.name == "c" and "other-forge" in fault)

    def _make_tokens(self):
        """`tokens` has one by the address of the node; it is made on one node, and good on all over the bucket."""
        make = ["token", "create", "--name=ci", "--scope=read", "--scope=publish", "--scope=delete"]
        self.tokens = {}
        for node in self.nodes:
            is_shared = not self.is_alone(node) and self.tokens
            self.tokens[node.address] = self.tokens[self.nodes[0].address] if is_shared else node.run(*make).strip()
        known = lambda node: node.ask("/acme-secret/releases", token=self.tokens[node.address]).status != 401  # noqa: E731
        await_("the tokens to be known", lambda: all(map(known, self.nodes)))

    def _start_forge(self, program, name, port, size, log):
        command = [
            "setpriv", "--pdeathsig", "KILL", *inside("forge"), program, "--address", MACHINES["forge"], "--port", str(port),
            "--quiet", "--log", log, "--anonymous-limit", "1000000", "--big", "1000",
            "--versions", str(BIG_VERSIONS), "--size", str(size), "--write-config", self.dir / f"{name}.toml",
        ]
        out = self.dir / f"{name}.out"
        with open(out, "wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT)
        self.running.append(process)
        await_("the forge", lambda: "Ctrl-C" in out.read_text() or process.poll() is not None)
        if process.poll() is not None:
            raise Failed(f"the forge does not start:\n{out.read_text()}")
        return process

    def _certificates(self):
        """An authority of nodes, and a certificate for each; a day old, so that they are valid by every clock here."""
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.dir), **clock(-86400)}
        authority = ["-subj", "/CN=nodes", "-keyout", "ca.key", "-out", "ca.pem"]
        wanted = [[*make, *authority]]
        for name in NODES:
            names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{MACHINES[name]},DNS:{NODES_NAME}"]
            files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-CA", "ca.pem", "-CAkey", "ca.key"]
            wanted.append([*make, *names, "-addext", "basicConstraints=critical,CA:FALSE", *files])
        for command in wanted:
            done = subprocess.run(command, cwd=self.dir, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"openssl: {done.stderr}")

    def give_forge(self, node, other):
        """Starts a node again over the other forge, or over that of all."""
        node.stop()
        node.config.write_text(self._configuration(node, other))
        node.start()

    @contextlib.contextmanager
    def found_by_name(self):
        """No node is running, and those that are started find each other by their name in DNS."""
        for node in self.nodes:
            node.stop()
            node.config.write_text(self._configuration(node, is_listed=False))
        try:
            yield
        finally:
            for node in self.nodes:
                if node.is_running():
                    node.stop()
                node.config.write_text(self._configuration(node))

    def _configuration(self, node, other_forge=False, is_listed=True):
        fault = self.broken.configure if self.broken else {}
        other = other_forge or (node.name == "c" and "other-forge" in fault)
        text = f"""[server]
listen = ["{node.address}:{PORT}"]
[host]
names = ["acme-*"]
[access]
enabled = true
allow_plaintext = true
metrics = ["anonymous"]
[upstreams.hosted]
dir = "{node.dir}/hosted"
min_free = "1MiB"
"""
        if not self.is_alone(node):
            text += f"""[shared]
endpoint = "http://{MACHINES['bucket']}:{BUCKET_PORT}"
bucket = "srm"
access_key = "test"
secret_key_file = "{self.dir}/s3-key"
secret_file = "{self.dir}/sealing"
"""
            if "no-fleet" not in fault:
                nodes = [f"{name}=https://{MACHINES[name]}:{NODE_PORT}" for name in NODES]
                listed = f'node = "{node.name}"\nnodes = {json.dumps(nodes)}'
                found = f'node = "{node.address}"\ndiscover = "https://{NODES_NAME}:{NODE_PORT}"\nrefresh = "500ms"'
                text += f"""[fleet]
{listed if is_listed else found}
listen = ["{node.address}:{NODE_PORT}"]
cert_file = "{self.dir}/{node.name}.pem"
key_file = "{self.dir}/{node.name}.key"
ca_file = "{self.dir}/ca.pem"
"""
        text += (self.dir / ("other-forge.toml" if other else "forge.toml")).read_text()
        return text + """
[[access.rules]]
packages = ["acme-secret*"]
read = ["token:*"]
publish = ["token:*"]
[[access.rules]]
packages = ["*"]
anonymous = true
publish = ["token:*"]
delete = ["token:*"]
"""

    # The forge.

    def _reference(self, name, tag):
        request = urllib.request.Request(f"{FORGE}/repos/{name}/zipball/{tag}", headers={"User-Agent": REFERENCE})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return Package(name, tag, hashlib.sha256(answer.read()).hexdigest())

    def new(self, count):
        """Packages that no node has been asked for, of 200 KB each."""
        names = [f"load/p{next(self.numbers)}" for _ in range(count)]
        last = f"released {names[-1]} v1.0.0\n"
        for process, out in ((self.forge, "forge.out"), (self.other_forge, "other-forge.out")):
            process.stdin.write("".join(f"release {name} v1.0.0\n" for name in names).encode())
            process.stdin.flush()
            await_("the forge's releases", lambda out=out: last in (self.dir / out).read_text())
        return [self._reference(name, "v1.0.0") for name in names]

    def new_elsewhere(self, count):
        """Packages that one node has, each another one, and the bucket."""
        packages = self.new(count)
        for number, package in enumerate(packages):
            self.must_have(self.nodes[number % 3], package)
        self.must_settle()
        return packages

    def big(self):
        """A version that no node has been asked for, of 6 MiB."""
        return self._reference("bench/pkg", f"v1.0.{next(self.big_versions)}")

    def fetches(self, package=None):
        """How many zips the forge was asked for."""
        found = 0
        for line in self.forge_log.read_text().splitlines():
            row = json.loads(line)
            path = row["path"].split("?")[0]
            is_it = package is None or (path.startswith(f"/{package.name}/") and path.endswith(f"/{package.tag}"))
            found += row["host"] == "Archive" and is_it and ["user-agent", REFERENCE] not in row["headers"]
        return found

    @contextlib.contextmanager
    def slow_forge(self):
        self.network.rate(SLOW_BITS)
        try:
            yield
        finally:
            self.network.rate(None)

    # The bucket.

    def stop_gateway(self):
        """It accepts connections and answers nothing."""
        os.kill(self._gateway(), signal.SIGSTOP)

    def continue_gateway(self):
        os.kill(self._gateway(), signal.SIGCONT)

    def _gateway(self):
        return int((self.dir / "rgw/rgw.pid").read_text())

    def _read_bucket(self, name, query=""):
        date = formatdate(usegmt=True)
        signed = hmac.new(b"testtest", f"GET\n\n\n{date}\n/srm/{name}".encode(), hashlib.sha1).digest()
        headers = {"Date": date, "Authorization": f"AWS test:{base64.b64encode(signed).decode()}"}
        url = f"http://{MACHINES['bucket']}:{BUCKET_PORT}/srm/{name}{query}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.read()

    def pins(self):
        """The pinned digest of every version of `load/…`, by package and version."""
        listed = xml.etree.ElementTree.fromstring(self._read_bucket("", "?prefix=pins/github/load/&max-keys=1000"))
        names = [element.text for element in listed.iter() if element.tag.endswith("}Key")]
        if len(names) == 1000:
            raise Failed("more pins than one page of a list has")
        pins = {}
        for name in names:
            owner, repo, _, tag = name.removeprefix("pins/github/").removesuffix(".json").split("/")
            pins[f"{owner}/{repo}", tag] = json.loads(self._read_bucket(name))["digest"]
        return pins

    # All nodes.

    def recover(self):
        """Whatever the promise before has left behind: every node runs, nothing is cut."""
        self.network.mend()
        self.network.rate(None)
        self.continue_gateway()
        for node in self.nodes:
            if node.clock and node.is_running():
                node.stop()
            if not node.is_running():
                node.start()

    def must_have(self, node, package):
        if wrong := node.ask(package.path).says(package):
            raise Failed(f"node {node.name}{package.path}: {wrong}")

    def must_settle(self, seconds=90):
        """Waits until nothing waits for its upload, and the bucket is asked by all nodes; returns how long that took."""
        began = time.monotonic()

        def is_settled():
            states = [node.status().get("shared") or {} for node in self.nodes]
            self.waiting = [state.get("queued", 0) for state in states]
            return not any(self.waiting) and not any(state.get("paused_seconds") for state in states)

        try:
            await_("empty upload queues and a bucket that is asked", is_settled, seconds)
        except Failed as why:
            raise Failed(f"{why}: {self.waiting}") from None
        return time.monotonic() - began

    def must_agree(self, packages):
        """Every node serves what the forge has, every node's copy is what the bucket has pinned."""
        for node in self.nodes:
            for package in packages:
                self.must_have(node, package)
        self.must_settle()
        pins = self.pins()
        for package in packages:
            if pins.get((package.name, package.tag)) != package.sha256:
                raise Failed(f"the pin of {package.path} is {pins.get((package.name, package.tag))}, not {package.sha256}")
        for node in self.nodes:
            copies = {key: digest for key, digest in node.stored().items() if key in pins}
            if len(copies) < len(packages):
                raise Failed(f"node {node.name} lists {len(copies)} zips of {len(packages)}")
            if other := [key for key, digest in copies.items() if digest != pins[key]]:
                raise Failed(f"node {node.name} has other content than is pinned: {other}")
        return len(pins)

    def close(self):
        for node in self.nodes:
            if node.process:
                node.kill()
        with contextlib.suppress(OSError, ValueError):
            self.continue_gateway()
        for process in self.running:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if (self.dir / "rgw").exists():
            subprocess.run([HERE / "rgw", "down", self.dir / "rgw"], check=False)
        self.network.close()
