"""What the tests play on: the scripted forge, the mirror, and clients that see nothing else of this machine."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from waiting import Failed, await_

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Clients' names lead here; a fault-injecting proxy stands here instead where there is one, and the mirror behind it.
FRONT, BEHIND = "127.0.86.1", "127.0.86.2"
# The same for the mirror without any configuration of names.
PLAIN_FRONT, PLAIN_BEHIND = "127.0.86.3", "127.0.86.4"
# The same for the mirror that serves nothing without a token, except to 2.x clients.
CLOSED_FRONT, CLOSED_BEHIND = "127.0.86.5", "127.0.86.6"
# The same for the mirror that packages are published on.
HOSTED_FRONT, HOSTED_BEHIND = "127.0.86.7", "127.0.86.8"
NAMES = ["api.devsapp.cn", "registry.devsapp.cn", "api.github.com", "github.com"]
# Every client that can sends this; the forge must never see it.
SECRET = "the-clients-own-secret"
SENT_BY_CLIENTS = {
    "sign_code", "nonce", "timestamp", "token", "cookie", "authorization", "traceid", "x-client-secret", "referer",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "range", "accept-language",
}


# The rules of the closed mirror. The 2.x client sends no credentials: what it runs has to be open.
ACCESS = """
[access]
enabled = true
[[access.rules]]
packages = ["official-2x:*"]
anonymous = true
[[access.rules]]
packages = ["demo/big"]
read = ["token:*", "cert:CN=anna,O=Acme", "group:corp:dev"]
[[access.rules]]
packages = ["*"]
read = ["*"]
"""


# What the tokens of the OpenID Connect providers are for.
AUDIENCE = "urn:srm-mirror"


# The rules of the mirror that packages are published on, and the names that belong to it.
HOSTING = """
[upstreams.hosted]
min_free = "1MiB"
[host]
names = ["acme-*"]
[access]
enabled = true
[[access.rules]]
packages = ["acme-*", "fc3"]
read = ["*"]
publish = ["token:publisher", "token:other"]
delete = ["token:publisher"]
[[access.rules]]
packages = ["*"]
read = ["*"]
"""


class Stage:
    def __init__(self, directory, mirror, forge, names, broken):
        self.dir, self.program, self.names, self.broken = Path(directory), mirror, names, broken
        self.running, self.proxies, self.homes = [], [], 0
        self.python = ROOT / "target/clients/bin/python"
        self.log_file = self.dir / "forge.log"
        self.ca = self.dir / "tls/ca.pem"
        self._forge(forge)
        self._mirror()
        self._plain_mirror()
        self._providers()
        self._closed_mirror()
        self._hosted_mirror()

    def _start(self, name, command, env=None, **options):
        out = open(self.dir / f"{name}.out", "wb")
        env = {"PATH": os.environ["PATH"], "HOME": str(self.dir), **(env or {})}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=self.dir, **options)
        self.running.append(process)
        return process

    def said(self, name):
        return (self.dir / f"{name}.out").read_text(errors="replace")

    def _forge(self, program):
        # Lengths are told at once, so that a first Range is not a matter of luck; requests an hour without end.
        command = [
            program, "--port", "0", "--log", self.log_file, "--anonymous-limit", "1000000", "--big", "8000000", "--gzip",
            "--write-config", self.dir / "upstreams.toml",
        ]
        self.forge = self._start("forge", command, stdin=subprocess.PIPE)
        await_("the forge", lambda: "Ctrl-C" in self.said("forge") or self.forge.poll() is not None)
        lines = [line.split(" ", 1)[1] for line in self.said("forge").splitlines() if line.startswith("export SRM")]
        self.forge_env = {key: value.strip("'") for key, value in (line.split("=", 1) for line in lines)}
        self.forge_url = self.forge_env["SRM_MIRROR__UPSTREAMS__GITHUB__API"]
        self.big_sha256 = self.said("forge").split("SHA-256 of demo/big v1.0.0: ")[1].split()[0]

    def _tls_init(self):
        named = [f"--name={name}" for name in NAMES]
        made = subprocess.run([self.program, "tls", "init", *named, "--dir", self.dir / "tls"], capture_output=True)
        if made.returncode:
            raise Failed(f"srm-mirror tls init: {made.stderr.decode()}")

    def _certificates(self):
        """The certificates of a mirror, as its configuration has them."""
        certificate = {"cert_file": f"{self.dir}/tls/{NAMES[0]}.pem", "key_file": f"{self.dir}/tls/{NAMES[0]}.key"}
        pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in certificate.items())
        return f"[{{ {pairs} }}]"

    def _mirror(self):
        self._tls_init()
        here = BEHIND if self.broken else FRONT
        listen = ["127.0.0.1:0", *([f"{here}:80"] if self.names else [])]
        (self.dir / "mirror.toml").write_text(
            f"""[server]
listen = {json.dumps(listen)}
[server.tls]
listen = {json.dumps([f"{here}:443"] if self.names else [])}
certificates = {self._certificates()}
[names]
default_owner = "devsapp"
[names.aliases]
"devsapp/core" = "Serverless-Devs/core"
start-in-folder = "github:demo/apps//start-in-folder"
[documents]
# A new release is seen by the next request, which no test then has to wait for.
fresh_anonymous = "0s"
stale_while_revalidate = "0s"
"""
        )
        command = [self.program, "serve", "--config", "mirror.toml", "--cache-dir", "cache"]
        self.mirror = self._start("mirror", command, self.forge_env)
        await_("the mirror", lambda: "\nready" in self.said("mirror") or self.mirror.poll() is not None)
        if self.mirror.poll() is not None:
            raise Failed("the mirror does not start:\n" + self.said("mirror"))
        lines = self.said("mirror").splitlines()
        self.base = next(line.split()[-1] for line in lines if line.startswith("listening on http://127.0.0.1:"))
        if self.broken:
            import breaks

            self.base = breaks.stand_in_front(self, self.base, FRONT, BEHIND)

    def _plain_mirror(self):
        """A mirror that knows its upstreams' addresses and has no other configuration."""
        self.plain_base = self._configured("plain", "upstreams.toml", PLAIN_FRONT, PLAIN_BEHIND)

    def _providers(self):
        """Two OpenID Connect providers, whose tokens the closed mirror takes."""
        self.providers = self._start("providers", ["node", HERE / "oidc_provider.mjs"], stdin=subprocess.PIPE)
        await_("the providers", lambda: "\nready" in self.said("providers") or self.providers.poll() is not None)
        self.issuers = dict(re.findall(r"^issuer (\S+) (\S+)$", self.said("providers"), re.MULTILINE))
        if not self.issuers:
            raise Failed("the providers do not start (npm ci in tests/clients):\n" + self.said("providers"))

    def set_keys(self, issuer, *keys):
        """Gives a provider other keys: the first one signs."""
        self.providers.stdin.write(f"keys {issuer} {' '.join(keys)}\n".encode())
        self.providers.stdin.flush()
        await_("the keys", lambda: f"has {issuer} {' '.join(keys)}\n" in self.said("providers"))

    def _closed_mirror(self):
        """As the plain mirror, with tokens, rules and an audit log."""
        self.audit_file = self.dir / "audit.jsonl"
        audit = f"[audit]\nfile = {json.dumps(str(self.audit_file))}\n"
        self._authority("clients")
        clients = f"[server.tls]\nclient_ca_file = {json.dumps(str(self.dir / 'clients.pem'))}\n"
        issuers = "".join(
            f"[[access.issuers]]\nname = {json.dumps(name)}\nissuer = {json.dumps(url)}\naudience = {json.dumps(AUDIENCE)}\n"
            'groups_claim = "groups"\n'
            for name, url in self.issuers.items()
        )
        upstreams = (self.dir / "upstreams.toml").read_text()
        (self.dir / "closed.toml").write_text(upstreams + clients + ACCESS + issuers + audit)
        self.tokens = {}
        # A break answers with the rights of this one what the mirror refuses.
        self.master = self.token("master")
        self.closed_base = self._configured("closed", "closed.toml", CLOSED_FRONT, CLOSED_BEHIND, ["127.0.0.1:0"])
        tls = re.search(r"listening on https://127\.0\.0\.1:(\d+)", self.said("closed-mirror"))
        # No break stands in front of it: a client's certificate ends there.
        self.closed_tls_port = tls.group(1)

    def _hosted_mirror(self):
        """A mirror that packages are published on. Publishing drops the port of an address, so it is reached on port 80."""
        (self.dir / "hosted.toml").write_text((self.dir / "upstreams.toml").read_text() + HOSTING)
        self.hosted_token = self._hosted_code("publisher", "read", "publish", "delete")
        self._configured("hosted", "hosted.toml", HOSTED_FRONT, HOSTED_BEHIND)
        self.hosted_registry = f"http://{HOSTED_FRONT}/v3"

    def _hosted_code(self, name, *scopes):
        scopes = [part for scope in scopes for part in ("--scope", scope)]
        options = ["token", "create", "--name", name, "--cli", *scopes]
        return self.operate(*options, config="hosted.toml", cache="hosted-cache").strip()

    def _openssl(self, subject, extensions, name, *options):
        """Makes a certificate with its key, both for two days."""
        config = self.dir / f"{name}.cnf"
        config.write_text(f"[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=ext\n[dn]\n{subject}\n[ext]\n{extensions}\n")
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-config", config, "-keyout", self.dir / f"{name}.key", "-out", self.dir / f"{name}.pem", *options,
        ]
        made = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if made.returncode:
            raise Failed(f"openssl: {made.stderr}")

    def _authority(self, name):
        """An authority of clients' certificates."""
        self._openssl(f"O=Acme\nCN={name}", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign", name)

    def certificate(self, name, authority="clients"):
        """Makes a client's certificate; returns the files of certificate and key."""
        file = f"{authority}-{name}"
        if not (self.dir / f"{authority}.pem").exists():
            self._authority(authority)
        signer = ["-CA", self.dir / f"{authority}.pem", "-CAkey", self.dir / f"{authority}.key"]
        extensions = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth"
        self._openssl(f"O=Acme\nCN={name}", extensions, file, *signer)
        return self.dir / f"{file}.pem", self.dir / f"{file}.key"

    def _configured(self, name, config, front, behind, tls=()):
        """Starts a mirror with a configuration file; returns its address."""
        here = behind if self.broken else front
        env = {
            "SRM_MIRROR__SERVER__LISTEN": json.dumps(["127.0.0.1:0", *([f"{here}:80"] if self.names else [])]),
            "SRM_MIRROR__SERVER__TLS__LISTEN": json.dumps([*tls, *([f"{here}:443"] if self.names else [])]),
            "SRM_MIRROR__SERVER__TLS__CERTIFICATES": self._certificates(),
            # A new version is seen by the next request, which no test then has to wait for.
            "SRM_MIRROR__DOCUMENTS__FRESH_ANONYMOUS": "0s",
            "SRM_MIRROR__DOCUMENTS__STALE_WHILE_REVALIDATE": "0s",
        }
        command = [self.program, "serve", "--config", config, "--cache-dir", f"{name}-cache"]
        process = self._start(f"{name}-mirror", command, env)
        await_(f"the {name} mirror", lambda: "\nready" in self.said(f"{name}-mirror") or process.poll() is not None)
        if process.poll() is not None:
            raise Failed(f"the {name} mirror does not start:\n" + self.said(f"{name}-mirror"))
        lines = self.said(f"{name}-mirror").splitlines()
        base = next(line.split()[-1] for line in lines if line.startswith("listening on http://127.0.0.1:"))
        if self.broken:
            import breaks

            base = breaks.stand_in_front(self, base, front, behind)
        return base

    def token(self, name, *options):
        """Creates a token of the closed mirror, which may be running."""
        said = self.operate("token", "create", "--name", name, *options, config="closed.toml", cache="closed-cache")
        self.tokens[name] = said.strip()
        return self.tokens[name]

    def revoke(self, name):
        """Revokes a token of the closed mirror."""
        self.operate("token", "revoke", name, config="closed.toml", cache="closed-cache")

    def operate(self, *arguments, config="upstreams.toml", cache="plain-cache"):
        """Runs a command of the mirror beside a running mirror, by default the one without configuration."""
        command = [self.program, *arguments, "--config", self.dir / config, "--cache-dir", self.dir / cache]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise Failed(f"srm-mirror {' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def names_at(self, front):
        """Leads the clients' built-in names to another mirror, for a while."""
        hosts = Path("/etc/hosts")
        before = hosts.read_text()
        # In place: the file is mounted.
        hosts.write_text(before.replace(FRONT, front))
        try:
            yield
        finally:
            hosts.write_text(before)

    def close(self):
        for proxy in self.proxies:
            proxy.shutdown()
            proxy.server_close()
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def release(self, package, tag):
        """The forge publishes a release now."""
        self.forge.stdin.write(f"release {package} {tag}\n".encode())
        self.forge.stdin.flush()
        await_("the release", lambda: f"released {package} {tag}" in self.said("forge"))

    def tell_forge(self, line, answer):
        """Sends the forge a line and waits for its answer."""
        known = self.said("forge").count(answer)
        self.forge.stdin.write(f"{line}\n".encode())
        self.forge.stdin.flush()
        await_(answer, lambda: self.said("forge").count(answer) > known)

    def publish(self, name, version, word="publish"):
        """The official registry publishes a built version now."""
        self.tell_forge(f"{word} {name} {version}", f"published {name} {version}")

    def upstream_log(self):
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def home(self, registry=None, token=SECRET):
        """A folder of its own for one client: its home, its settings, its project, and the token in `s` 3's variable."""
        self.homes += 1
        return Home(self, self.dir / f"home-{self.homes}", registry, token)


class Home:
    def __init__(self, stage, directory, registry, token):
        self.stage, self.dir = stage, directory
        for folder in ("home", "project", "devs/.s"):
            (directory / folder).mkdir(parents=True)
        setting = f"registry: {registry}\n" if registry else ""
        (directory / "devs/.s/set-config.yml").write_text(f"{setting}analysis: disable\n")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory / "home"),
            "serverless_devs_config_home": str(directory / "devs"),
            **({"serverless_devs_registry_token": token} if token else {}),
            "NODE_ENV": "test",
            "NODE_EXTRA_CA_CERTS": str(stage.ca),
            "LANG": "C.UTF-8",
        }

    @property
    def project(self):
        return self.dir / "project"

    def run(self, *command, expect=0, timeout=120, env=None):
        """Runs a client to its end and returns what it said; another exit code than `expect` is a failure."""
        command = [str(part) for part in command]
        if not (Path(command[0]).exists() or shutil.which(command[0])):
            raise Failed(f"{command[0]} is not installed")
        try:
            done = subprocess.run(
                command, env={**self.env, **(env or {})}, cwd=self.project, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
            )
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{Path(command[0]).name} hangs; it said: {(late.stdout or b'').decode(errors='replace')}") from late
        said = done.stdout.decode(errors="replace")
        if expect is not None and done.returncode != expect:
            raise Failed(f"{' '.join(Path(c).name for c in command[:4])}: exit code {done.returncode}: {said.strip()}")
        return said

    def with_updates(self):
        """What lets `s` 3 look for updates before it ends: NODE_ENV=test turns that off; the look for a new CLI stays off."""
        notifier = self.dir / "devs/.s/config/update-notifier.json"
        notifier.parent.mkdir(exist_ok=True)
        notifier.write_text(json.dumps({"lastUpdateCheck": int(time.time() * 1000)}))
        return {"NODE_ENV": "production", "serverless_devs_daemon_enable": "false"}

    def node(self, package, *arguments, **options):
        program = HERE / "node_modules" / package
        if not program.exists():
            raise Failed(f"{package} is not installed: npm ci in tests/clients")
        return self.run("node", program, *arguments, **options)

    def s3(self, *arguments, **options):
        return self.node("s3/bin/s", *arguments, **options)

    def s2(self, *arguments, **options):
        return self.node("s2/bin/s", *arguments, **options)

    def deploy(self, component, edition=3, **options):
        """Deploys a project of one component with `s` and returns what it said."""
        kind = "resources" if edition == 3 else "services"
        (self.project / "s.yaml").write_text(
            f"edition: {edition if edition == 3 else '1.0.0'}{'.0.0' if edition == 3 else ''}\nname: demo\n"
            f"access: default\n{kind}:\n  hello:\n    component: {component}\n    props:\n      region: cn-hangzhou\n"
        )
        return (self.s3 if edition == 3 else self.s2)("deploy", "-y", **options)


def must_say(said, *words):
    for word in words:
        if word not in said:
            raise Failed(f"it does not say {word!r}: {said.strip()}")


def must_equal(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: {got!r} where {wanted!r} belongs")
