"""The promises of a mirror that packages are published on, each with the real 3.x client on port 80."""

import json
import re

from promises import application, listed, promise, update_in
from stage import Failed, must_equal, must_say

PROVIDER = "Alibaba Cloud"


def manifest(kind, name, version, **changes):
    """A publish.yaml that both the client and the package model accept; a key whose value is None is left out."""
    fields = {
        "Edition": "3.0.0", "Type": kind, "Name": name, "Version": version, "Provider": [PROVIDER],
        "Description": f"What {name} does", "HomePage": "https://example.com", "Tags": ["demo"], "Category": "Web",
        "Effective": "Public", "Organization": "acme", "Service": {"FC": {"Authorities": ["AliyunFCFullAccess"]}},
        "Commands": {"deploy": "Deploys it"}, "Properties": {"region": {"Type": "string"}},
        "Parameters": {"type": "object", "properties": {}}, **changes,
    }
    # JSON is YAML.
    return json.dumps({key: value for key, value in fields.items() if value is not None})


def write(folder, files):
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def component(home, name, version, code_file="src/index.js", main="src/index.js", **changes):
    """Writes a component that prints its version when it is deployed."""
    code = f"class It {{ async deploy() {{ console.log('{name} {version} deployed'); return {{}}; }} }}\nmodule.exports = It;\nmodule.exports.default = It;\n"
    write(home.project, {
        "publish.yaml": manifest("Component", name, version, **changes), "package.json": json.dumps({"main": main}),
        code_file: code, "readme.md": f"# {name}\n", "version.md": f"The notes of {version}.\n",
    })


def publisher(stage):
    """A client that has logged in with the code of an account that may publish."""
    home = stage.home(stage.hosted_registry, token=None)
    home.s3("registry", "login", "--token", stage.hosted_token)
    return home


def publish(stage, name, version, **changes):
    home = publisher(stage)
    component(home, name, version, **changes)
    must_say(home.s3("registry", "publish"), f"Publish package {name}@{version} success")


@promise("s 3 logs in and publishes a component, runs it from the mirror, publishes an update and runs that", named=True)
def _(stage):
    home = stage.home(stage.hosted_registry, token=stage.hosted_token)
    update_in(home, "acme-x", "acme-x", ("1.0.0", "1.1.0"), lambda version: publish(stage, "acme-x", version))
    must_say(home.deploy("acme-x@1.0.0"), "acme-x 1.0.0 deployed")


@promise("s 3 publishes an application, and inits it from the mirror", named=True)
def _(stage):
    home = publisher(stage)
    write(home.project, {
        "publish.yaml": manifest("Project", "acme-start", "1.0.0", Commands=None, Properties=None),
        "src/s.yaml": "edition: 3.0.0\nname: mine\naccess: default\nresources:\n  it:\n    component: fc3\n    props:\n      region: cn-hangzhou\n",
        "src/code/index.js": "exports.handler = () => 'hello';\n", "readme.md": "# mine\n", "version.md": "First.\n",
    })
    must_say(home.s3("registry", "publish"), "Publish package acme-start@1.0.0 success")
    said = home.run("curl", "-sSf", "-H", f"Authorization: Bearer {stage.hosted_token}", f"{stage.hosted_registry}/packages/acme-start/release/latest")
    latest = json.loads(said)["body"]
    must_equal((latest["tag_name"], latest["body"]), ("1.0.0", "First.\n"), "version and notes")
    user = stage.home(token=None)
    user.s3("init", "--uri", latest["zipball_url"], "-d", "app", "-y")
    application(user.project / "app")


def detail(home, name, **options):
    return home.s3("registry", "detail", "--package-name", name, **options)


@promise("s 3 registry list, list --private and detail show what was published on the mirror", named=True)
def _(stage):
    for version in ("1.0.0", "1.0.1", "dev"):
        publish(stage, "acme-listed", version)
    home = publisher(stage)
    rows = [row for row in listed(home) if row["name"] == "acme-listed"]
    row = {"type": "Component", "name": "acme-listed", "description": "What acme-listed does", "category": "Web", "tags": ["demo"]}
    must_equal(rows, [row], "the row of the list")
    private = listed(home, "--private")
    if row not in private or "fc3" in [one["name"] for one in private]:
        raise Failed(f"not the packages of the mirror itself: {private}")
    tags = re.findall(r"tag_name:\s+(\S+)", detail(home, "acme-listed"))
    must_equal(tags, ["dev", "1.0.1", "1.0.0"], "the versions")


@promise("s 3 deletes a version from the mirror, which is then gone and never used again", named=True)
def _(stage):
    for version in ("1.0.0", "1.1.0"):
        publish(stage, "acme-gone", version)
    home = publisher(stage)
    delete = ("registry", "delete", "--name", "acme-gone", "--version-id")
    must_say(home.s3(*delete, "1.1.0"), "Delete package acme-gone@1.1.0 success")
    must_equal(re.findall(r"tag_name:\s+(\S+)", detail(home, "acme-gone")), ["1.0.0"], "the versions")
    must_say(home.deploy("acme-gone"), "acme-gone 1.0.0 deployed")
    must_say(home.s3(*delete, "7.0.0", expect=1), "acme-gone has no published version 7.0.0")
    component(home, "acme-gone", "1.1.0")
    must_say(home.s3("registry", "publish", expect=1), "a deleted version is never used again")
    other = stage.home(stage.hosted_registry, token=stage._hosted_code("other", "read", "publish", "delete"))
    must_say(other.s3(*delete, "1.0.0", expect=1), "do not give this account the right")


@promise("s 3 prints why the mirror refuses a publication, and fails", named=True)
def _(stage):
    publish(stage, "acme-once", "1.1.0")
    reader = stage._hosted_code("reader", "read")
    for sentence, token, name, version, changes in (
        ("is not above the highest published version, 1.1.0", stage.hosted_token, "acme-once", "1.0.0", {}),
        ("is written Major.Minor.Patch", stage.hosted_token, "acme-once", "v2", {}),
        ("publish.yaml has no Properties", stage.hosted_token, "acme-once", "1.2.0", {"Properties": None}),
        ("do not give this account the right", reader, "acme-once", "1.2.0", {}),
        ("fc3 is a package on official", stage.hosted_token, "fc3", "9.0.0", {}),
        ("only to clients with a token", None, "acme-once", "1.2.0", {}),
        ("do not give this account the right", stage.hosted_token, "other-name", "1.0.0", {}),
    ):
        home = stage.home(stage.hosted_registry, token=token)
        component(home, name, version, **changes)
        said = home.s3("registry", "publish", expect=1)
        must_say(said, sentence)
        if "success" in said:
            raise Failed(f"the client says that it has published: {said}")
    home = publisher(stage)
    must_equal(re.findall(r"tag_name:\s+(\S+)", detail(home, "acme-once")), ["1.1.0"], "the versions")


@promise("s 3 fails where the mirror refuses its zip, registry detail says why, and the corrected one is published", named=True)
def _(stage):
    home = publisher(stage)
    component(home, "acme-unbuilt", "1.0.0", code_file="src/it.js", main="dist/index.js")
    said = home.s3("registry", "publish", expect=1)
    if "success" in said:
        raise Failed(f"the client says that it has published: {said}")
    shown = detail(home, "acme-unbuilt")
    must_say(shown, "failed_version: 1.0.0", "dist/index.js")
    must_equal(re.findall(r"tag_name:\s+(\S+)", shown), [], "the versions")
    other = stage.home(stage.hosted_registry, token=stage._hosted_code("onlooker", "read"))
    if "dist/index.js" in (seen := detail(other, "acme-unbuilt", expect=None)):
        raise Failed(f"who may not publish sees what failed: {seen}")
    publish(stage, "acme-unbuilt", "1.0.0")
    after = detail(home, "acme-unbuilt")
    must_equal(re.findall(r"tag_name:\s+(\S+)", after), ["1.0.0"], "the versions")
    if "failed_version" in after:
        raise Failed(f"what was published since is shown as failed: {after}")
    must_say(home.deploy("acme-unbuilt"), "acme-unbuilt 1.0.0 deployed")


@promise("s 3 gets a new code from the mirror by `registry login --retoken`, and the earlier one ends", named=True)
def _(stage):
    earlier = stage._hosted_code("renewing", "read")
    home = stage.home(stage.hosted_registry, token=None)
    home.s3("registry", "login", "--token", earlier)
    home.s3("registry", "login", "--retoken")
    kept = next((home.dir / "devs").rglob("serverless-devs-platform-V3.dat")).read_text()
    if kept == earlier or not kept.startswith("srmt_"):
        raise Failed("the client has no new code")
    listed(home)
    again = stage.home(stage.hosted_registry, token=earlier)
    must_say(again.s3("registry", "list", expect=None), "only to clients with a token")
