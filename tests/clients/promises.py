"""The promises, each kept or broken in front of a real client. A function here is a test; its docstring is its line."""

import hashlib
import json
import re
import zipfile

from stage import HERE, PLAIN_FRONT, SECRET, SENT_BY_CLIENTS, Failed, must_equal, must_say

SIMPLE, GITHUB = "http://registry.devsapp.cn/simple", "https://api.github.com/repos"
TESTS = []
# Played after all others: they look at what those left, or end the forge.
LAST = []


def promise(name, named=False, tests=TESTS):
    """A test; `named` ones need the clients' built-in names led to loopback."""

    def add(test):
        tests.append((name, named, test))
        return test

    return add


def lock(home, component):
    return home.dir / "devs/.s/components/devsapp.cn/v3" / component / ".s.lock"


def application(folder):
    """What `s init` leaves behind for a good zip."""
    for path, part in (("s.yaml", "component: fc3"), ("code/index.js", "hello")):
        file = folder / path
        if not file.is_file():
            raise Failed(f"{path} is missing; there is {sorted(p.name for p in folder.rglob('*'))}")
        must_say(file.read_text(), part)


def asked_first(said):
    """`s` 3 goes on to the 2.x registry when its own has no answer: that would hide what is tested."""
    if "v2 registry" in said:
        raise Failed(f"the 3.x registry did not answer: {said}")


# --- s 3, by `s set registry`


@promise("s 3 takes the mirror by `s set registry`")
def _(stage):
    home = stage.home()
    home.s3("set", "registry", f"{stage.base}/v3")
    must_say((home.dir / "devs/.s/set-config.yml").read_text(), f"{stage.base}/v3")
    must_say(home.deploy("fc3"), "fc3 0.2.0 deployed")


@promise("s 3 loads the latest version, by plain name and by owner__repo")
def _(stage):
    home = stage.home(f"{stage.base}/v3")
    must_say(home.deploy("fc3"), "fc3 0.2.0 deployed")
    must_say(home.deploy("demo__plain"), "plain 1.1.0 deployed")


@promise("s 3 loads a version with v and without, whichever the tag has")
def _(stage):
    home = stage.home(f"{stage.base}/v3")
    for component, said in {
        "fc3@v0.1.0": "fc3 0.1.0", "fc3@0.1.1": "fc3 0.1.1",
        "demo__plain@1.0.0": "plain 1.0.0", "demo__plain@v1.1.0": "plain 1.1.0",
    }.items():
        must_say(home.deploy(component), f"{said} deployed")


def update(stage, repo, old, new):
    """A release of a repository appears while the old one is installed; the CLI finds it and runs it."""
    home = stage.home(f"{stage.base}/v3")
    update_in(home, f"demo__{repo}", repo, (old, new), lambda version: stage.release(f"demo/{repo}", version))


def update_in(home, name, title, versions, publish):
    old, new = versions
    publish(old)
    must_say(home.deploy(name), f"{title} {old.lstrip('v')} deployed")
    installed = lock(home, name)
    must_equal(json.loads(installed.read_text())["version"], old, "the installed version")
    publish(new)
    # The CLI looks again ten minutes after `lastUpdateCheck`, once a deploy is done.
    installed.write_text(json.dumps({"version": old, "lastUpdateCheck": 0}))
    must_say(home.deploy(name, env=home.with_updates()), f"{title} {old.lstrip('v')} deployed")
    must_equal(json.loads(installed.read_text())["version"], new, "the installed version after the update")
    must_say(home.deploy(name), f"{title} {new.lstrip('v')} deployed")


@promise("s 3 updates a component to a new release and runs the new code")
def _(stage):
    update(stage, "moving", "v1.0.0", "v2.0.0")


@promise("s 3 updates to a later release of a package without v in its tags")
def _(stage):
    update(stage, "bare", "1.0.0", "1.1.0")


@promise("s 3 loads components by URL; the fragment names the folder, so two of one version do not share it")
def _(stage):
    home = stage.home()
    stage.release("demo/twin", "1.0.0")
    for repo in ("plain", "twin"):
        url = f"{stage.base}/demo/{repo}/zipball/1.0.0#/{repo}-1-0-0"
        must_say(home.deploy(url), f"{repo} 1.0.0 deployed")
        if not lock(home, f"{repo}-1-0-0").exists():
            raise Failed(f"the CLI has no folder {repo}-1-0-0")


@promise("s 3 inits an application by --uri")
def _(stage):
    home = stage.home()
    home.s3("init", "--uri", f"{stage.base}/devsapp/start-fc3/zipball/1.0.0", "-d", "app", "-y")
    application(home.project / "app")


@promise("s 3 inits an application behind a folder alias, by its address")
def _(stage):
    for n, path in enumerate(["v3/packages/start-in-folder", "start-in-folder"]):
        home = stage.home()
        home.s3("init", "--uri", f"{stage.base}/{path}/zipball/1.0.0", "-d", f"app{n}", "-y")
        application(home.project / f"app{n}")


@promise("s 3 inits an application behind a folder alias, by its name", named=True)
def _(stage):
    home = stage.home()
    asked_first(home.s3("init", "start-in-folder", "-d", "app", "-y"))
    application(home.project / "app")


def listed(home, *arguments):
    # The CLI prints `- `, then `key: value` lines, then `- ` before each of a list's values.
    rows = []
    for block in re.split(r"^- *$", home.s3("registry", "list", *arguments), flags=re.M)[1:]:
        row = dict(re.findall(r"^  (\w+): +(\S.*)$", block, flags=re.M))
        rows.append({**row, "tags": re.findall(r"^ {4}- (.+)$", block, flags=re.M)})
    return rows


@promise("s 3 registry list shows what the mirror has served, by names that work, and --search narrows it")
def _(stage):
    home = stage.home(f"{stage.base}/v3")
    home.deploy("fc3")
    home.deploy("demo__plain")
    rows = listed(home)
    fc3 = {"type": "Component", "name": "fc3", "description": "A demo component",
           "category": "Basic Cloud Service", "tags": ["demo"]}
    if fc3 not in rows:
        raise Failed(f"fc3 is not listed as it is: {rows}")
    must_say(home.deploy(fc3["name"]), "fc3 0.2.0 deployed")
    must_equal([row["name"] for row in listed(home, "--search", "PLAIN")], ["demo__plain"], "what --search PLAIN lists")


@promise("s 3 registry detail shows every version, newest first")
def _(stage):
    said = stage.home(f"{stage.base}/v3").s3("registry", "detail", "--package-name", "fc3")
    tags = re.findall(r"tag_name:\s+(\S+)", said)
    must_equal(tags, ["v0.2.0", "v0.2.0-rc.1", "v0.1.1", "v0.1.0"], "the versions")


@promise("s 3 says that a package or version is not found")
def _(stage):
    home = stage.home(f"{stage.base}/v3")
    for component in ("no-such-thing", "fc3@9.9.9"):
        said = home.deploy(component, expect=None)
        must_say(said, f"Component or plugin {component} is not found")


@promise("s 3 does not keep what is no zip: an error is an error, and the next try works")
def _(stage):
    home = stage.home()
    url = f"{stage.base}/demo/late/zipball/1.0.0#/late-1-0-0"
    said = home.deploy(url, expect=None)
    if lock(home, "late-1-0-0").exists() or "deployed" in said:
        raise Failed(f"an error was taken for a component: {said}")
    stage.release("demo/late", "1.0.0")
    # That it does not exist is remembered for a while: ask as an operator would, by another version.
    stage.release("demo/later", "1.0.0")
    must_say(home.deploy(f"{stage.base}/demo/later/zipball/1.0.0#/later-1-0-0"), "later 1.0.0 deployed")


@promise("s 3 takes a registry with a slash at its end")
def _(stage):
    must_say(stage.home(f"{stage.base}/v3/").deploy("fc3"), "fc3 0.2.0 deployed")


@promise("s 3 prints why the mirror takes no publish and no delete", named=True)
def _(stage):
    # These commands forget the port of the registry's address: they reach a mirror on port 80 or 443 only.
    home = stage.home("http://api.devsapp.cn/v3")
    (home.project / "publish.yaml").write_text(
        "Edition: 3.0.0\nType: Project\nName: mine\nVersion: 1.0.0\nProvider:\n  - 阿里云\nDescription: mine\n"
        "HomePage: https://example.com\nOrganization: mine\nEffective: Public\nTags:\n  - demo\nCategory: Web框架\n"
        "Parameters:\n  type: object\n  properties:\n    region:\n      title: region\n"
        "      type: string\n      default: cn-hangzhou\n      description: region\n"
        "Service:\n  函数计算:\n    Authorities:\n      - AliyunFCFullAccess\n"
    )
    (home.project / "src").mkdir()
    for name in ("version.md", "readme.md", "src/s.yaml"):
        (home.project / name).write_text(
            "edition: 3.0.0\nname: mine\naccess: default\nresources:\n  it:\n"
            "    component: fc3\n    props:\n      region: ${region}\n"
        )
    for command in (["publish"], ["delete", "--name", "fc3", "--version-id", "v0.2.0"]):
        must_say(home.s3("registry", *command, expect=None), "this registry is a mirror and hosts nothing of its own")


# --- s 3 and s 2, by the names they have built in


@promise("s 3 without any setting works through api.devsapp.cn", named=True)
def _(stage):
    must_say(stage.home().deploy("fc3"), "fc3 0.2.0 deployed")


@promise("s 3 inits an application by its name through the TLS override, with and without version", named=True)
def _(stage):
    for n, name in enumerate(["start-fc3", "start-fc3@1.0.0", "devsapp__start-fc3"]):
        home = stage.home()
        asked_first(home.s3("init", name, "-d", f"app{n}", "-y"))
        application(home.project / f"app{n}")


@promise("s 3 inits by name from its GitHub registry (the default branch)", named=True)
def _(stage):
    home = stage.home(GITHUB)
    asked_first(home.s3("init", "start-fc3", "-d", "app", "-y"))
    application(home.project / "app")


@promise("s 3 trusts only who it was told to: without the authority the override fails", named=True)
def _(stage):
    home = stage.home()
    home.env.pop("NODE_EXTRA_CA_CERTS")
    said = home.deploy("fc3", expect=None)
    if "deployed" in said:
        raise Failed("the CLI accepted a certificate of an unknown authority")
    must_say(said, "certificate")


@promise("s 2 loads a component through http://registry.devsapp.cn/simple, with and without version", named=True)
def _(stage):
    home = stage.home(SIMPLE)
    for component, said in {
        "fc3": "fc3 0.2.0", "devsapp/fc3@v0.1.0": "fc3 0.1.0", "demo/plain": "plain 1.1.0", "demo/plain@1.0.0": "plain 1.0.0",
    }.items():
        must_say(home.deploy(component, edition=2), f"{said} deployed")
    core = home.dir / "devs/.s/cache/core/package.json"
    if not core.is_file():
        raise Failed("devsapp/core is not where s 2 puts it")
    must_equal(json.loads(core.read_text())["version"], "0.1.66", "devsapp/core")


@promise("s 2 inits through http://registry.devsapp.cn/simple, with and without version", named=True)
def _(stage):
    for n, name in enumerate(["start-fc3", "devsapp/start-fc3", "devsapp/start-fc3@1.0.0"]):
        home = stage.home(SIMPLE)
        home.s2("init", name, "-d", f"app{n}", expect=None)
        application(home.project / f"app{n}")


@promise("s 2 loads a component through its GitHub registry, with and without version", named=True)
def _(stage):
    home = stage.home(GITHUB)
    for component, said in {
        "devsapp/fc3": "fc3 0.2.0", "devsapp/fc3@v0.1.0": "fc3 0.1.0", "demo/plain": "plain 1.1.0", "demo/plain@1.0.0": "plain 1.0.0",
    }.items():
        must_say(home.deploy(component, edition=2), f"{said} deployed")
        if not list((home.dir / "devs/.s/components/github.com").rglob(".s.lock")):
            raise Failed("it came from somewhere else than the GitHub registry")


@promise("s 2 inits through its GitHub registry, with and without version", named=True)
def _(stage):
    for n, name in enumerate(["devsapp/start-fc3", "devsapp/start-fc3@1.0.0"]):
        home = stage.home(GITHUB)
        home.s2("init", name, "-d", f"app{n}", expect=None)
        application(home.project / f"app{n}")


@promise("s 2 says that a component is not found", named=True)
def _(stage):
    for registry in (SIMPLE, GITHUB):
        said = stage.home(registry).deploy("devsapp/no-such-thing", edition=2, expect=None)
        must_say(said, "devsapp/no-such-thing component was not found")


# --- s 3 and s 2, with a mirror without configuration: the official registries


@promise("s 3 with a mirror without configuration runs the official registry's component: latest, pinned and dev")
def _(stage):
    home = stage.home(f"{stage.plain_base}/v3")
    for component, said in {"fc3": "fc3 0.1.22", "fc3@0.1.21": "fc3 0.1.21", "fc3@dev": "fc3 dev"}.items():
        must_say(home.deploy(component), f"{said} deployed")


@promise("s 3 registry list of a mirror without configuration has the official registry's packages, served or not")
def _(stage):
    home = stage.home(f"{stage.plain_base}/v3")
    names = [row["name"] for row in listed(home)]
    if "fc3" not in names or "start-demo" not in names:
        raise Failed(f"not the packages of the official registry: {names}")
    must_equal([row["name"] for row in listed(home, "--search", "start-DEMO")], ["start-demo"], "what --search lists")
    must_say(home.deploy("fc3"), "fc3 0.1.22 deployed")


@promise("s 3 with a mirror without configuration updates to what is published next and runs the new code")
def _(stage):
    home, name = stage.home(f"{stage.plain_base}/v3"), "next-week"
    update_in(home, name, name, ("1.0.0", "1.1.0"), lambda version: stage.publish(name, version))


@promise("s 3 inits an official application by --uri, in the official form of a zip's address")
def _(stage):
    home = stage.home()
    home.s3("init", "--uri", f"{stage.plain_base}/v3/packages/start-demo/zipball/1.0.0", "-d", "app", "-y")
    application(home.project / "app")


@promise("s 3 refuses an unbuilt component, prints why, leaves no lock, and runs it once its route leads to a built one")
def _(stage):
    home = stage.home(f"{stage.plain_base}/v3")
    said = home.deploy("unbuilt", expect=None)
    must_say(said, "dist/index.js")
    if "deployed" in said or lock(home, "unbuilt").exists():
        raise Failed(f"an unbuilt component was installed: {said}")
    home.deploy("unbuilt", expect=1)
    stage.publish("unbuilt", "1.0.0", "publish-2x")
    stage.operate("route", "set", "unbuilt", "official-2x", "--dialect", "v3")
    must_say(home.deploy("unbuilt"), "unbuilt 1.0.0 deployed")


@promise("s 2 with a mirror without configuration runs the official 2.x component and its core", named=True)
def _(stage):
    with stage.names_at(PLAIN_FRONT):
        home = stage.home(SIMPLE)
        for component, said in {"fc": "fc 0.1.71", "devsapp/fc@0.1.70": "fc 0.1.70"}.items():
            must_say(home.deploy(component, edition=2), f"{said} deployed")
        core = home.dir / "devs/.s/cache/core/package.json"
        must_equal(json.loads(core.read_text())["version"], "0.1.66", "devsapp/core")


@promise("with the official registry gone, s 3 runs what it ran before")
def _(stage):
    stage.home(f"{stage.plain_base}/v3").deploy("fc3")
    stage.tell_forge("down", "down")
    try:
        home = stage.home(f"{stage.plain_base}/v3")
        must_say(home.deploy("fc3"), "fc3 0.1.22 deployed")
        must_say(home.deploy("fc3@0.1.22"), "fc3 0.1.22 deployed")
    finally:
        stage.tell_forge("up", "up")


# --- octokit, PyGithub


@promise("octokit lists, gets the latest and a tag, and downloads the zip")
def _(stage):
    said = stage.home().run("node", HERE / "octokit.mjs", stage.base, SECRET)
    must_say(said, "octokit: all as it should be")


@promise("PyGithub lists page by page, gets the latest and a tag, and downloads the zip")
def _(stage):
    said = stage.home().run(stage.python, HERE / "with_pygithub.py", stage.base, SECRET)
    must_say(said, "PyGithub: all as it should be")


@promise("PyJWT accepts the statement by which a GitHub App identifies itself, and refuses one by another key")
def _(stage):
    said = stage.home().run(stage.python, HERE / "app_jwt.py", stage.program)
    must_say(said, "PyJWT: all as it should be")


# --- downloaders


def big(stage):
    """The address of a stored zip of 8 MB."""
    url = f"{stage.base}/demo/big/zipball/v1.0.0"
    stage.home().run("curl", "-sSf", "-o", "whole.zip", url)
    return url


def must_be_whole(stage, file):
    must_equal(hashlib.sha256(file.read_bytes()).hexdigest(), stage.big_sha256, f"SHA-256 of {file.name}")


def part_of(stage, home, name, size=3_000_000):
    """The beginning of the zip, as a broken transfer leaves it."""
    home.run("curl", "-sSf", "-o", "whole", big(stage))
    whole = home.project / "whole"
    must_be_whole(stage, whole)
    (home.project / name).write_bytes(whole.read_bytes()[:size])
    return home.project / name


@promise("curl -C resumes")
def _(stage):
    home = stage.home()
    part = part_of(stage, home, "big.zip")
    code = home.run("curl", "-sSf", "-C", "-", "-o", part, "-w", "%{http_code} %{size_download}", big(stage))
    must_equal(code, f"206 {(home.project / 'whole').stat().st_size - 3_000_000}", "status and bytes")
    must_be_whole(stage, part)


@promise("wget -c resumes, and --content-disposition names the file")
def _(stage):
    home = stage.home()
    part = part_of(stage, home, "big.zip")
    said = home.run("wget", "-c", "-S", "-O", part, big(stage))
    must_say(said, "206 Partial Content")
    must_be_whole(stage, part)
    home.run("wget", "-q", "--content-disposition", big(stage))
    must_be_whole(stage, home.project / "big-v1.0.0.zip")


@promise("aria2c -x4 splits, and resumes")
def _(stage):
    home = stage.home()
    url = big(stage)
    quick = ["aria2c", "-x4", "-s4", "-k1M", "--file-allocation=none", "--console-log-level=info", "--no-conf"]
    said = home.run(*quick, "-o", "split.zip", url)
    ranges = set(re.findall(r"Range: bytes=(\d+)-", said))
    if len(ranges) < 3 or "206 Partial Content" not in said:
        raise Failed(f"it did not split: {sorted(ranges)}")
    must_be_whole(stage, home.project / "split.zip")
    part = part_of(stage, home, "resumed.zip")
    said = home.run(*quick, "-c", "-o", "resumed.zip", url)
    must_say(said, "206 Partial Content")
    must_be_whole(stage, part)


@promise("curl over HTTP/2 and TLS gets the same bytes", named=True)
def _(stage):
    home = stage.home()
    url = "https://api.github.com/demo/big/zipball/v1.0.0"
    said = home.run("curl", "-sSf", "--http2", "--cacert", stage.ca, "-o", "h2.zip", "-w", "%{http_version}", url)
    must_be_whole(stage, home.project / "h2.zip")
    if not stage.broken:
        must_equal(said, "2", "the protocol")


@promise("every zip in the plain dialects has its one folder, the flat one has none")
def _(stage):
    home = stage.home()
    for word, top in (("zipball", 1), ("flat", None)):
        home.run("curl", "-sSf", "-o", f"{word}.zip", f"{stage.base}/devsapp/fc3/{word}/v0.2.0")
        with zipfile.ZipFile(home.project / f"{word}.zip") as archive:
            must_equal(archive.testzip(), None, "the first damaged entry")
            names = archive.namelist()
        if (len({name.split("/")[0] for name in names}) == 1) != (top == 1) or ("publish.yaml" in names) == (top == 1):
            raise Failed(f"{word}: {names}")


# --- last: what all of this left at the forge


@promise("nothing a client sends ever reached the forge", tests=LAST)
def _(stage):
    home = stage.home(f"{stage.base}/v3")
    sent = ["-H", f"X-Client-Secret: {SECRET}", "-H", f"Authorization: Bearer {SECRET}", "-H", f"Cookie: a={SECRET}"]
    stage.release("demo/quiet", "v1.0.0")
    home.deploy("demo__quiet")
    home.run("curl", "-sSf", *sent, "-A", SECRET, "-o", "zip", f"{stage.base}/demo/quiet/zipball/v1.0.0?x={SECRET}")
    log = stage.upstream_log()
    if not any(entry["path"].startswith("/repos/demo/quiet") for entry in log):
        raise Failed("the forge saw nothing: this test proves nothing")
    agents = set()
    for entry in log:
        if any(secret in json.dumps(entry) for secret in (SECRET, *stage.tokens.values())):
            raise Failed(f"the client's secret reached the forge: {entry}")
        names = {name for name, _ in entry["headers"]}
        if names & SENT_BY_CLIENTS:
            raise Failed(f"{sorted(names & SENT_BY_CLIENTS)} reached the forge: {entry}")
        agents |= {value for name, value in entry["headers"] if name == "user-agent"}
    if not all(agent.startswith("srm-mirror/") for agent in agents):
        raise Failed(f"clients' User-Agents reached the forge: {agents}")


@promise("with the forge gone, s 3 loads what is stored, and says of the rest that the forge cannot be reached", tests=LAST)
def _(stage):
    home = stage.home(f"{stage.base}/v3")
    must_say(home.deploy("demo__plain"), "plain 1.1.0 deployed")
    stage.forge.terminate()
    stage.forge.wait()
    again = stage.home(f"{stage.base}/v3")
    must_say(again.deploy("demo__plain"), "plain 1.1.0 deployed")
    must_say(again.deploy("demo__plain@1.1.0"), "plain 1.1.0 deployed")
    said = again.s3("registry", "detail", "--package-name", "demo__unheard", expect=None)
    must_say(said, "github cannot be reached for demo/unheard", "try again later")
    must_say(again.deploy("demo__unheard", expect=None), "status code 50")
