"""The promises of a fleet whose machines are isolated, and the faults that each must see."""

import hashlib
import io
import json
import shutil
import threading
import time
import zipfile
from collections import namedtuple
from email.utils import parsedate_to_datetime

from clients import Failed, Load, ask, at_once, await_
from scene import NODES_NAME

Promise = namedtuple("Promise", "name quick keep")
PROMISES = []
# A fault of the set-up, or of the proof itself, and the promises that must notice it.
Break = namedtuple("Break", "says configure seen_by")
BREAKS = {
    "no-fleet": Break("no node knows the others", {"no-fleet"}, ["one-fetch", "kills"]),
    "other-forge": Break("node c has a forge with other content, and no bucket", {"other-forge"}, ["one-fetch", "pin-race"]),
    "no-name": Break("the name has the address of one node", {"no-name"}, ["names"]),
    "no-bucket": Break("every node is alone", {"no-bucket"}, ["wiped-disk", "publications"]),
    "no-end": Break("no partition ends", {"no-end"}, ["partitions"]),
    "wrong-hour": Break("the clock is an hour off, not 5 minutes", {"wrong-hour"}, ["clock"]),
    "no-next-node": Break("clients ask no other node when one refuses", {"no-next-node"}, ["rolling-restart"]),
}
# How long the bucket is stopped, seconds.
STOPPED_SECONDS = 60
MIB = 1 << 20
CLOCK_SECONDS = 300


def promise(name, quick=True):
    """Adds a promise; `quick` ones are for every change."""

    def add(keep):
        PROMISES.append(Promise(name, quick, keep))
        return keep

    return add


def is_broken(scene, fault):
    return scene.broken is not None and fault in scene.broken.configure


def load(scene, new, **options):
    return Load([node.address for node in scene.nodes], scene.stored, new, **options)


def publish(scene, address, name, version, label=""):
    """Publishes a component that conforms to the package model; returns the answer and the zip's digest."""
    out = io.BytesIO()
    about = f"Edition: 3.0.0\nType: Component\nName: {name}\nProvider: [Acme]\nVersion: {version}\nDescription: A test.\n"
    files = {
        "publish.yaml": about + "Category: Test\nService: {}\nCommands: {}\nProperties: {}\n",
        "package.json": '{"main": "index.js"}', "index.js": "module.exports = 1;", "readme.md": "# A test\n", "label": label,
    }
    with zipfile.ZipFile(out, "w") as made:
        for path, text in files.items():
            made.writestr(path, text)
    body = out.getvalue()
    answer = ask(address, f"/{name}/zipball/{version}", method="PUT", body=body, token=scene.tokens[address])
    return answer, hashlib.sha256(body).hexdigest()


def must(condition, what):
    if not condition:
        raise Failed(what)


@promise("one-fetch")
def _(scene):
    """60 clients over three nodes on one cold zip: the forge is asked once, all digests are equal."""
    package = scene.big()
    addresses = [scene.nodes[number % 3].address for number in range(60)]
    with scene.slow_forge():
        answers = at_once([lambda address=address: ask(address, package.path) for address in addresses])
    wrong = [said for answer in answers if (said := answer.says(package))]
    must(not wrong, f"{len(wrong)} of 60: {wrong[:3]}")
    fetches = scene.fetches(package)
    must(fetches == 1, f"{fetches} fetches")
    return f"60 clients, 3 nodes, {fetches} fetch, one digest"


@promise("kills")
def _(scene):
    """Every node killed in turn in mid-fill: at most 2 fetches, all clients of other nodes get the right zip."""
    figures = []
    for killed in scene.nodes:
        package = scene.big()
        nodes = [node for node in scene.nodes for _ in range(4)]
        received, answers = [0] * len(nodes), [None] * len(nodes)

        def read(number, node):
            answers[number] = ask(node.address, package.path, progress=lambda n: received.__setitem__(number, n))

        with scene.slow_forge():
            threads = [threading.Thread(target=read, args=pair, daemon=True) for pair in enumerate(nodes)]
            for thread in threads:
                thread.start()
            await_("512 KiB at every client", lambda: min(received) >= MIB // 2 or any(answers))
            must(not any(answers), "an answer ended before the kill: nothing was tested")
            killed.kill()
            for thread in threads:
                thread.join()
        for node, answer in zip(nodes, answers):
            wrong = answer.says(package)
            if node is not killed:
                must(not wrong, f"{killed.name} was killed, a client of {node.name} got {wrong}")
            else:
                must(not answer.whole, f"a client of the killed node {killed.name} got a whole answer: {wrong or 'right'}")
        fetches = scene.fetches(package)
        must(fetches <= 2, f"{killed.name} was killed: {fetches} fetches")
        killed.start()
        scene.must_settle()
        for node in scene.nodes:
            scene.must_have(node, package)
        must(scene.fetches(package) == fetches, "fetched again after all")
        figures.append(f"{killed.name} {fetches}")
    return f"8 clients of other nodes each time, all right; fetches: {', '.join(figures)}"


@promise("wiped-disk")
def _(scene):
    """A node that has lost its disk asks the forge for nothing that is stored."""
    published, digest = publish(scene, scene.nodes[0].address, "acme-wiped", "1.0.0")
    must(published.status == 201, f"publishing: {published.status} {published.body[:200]}")
    scene.must_settle()
    node, before = scene.nodes[1], scene.fetches()
    node.kill()
    shutil.rmtree(node.dir)
    node.dir.mkdir()
    node.start()
    for package in scene.stored:
        scene.must_have(node, package)
    fetches = scene.fetches() - before
    must(fetches == 0, f"{fetches} fetches")
    own = node.ask("/acme-wiped/flat/1.0.0")
    must(own.status == 200 and own.sha256 == digest, f"what was published: {own.status} {own.sha256}")
    return f"{len(scene.stored)} stored zips and a published one, {fetches} fetches"


@promise("names")
def _(scene):
    """Nodes that are found by a name of DNS fetch once for all of them, also with one that has joined, and after one has left."""
    figures = []
    with scene.found_by_name():
        for names in ("ab", "abc", "bc"):
            scene.network.name(NODES_NAME, names[:1] if is_broken(scene, "no-name") else names)
            members = [node for node in scene.nodes if node.name in names]
            for node in scene.nodes:
                if node not in members and node.is_running():
                    node.stop()
                elif node in members and not node.is_running():
                    node.start()
            all_known = lambda: all(node.status()["fleet"]["nodes"] == len(members) for node in members)  # noqa: B023, E731
            await_(f"{len(members)} nodes to be known", all_known, 15)
            package, addresses = scene.big(), [members[number % len(members)].address for number in range(30)]
            with scene.slow_forge():
                answers = at_once([lambda address=address: ask(address, package.path) for address in addresses])  # noqa: B023
            wrong = [said for answer in answers if (said := answer.says(package))]
            must(not wrong, f"{len(wrong)} of 30: {wrong[:3]}")
            must(scene.fetches(package) == 1, f"{scene.fetches(package)} fetches by {names}")
            figures.append(", ".join(names))
    return f"1 fetch for 30 clients by each of: {'; '.join(figures)}"


@promise("pin-race", quick=False)
def _(scene):
    """Nodes that cannot reach each other are sent different content by their forges: one content is served, for ever."""
    figures, other = [], scene.nodes[2]
    scene.give_forge(other, True)
    for one, another in ("ab", "ac", "bc"):
        scene.network.cut(one, another)
    packages = []
    for first in (None, scene.nodes[0], other):
        package = scene.big()
        answers = [first.ask(package.path)] if first else []
        answers += at_once([lambda node=node: node.ask(package.path) for node in scene.nodes for _ in range(2)])
        whole = {answer.sha256 for answer in answers if answer.status == 200 and not answer.error}
        must(len(whole) == 1, f"{len(whole)} contents are served, first {first and first.name}: {[a.error or a.status for a in answers]}")
        figures.append(f"{sum(a.status == 200 and not a.error for a in answers)} of {len(answers)}")
        packages.append((package.path, *whole))
    scene.network.mend()
    scene.must_settle()
    scene.give_forge(other, False)
    for path, digest in packages:
        for node in scene.nodes:
            # A node does not ask again for a minute for what its forge had other content of.
            await_(f"node {node.name} to serve the content of all of {path}", lambda: node.ask(path).sha256 == digest, 90)
    return f"whole answers while cut off: {', '.join(figures)}; one digest each, on every node afterwards"


@promise("partitions")
def _(scene):
    """Each pair of nodes, and each node and the bucket, are cut off from each other under load."""
    figures, everything, empty, broken = [], list(scene.stored), 0, is_broken(scene, "no-end")
    for one, other in ["ab", "ac", "bc", ("a", "bucket"), ("b", "bucket"), ("c", "bucket")]:
        elsewhere, new = scene.new_elsewhere(9), scene.new(40)
        lost = scene.network.lost(one, other)
        with load(scene, new) as clients:
            await_("the load", lambda: clients.at_least(10, 2))
            scene.network.cut(one, other)
            at_cut = clients.so_far()
            clients.ask_for_elsewhere(elsewhere)

            def has_worked():
                now = clients.so_far()
                enough = all(now[key] - at_cut[key] >= (40 if key[0] == "stored" else 6) for key in now)
                # So many are only lost where one was waited for.
                return enough and clients.asked_elsewhere() == 27 and scene.network.lost(one, other) - lost >= 5

            await_(f"answers while {one} and {other} are cut off, and lost packets", has_worked, 120)
            if not broken:
                scene.network.mend()
        try:
            figures.append(f"{one}-{other}: {clients.check()}, {scene.network.lost(one, other) - lost} packets lost")
        except Failed as why:
            raise Failed(f"{one} and {other} cut off: {why}") from None
        everything += [*new, *elsewhere]
        empty = max(empty, scene.must_settle(15 if broken else 90))
    pins = scene.must_agree(everything)
    return f"queues empty after {empty:.1f} s at most, {pins} pins, the same everywhere\n" + "\n".join(figures)


@promise("bucket-stopped", quick=False)
def _(scene):
    """The bucket accepts connections and answers nothing for 60 s, under load."""
    elsewhere, new = scene.new_elsewhere(9), scene.new(100)
    with load(scene, new, new_pause=1) as clients:
        await_("the load", lambda: clients.at_least(10, 2))
        scene.stop_gateway()
        began = time.monotonic()
        clients.ask_for_elsewhere(elsewhere)
        await_("all nodes to notice", lambda: all(node.status()["shared"]["failure"] for node in scene.nodes))
        await_("a minute", lambda: time.monotonic() - began >= STOPPED_SECONDS, STOPPED_SECONDS + 5)
        must(clients.asked_elsewhere() == 27, f"{clients.asked_elsewhere()} of 27 answers for packages of other nodes")
        scene.continue_gateway()
        again = clients.so_far()
        await_("answers afterwards", lambda: all(n - again[key] >= 1 for key, n in clients.so_far().items()))
    figures = clients.check()
    empty = scene.must_settle()
    pins = scene.must_agree([*scene.stored, *elsewhere, *new])
    return f"{figures}; queues empty after {empty:.1f} s, {pins} pins, the same everywhere"


@promise("clock")
def _(scene):
    """The clock of a node is 5 minutes off, in both directions: everything works between it and the others."""
    node, figures = scene.nodes[1], []
    seconds = 3600 if is_broken(scene, "wrong-hour") else CLOCK_SECONDS
    for direction in (1, -1):
        node.stop()
        node.start(seconds_ahead=direction * seconds)
        off = parsedate_to_datetime(node.ask("/healthz").headers["date"]).timestamp() - time.time()
        must(abs(off - direction * seconds) < 10, f"the clock is {off:.0f} s off, not {direction * seconds}")
        new = scene.new(20)
        with load(scene, new) as clients:
            try_everything(scene, f"acme-clock-{'ahead' if direction > 0 else 'behind'}")
            await_("the load", lambda: clients.at_least(20, 10), 90)
        figures.append(f"{off:+.0f} s: {clients.check()}")
        scene.must_settle()
        scene.must_agree([*scene.stored, *new])
    return "published, listed, read, hidden, deleted, removed and blocked, tokens made and revoked\n" + "\n".join(figures)


def try_everything(scene, name):
    """What spreads between nodes, from each to the others, at the same time."""
    packages = scene.new(len(scene.nodes))
    at_once([
        lambda node=node, package=package: try_from(scene, node, f"{name}-{node.name}", package)
        for node, package in zip(scene.nodes, packages)
    ])


def everywhere(scene, what, is_so):
    """Waits until it is so on every node: 5 s are promised, or 4 for tokens."""
    await_(f"{what}, on every node", lambda: all(is_so(node) for node in scene.nodes), 15)


def try_from(scene, node, name, package):
    others = [other for other in scene.nodes if other is not node]
    key = (package.name, package.tag)
    for one in scene.nodes:
        scene.must_have(one, package)
    everywhere(scene, f"{package.name} stored", lambda one: key in one.stored())
    stored_at = time.monotonic()

    tags = lambda one: [row["tag_name"] for row in json.loads(one.ask(f"/{name}/releases").body)]  # noqa: E731
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        published, digest = publish(scene, node.address, name, version)
        must(published.status == 201, f"publishing on {node.name}: {published.status} {published.body[:200]}")
        for other in scene.nodes:
            got = other.ask(f"/{name}/flat/{version}")
            must(got.sha256 == digest, f"published on {node.name}, on {other.name}: {got.status} {got.body[:200]}")
    everywhere(scene, f"what {node.name} has published in the list", lambda one: "1.0.2" in tags(one))
    # Hidden and deleted by nodes that have not published it.
    body = json.dumps({"package": name, "version": "1.0.2"}).encode()
    hidden = others[0].ask("/-/hosted/yank", method="POST", body=body, token=scene.tokens[node.address], kind="application/json")
    must(hidden.status == 200, f"hiding on {others[0].name}: {hidden.status} {hidden.body[:200]}")
    deleted = others[1].ask(f"/{name}/zipball/1.0.0", method="DELETE", token=scene.tokens[node.address])
    must(deleted.status == 200, f"deleting on {others[1].name}: {deleted.status} {deleted.body[:200]}")
    everywhere(scene, f"what of {name} is hidden and deleted gone from the list", lambda one: tags(one) == ["1.0.1"])

    # Tokens: made here, good everywhere, revoked here, refused everywhere.
    secret = name.replace("acme-", "acme-secret-")
    made, digest = publish(scene, node.address, secret, "1.0.0")
    must(made.status == 201, f"publishing {secret} on {node.name}: {made.status} {made.body[:200]}")
    token = node.run("token", "create", f"--name=t-{name}").strip()
    reads = lambda one: one.ask(f"/{secret}/flat/1.0.0", token=token)  # noqa: E731
    everywhere(scene, f"the token of {node.name} good", lambda one: reads(one).sha256 == digest)
    node.run("token", "revoke", f"t-{name}")
    everywhere(scene, f"the token of {node.name} refused", lambda one: reads(one).status == 401)

    # Blocks and removals.
    status = lambda one: one.ask(package.path).status  # noqa: E731
    node.run("cache", "block", package.name, "--reason", "a test")
    everywhere(scene, f"the block of {node.name}", lambda one: status(one) == 403)
    node.run("cache", "unblock", package.name)
    everywhere(scene, f"the end of the block of {node.name}", lambda one: status(one) == 200)
    # Of what was stored in the 5 s since a node has last looked, the clocks decide.
    await_("a look of every node", lambda: time.monotonic() - stored_at > 7)
    node.run("cache", "rm", package.name, "--yes")
    everywhere(scene, f"what {node.name} has removed gone", lambda one: key not in one.stored())
    scene.must_have(others[0], package)


@promise("rolling-restart", quick=False)
def _(scene):
    """Each node in turn is replaced by the other version, and then back, under load."""
    new = scene.new(80)
    moves_on = not is_broken(scene, "no-next-node")
    with load(scene, new, moves_on=moves_on) as clients:
        for program in (scene.other_program, scene.program):
            for node in scene.nodes:
                before = clients.so_far()
                await_("the load", lambda: all(n >= before[key] + 5 for key, n in clients.so_far().items()))
                node.stop()
                node.start(program)
    figures = clients.check()
    empty = scene.must_settle()
    pins = scene.must_agree([*scene.stored, *new])
    return f"{scene.versions}: {figures}, {clients.counts['refused']} refused; queues empty after {empty:.1f} s, {pins} pins"


@promise("publications")
def _(scene):
    """100 publications of one version over three nodes, all different: one wins."""
    addresses = [scene.nodes[number % 3].address for number in range(100)]
    calls = [
        lambda address=address, number=number: publish(scene, address, "acme-race", "1.0.0", str(number))
        for number, address in enumerate(addresses)
    ]
    answers = at_once(calls)
    counts = {}
    for answer, _ in answers:
        counts[answer.status] = counts.get(answer.status, 0) + 1
    unexpected = next((answer for answer, _ in answers if answer.status not in (201, 409)), None)
    why = f": {unexpected.error or unexpected.body[:200]}" if unexpected else ""
    must(counts == {201: 1, 409: 99}, f"{counts}{why}")
    won = next(digest for answer, digest in answers if answer.status == 201)
    for node in scene.nodes:
        got = node.ask("/acme-race/flat/1.0.0")
        must(got.sha256 == won, f"node {node.name} serves another one: {got.status} {got.sha256}")
    return "1 x 201, 99 x 409; every node serves the one that won"
