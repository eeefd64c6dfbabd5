"""The promises of a mirror that serves nothing without a token, each with a real client."""

import json
import re
from urllib.parse import urlsplit

from promises import LAST, SIMPLE, application, asked_first, listed, lock, must_be_whole, promise, update_in
from stage import AUDIENCE, CLOSED_FRONT, HERE, NAMES, SECRET, Failed, await_, must_equal, must_say


def registry(stage):
    return f"{stage.closed_base}/v3"


def release(home, token, path):
    """The JSON of an authenticated answer, as a client with curl has it."""
    said = home.run("curl", "-sSf", "-H", f"Authorization: Bearer {token}", f"{home.stage.closed_base}{path}")
    return json.loads(said)


def big(stage, token):
    """The signed address of the zip of 8 MB."""
    address = release(stage.home(), token, "/demo/big/releases/tags/v1.0.0")["zipball_url"]
    if not urlsplit(address).query:
        raise Failed(f"the address has no signature: {urlsplit(address).path}")
    return address


@promise("s 3 uses a closed mirror by `registry login --token`: a component, its update, registry list")
def _(stage):
    token = stage.token("cli", "--cli")
    home = stage.home(registry(stage), token=None)
    home.s3("registry", "login", "--token", token)
    kept = [file for file in (home.dir / "devs").rglob("*.dat") if token in file.read_text(errors="replace")]
    must_equal([file.name for file in kept], ["serverless-devs-platform-V3.dat"], "the files in which the CLI keeps the token")
    said = home.deploy("fc3")
    asked_first(said)
    must_say(said, "fc3 0.1.22 deployed")
    update_in(home, "closed-week", "closed-week", ("1.0.0", "1.1.0"), lambda version: stage.publish("closed-week", version))
    update_in(home, "demo__closed", "closed", ("v1.0.0", "v2.0.0"), lambda version: stage.release("demo/closed", version))
    names = [row["name"] for row in listed(home)]
    if "closed-week" not in names or "demo__closed" not in names:
        raise Failed(f"not listed: {names}")
    must_say(home.s3("registry", "detail", "--package-name", "closed-week"), "1.1.0")


@promise("s 3 uses a closed mirror by the token in its variable, with two packages at once and one version of each")
def _(stage):
    home = stage.home(registry(stage), token=stage.token("variable", "--cli"))
    for component, said in {"fc3@0.1.21": "fc3 0.1.21", "demo__plain@1.0.0": "plain 1.0.0"}.items():
        must_say(home.deploy(component), f"{said} deployed")


@promise("s 3 inits from a closed mirror by the signed address of an authenticated answer, logged in or not")
def _(stage):
    token = stage.token("init")
    for n, variable in enumerate([None, SECRET]):
        home = stage.home(token=variable)
        address = release(home, token, "/v3/packages/start-demo/release/latest")["body"]["zipball_url"]
        said = home.s3("init", "--uri", address, "-d", f"app{n}", "-y")
        application(home.project / f"app{n}")
        if urlsplit(address).query and urlsplit(address).query in said:
            raise Failed("the CLI prints the signature")


@promise("s 3 runs a component from a closed mirror by the signed address of its zip")
def _(stage):
    home = stage.home(token=None)
    address = release(home, stage.token("by-address"), "/demo/plain/releases/tags/1.0.0")["zipball_url"]
    must_say(home.deploy(f'"{address}#/plain-1-0-0"'), "plain 1.0.0 deployed")


@promise("s 3 without a token fails at a closed mirror: the release is 401, and for a zip it prints what is missing", named=True)
def _(stage):
    # It goes on to the 2.x registry after a failure: to that of the same mirror.
    with stage.names_at(CLOSED_FRONT):
        for token in (None, SECRET):
            home = stage.home(registry(stage), token=token)
            said = home.deploy("demo__plain", expect=None)
            must_say(said, "status code 401")
            zip = f"{stage.closed_base}/demo/plain/zipball/1.0.0"
            printed = home.deploy(f"{zip}#/plain-1-0-0", expect=None)
            must_say(printed, "only to clients with a token")
            if "deployed" in said + printed or lock(home, "plain-1-0-0").exists() or lock(home, "demo__plain").exists():
                raise Failed(f"it was served without a token: {said} {printed}")
            inited = home.s3("init", "--uri", zip, "-d", "app", "-y", expect=None)
            if (home.project / "app/publish.yaml").exists():
                raise Failed(f"it was served without a token: {inited}")


@promise("s 2, which sends no credentials, uses what a rule of a closed mirror opens for everyone, and nothing else", named=True)
def _(stage):
    with stage.names_at(CLOSED_FRONT):
        home = stage.home(SIMPLE, token=None)
        for component, said in {"fc": "fc 0.1.71", "devsapp/fc@0.1.70": "fc 0.1.70"}.items():
            must_say(home.deploy(component, edition=2), f"{said} deployed")
        core = home.dir / "devs/.s/cache/core/package.json"
        must_equal(json.loads(core.read_text())["version"], "0.1.66", "devsapp/core")
        said = home.deploy("demo/plain", edition=2, expect=None)
        must_say(said, "demo/plain component was not found")


@promise("clients of GitHub's API read from a closed mirror with a token, one of them the zip by its signed address")
def _(stage):
    token, home = stage.token("forge-clients"), stage.home()
    must_say(home.run("node", HERE / "octokit.mjs", stage.closed_base, token), "octokit: all as it should be")
    said = home.run(stage.python, HERE / "with_pygithub.py", stage.closed_base, token)
    must_say(said, "PyGithub: all as it should be")


@promise("curl gets the same zip as Bearer, as Basic, and by the signed address; HEAD and ranges too")
def _(stage):
    token, home = stage.token("curl"), stage.home()
    address = big(stage, token)
    plain = f"{stage.closed_base}/demo/big/zipball/v1.0.0"
    for n, arguments in enumerate([["-H", f"Authorization: Bearer {token}", plain], ["-u", f"any:{token}", plain], [address]]):
        home.run("curl", "-sSf", "-o", f"{n}.zip", *arguments)
        must_be_whole(stage, home.project / f"{n}.zip")
        must_equal(home.run("curl", "-sSfI", "-o", "head", "-w", "%{http_code}", *arguments), "200", "HEAD")
        answered = home.run("curl", "-sSf", "-r", "0-99", "-o", "part", "-w", "%{http_code} %{size_download}", *arguments)
        must_equal(answered, "206 100", "the range")
    for arguments in ([plain], [address.replace("v1.0.0", "v0.9.0")], ["-u", f"{token}:", plain], ["-u", f"any:{token}x", plain]):
        must_equal(home.run("curl", "-sS", "-o", "no", "-w", "%{http_code}", *arguments), "401", "without valid credentials")


@promise("curl with a client's certificate gets what its subject may read, over HTTP/2 and HTTP/1.1, and a signed address")
def _(stage):
    home = stage.home()
    port = stage.closed_tls_port
    base = f"https://{NAMES[0]}:{port}"
    reach = ["curl", "-sS", "--cacert", stage.ca, "--resolve", f"{NAMES[0]}:{port}:127.0.0.1"]

    def status(path, *options, expect=0):
        return home.run(*reach, "-o", "got", "-w", "%{http_code} %{http_version}", *options, f"{base}{path}", expect=expect)

    def by(name, authority="clients"):
        certificate, key = stage.certificate(name, authority)
        return ["--cert", certificate, "--key", key]

    anna, berta = by("anna"), by("berta")
    for version in ("2", "1.1"):
        must_equal(status("/demo/big/zipball/v1.0.0", *anna, f"--http{version}"), f"200 {version}", "by the subject of a rule")
        must_be_whole(stage, home.project / "got")
    must_equal(status("/demo/big/zipball/v1.0.0", *berta)[:3], "404", "by another subject")
    must_equal(status("/demo/plain/releases", *berta)[:3], "200", "what every subject may read")
    must_equal(status("/demo/plain/releases")[:3], "401", "without a certificate")
    stranger = home.run(*reach, *by("anna", "strangers"), "-o", "no", f"{base}/demo/plain/releases", expect=None)
    must_say(stranger, "curl:")
    latest = json.loads(home.run(*reach, "-f", *anna, f"{base}/demo/big/releases/tags/v1.0.0"))
    home.run(*reach, "-f", "-o", "by-address", latest["zipball_url"])
    must_be_whole(stage, home.project / "by-address")


@promise("wget and aria2c fetch and resume by the signed address, without credentials")
def _(stage):
    home = stage.home()
    address = big(stage, stage.token("downloaders"))
    home.run("curl", "-sSf", "-o", "whole", address)
    must_be_whole(stage, home.project / "whole")
    whole = (home.project / "whole").read_bytes()
    for name in ("wget.zip", "aria.zip"):
        (home.project / name).write_bytes(whole[:3_000_000])
    must_say(home.run("wget", "-c", "-S", "-O", "wget.zip", address), "206 Partial Content")
    must_be_whole(stage, home.project / "wget.zip")
    home.run("wget", "-q", "--content-disposition", address)
    must_be_whole(stage, home.project / "big-v1.0.0.zip")
    quick = ["aria2c", "-c", "-x4", "-s4", "-k1M", "--file-allocation=none", "--no-conf"]
    home.run(*quick, "-o", "aria.zip", address)
    must_be_whole(stage, home.project / "aria.zip")


def jwt(home, issuer, client="ci", audience=AUDIENCE):
    """An access token of an OpenID Connect provider. The audit log must not have it."""
    described = json.loads(home.run("curl", "-sSf", f"{home.stage.issuers[issuer]}/.well-known/openid-configuration"))
    form = ["-d", "grant_type=client_credentials", "-d", "scope=read", "--data-urlencode", f"resource={audience}"]
    said = home.run("curl", "-sSf", "-u", f"{client}:{client}-secret", *form, described["token_endpoint"])
    token = json.loads(said)["access_token"]
    must_equal(token.count("."), 2, "the dots of the JWT")
    home.stage.tokens[f"{issuer} {client} {len(home.stage.tokens)}"] = token
    return token, described["jwks_uri"]


def status_by(home, token, path="/demo/plain/releases"):
    """The status that a client with a token gets, and what the mirror says about the token."""
    url = f"{home.stage.closed_base}{path}"
    said = home.run("curl", "-sS", "-D", "head", "-o", "got", "-w", "%{http_code}", "-H", f"Authorization: Bearer {token}", url)
    if said == "401" and "www-authenticate: bearer" not in (home.project / "head").read_text().lower():
        raise Failed("a 401 without its challenge")
    return said


@promise("an access token of an OpenID Connect provider (oidc-provider) is a principal with groups")
def _(stage):
    home = stage.home()
    token, _ = jwt(home, "corp")
    must_equal(status_by(home, token), "200", "what everyone with credentials may read")
    must_equal(status_by(home, token, "/demo/big/releases"), "200", "what its group may read")
    must_equal(status_by(home, jwt(home, "corp", "guest")[0], "/demo/big/releases"), "404", "what another group may read")
    must_equal(status_by(home, jwt(home, "shop")[0], "/demo/big/releases"), "404", "the group of another provider")
    address = json.loads(home.run("curl", "-sSf", "-H", f"Authorization: Bearer {token}", f"{stage.closed_base}/demo/big/releases/latest"))
    home.run("curl", "-sSf", "-o", "whole", address["zipball_url"])
    must_be_whole(stage, home.project / "whole")


@promise("a token of an OpenID Connect provider for another audience, without a signature, or by its public key is 401")
def _(stage):
    home = stage.home()
    token, keys = jwt(home, "corp")
    must_equal(status_by(home, token), "200", "the token itself")
    made = json.loads(home.run("node", HERE / "oidc_forgeries.mjs", token, keys))
    must_equal(len(made), 13, "the forgeries")
    made["another audience"], _ = jwt(home, "corp", audience="urn:another")
    made["the audience with a slash"], _ = jwt(home, "corp", audience=f"{AUDIENCE}/")
    served = {name: status for name, forged in made.items() if (status := status_by(home, forged)) != "401"}
    must_equal(served, {}, "not refused")


@promise("after a rotation of a provider's keys its new tokens hold, the old ones while their key is published, then they are 401")
def _(stage):
    home = stage.home()
    old = {issuer: jwt(home, issuer)[0] for issuer in ("corp", "shop")}
    must_equal([status_by(home, token) for token in old.values()], ["200", "200"], "before the rotation")
    stage.set_keys("corp", "second", "first")
    stage.set_keys("shop", "second")
    try:
        for issuer, expected in {"corp": "200", "shop": "401"}.items():
            new, _ = jwt(home, issuer)
            must_equal(status_by(home, new), "200", f"the new token of {issuer}")
            must_equal(status_by(home, old[issuer]), expected, f"the old token of {issuer}")
    finally:
        # For the promises that follow.
        stage.set_keys("corp", "first", "second")


def clients_of(stage, name):
    """Clients with the token of this name; each answers whether it was served, with what it has not fetched before."""
    token = stage.tokens[name]
    zip = f"{stage.closed_base}/demo/big/zipball/v1.0.0"
    address = big(stage, token)
    home = stage.home(registry(stage), token=token)

    def ends_well(*command):
        return lambda: "exit=0" in home.run("sh", "-c", '"$@"; echo exit=$?', "sh", *command)

    def deploys():
        return "plain 1.1.0 deployed" in stage.home(registry(stage), token=token).deploy("demo__plain", expect=None)

    return {
        "s 3": deploys,
        "octokit": ends_well("node", HERE / "octokit.mjs", stage.closed_base, token),
        "PyGithub": ends_well(stage.python, HERE / "with_pygithub.py", stage.closed_base, token),
        "curl with Basic": ends_well("curl", "-sSf", "-o", "zip", "-u", f"any:{token}", zip),
        "curl with Bearer": ends_well("curl", "-sSf", "-o", "zip", "-H", f"Authorization: Bearer {token}", zip),
        "curl by address": ends_well("curl", "-sSf", "-o", "zip", address),
        "wget by address": ends_well("wget", "-q", "-O", "zip", address),
        "aria2c by address": ends_well("aria2c", "-q", "--no-conf", "--allow-overwrite", "-o", "zip", address),
    }


@promise("a revoked token ends with the next request of every client", named=True)
def _(stage):
    stage.token("leaving", "--cli")
    clients = clients_of(stage, "leaving")
    # s 3 goes on to the 2.x registry after a failure: to that of the same mirror.
    with stage.names_at(CLOSED_FRONT):
        must_equal([name for name, served in clients.items() if not served()], [], "not served before")
        stage.revoke("leaving")
        must_equal([name for name, served in clients.items() if served()], [], "served after it was revoked")


@promise("the audit log of a closed mirror says who had what, and has no secret", tests=LAST)
def _(stage):
    token, home = stage.token("audited"), stage.home()
    address = big(stage, token)
    home.run("curl", "-sSf", "-o", "zip", address)
    home.run("curl", "-sS", "-o", "no", address.split("?")[0])

    def events():
        lines = stage.audit_file.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event.get("package", "").endswith("demo/big")]

    served = lambda event: event.get("principal") == "token:audited" and event.get("bytes", 0) >= 8_000_000  # noqa: E731
    await_("the events", lambda: any(map(served, events())) and any(event.get("status") == 401 for event in events()))
    text = stage.audit_file.read_text()
    for name, secret in stage.tokens.items():
        if secret in text:
            raise Failed(f"the token {name} is in the audit log")
    if re.search(r"srm=[zp]\.", text) or SECRET in text:
        raise Failed("a signature or a client's secret is in the audit log")
