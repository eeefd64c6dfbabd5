"""Rows with a setup of their own: TLS, the flat view, slow clients, a cold start, many zips, cold pages."""

import contextlib
import gzip
import io
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import config
import stage
from cgroup import Throttle
from measure import (
    cpu, curl, curls, disk_read, get, is_hit, load, load_command, memory, read_load, read_wrk, say, sha256, started, wrk, wrk_command,
)
from rows import CPU_GB, RATE, SPEED, in_turn, judge, row
from table import result

FLAT = "/bench/z500/flat/v1.0.0"
CLIENTS, SLOW_CLIENTS = 50, 200


def secure_url(name):
    port = {"nginx": config.NGINX_TLS, "mirror": config.MIRROR_TLS}[name]
    return f"https://localhost:{port}{stage.zip_path('z10')}"


def verify_tls(scene):
    expected = sha256((scene.dir / "files/archive/z10/v1.0.0.zip").read_bytes())
    for name in ("nginx", "mirror"):
        if sha256(curl(secure_url(name), scene.dir / "tls/ca.pem")) != expected:
            raise stage.Broken(f"{name} over TLS: the bytes differ from the origin's")


def verify_flat(scene):
    """Check that the flat view has the same files without their top folder."""
    status, headers, body = get(scene.servers["mirror"].url + FLAT)
    if status != 200 or not is_hit(headers):
        raise stage.Broken(f"flat view: {status}, {headers}")
    with zipfile.ZipFile(io.BytesIO(body)) as flat, zipfile.ZipFile(scene.dir / "files/archive/z500/v1.0.0.zip") as whole:
        found = {name: flat.read(name) for name in flat.namelist()}
        if found != {name.partition("/")[2]: whole.read(name) for name in whole.namelist()}:
            raise stage.Broken("flat view: the files differ from the zip's")


def verify_lists(scene):
    """Check that nginx and the mirror send the same lists from their caches, one of them compressed."""
    for path, file in (stage.LIST, "list.json.gz"), (stage.LONG_LIST, "longlist.json"):
        expected = (scene.dir / "files" / file).read_bytes()
        compressed = file.endswith(".gz")
        for name in ("nginx", "mirror"):
            for turn in range(3):
                fields = {"Accept-Encoding": "gzip"} if compressed else {}
                status, headers, body = get(scene.servers[name].url + path, fields)
                if status != 200 or body != expected or (headers.get("content-encoding") == "gzip") != compressed:
                    raise stage.Broken(f"{name} {path}: {status}, {len(body)} bytes, {headers}")
                if turn and is_hit(headers):
                    break
            else:
                raise stage.Broken(f"{name} {path}: no hit from its cache: {headers}")
        plain = gzip.decompress(expected) if compressed else expected
        if len(json.loads(plain)) != 1000:
            raise stage.Broken(f"{path} has not 1,000 releases")


def verify_logs(scene):
    """Check that both logging servers write a line per request; the row would be meaningless otherwise."""
    deadline = time.monotonic() + 10
    while not all(scene.access_log(name).read_bytes().count(b"\n") for name in ("mirror-log", "nginx-log")):
        if time.monotonic() > deadline:
            raise stage.Broken("an access log stays empty")
        time.sleep(0.1)


@row("tls", "zip hit over TLS 1.3 (AES-128-GCM), 10 MiB")
def tls(scene, arguments, name, title):
    # Four curl processes may limit the speed; the row measures the server's CPU time.
    each = max(5, round(25 * arguments.seconds))

    def one(server, _):
        before = cpu(server)
        done = curls(secure_url(server.name), 4, each, scene.dir / "tls/ca.pem")
        return {CPU_GB: (cpu(server) - before) * 1e12 / done["bytes"], SPEED: done["bytes"] / done["seconds"] / 1e6}

    return judge(name, title, in_turn(scene, ("mirror", "nginx"), arguments.few, one), {CPU_GB: (("<=", 0.80), ("<=", 0.65))})


@row("flat", "flat view hit, 10 MiB with 500 files, against our plain zip")
def flat(scene, arguments, name, title):
    samples = {}
    server = scene.servers["mirror"]
    for _ in range(arguments.rounds):
        for who, path in ("mirror", FLAT), ("plain zip", stage.zip_path("z500")):
            before = cpu(server)
            done = load(server.url + path, mode="drop", connections=16, seconds=arguments.seconds)
            figures = {CPU_GB: (cpu(server) - before) * 1e12 / done["bytes"], SPEED: done["bytes"] / done["seconds"] / 1e6}
            for figure, value in figures.items():
                samples.setdefault(figure, {}).setdefault(who, []).append(value)
    return judge(name, title, samples, {CPU_GB: (("<=", 3.5), ("<=", 2.0))}, "plain zip")


def growth_during(server, command, url):
    """Largest growth of anonymous memory in MiB while a load runs, and the result of the load."""
    before = largest = memory(server)
    with started(command) as process:
        while process.poll() is None:
            largest = max(largest, memory(server))
            time.sleep(0.1)
        output, errors = process.communicate()
    return largest - before, read_load(output or errors, url)


def slow_row(scene, arguments, name, title, path, most, aim):
    samples = {}
    for _ in range(1 if arguments.quick else min(arguments.rounds, 3)):
        for who in ("mirror", "nginx"):
            # An allocator keeps freed memory, so each round starts with a fresh process that served a hit.
            scene.restart(who)
            server = scene.servers[who]
            for _ in range(2):
                get(server.url + path)
            options = {"mode": "drop", "connections": SLOW_CLIENTS, "slow": 200_000, "seconds": max(3, arguments.seconds)}
            grown, done = growth_during(server, load_command(server.url + path, **options), server.url)
            # The clients must make progress: memory of stalled connections means nothing.
            if done["bytes"] < SLOW_CLIENTS * options["slow"] * options["seconds"] / 2:
                raise stage.Broken(f"{who}: the slow clients had only {done['bytes']:,} bytes")
            samples.setdefault(who, []).append(grown)
    return [result(f"{name} memory", title, "growth of anonymous memory, MiB", samples, None, ("<=", most), ("<=", aim))]


row("slow", f"{SLOW_CLIENTS} slow clients x 100 MiB", path=stage.zip_path("z100"), most=16, aim=8)(slow_row)
row("slow-list", f"{SLOW_CLIENTS} slow readers of a list of 10 MB", path=stage.LONG_LIST, most=16, aim=8)(slow_row)


@row("cold", f"{CLIENTS} clients on one cold 100 MiB zip")
def cold(scene, arguments, name, title):
    def one(server, turn):
        package = f"cold{turn}"
        archive = scene.dir / "files/archive" / package / "v1.0.0.zip"
        if not archive.exists():
            scene.publish(package, "v1.0.0", 100 * stage.MIB)
        url, seen = server.url + stage.zip_path(package), len(scene.fetched())
        done = load(url, mode="drop", connections=CLIENTS, requests=CLIENTS)
        time.sleep(0.3)  # the origin logs a response when it is complete
        fetches = [fetch for fetch in scene.fetched()[seen:] if package in fetch[2]]
        load(url, connections=1, requests=1, sha256=sha256(archive.read_bytes()))
        if not fetches:
            raise stage.Broken(f"{server.name}: the origin received no request for {package}")
        return {
            "upstream fetches": len(fetches),
            "last first byte after the upstream's, ms": (done["last_first_byte_at"] - fetches[0][0]) * 1000,
            "seconds in all": done["seconds"],
        }

    samples = in_turn(scene, ("mirror", "nginx", "varnish"), arguments.few, one)
    bounds = {
        "upstream fetches": (None, ("==", 1), None),
        "last first byte after the upstream's, ms": (None, ("<=", 20), ("<=", 10)),
        "seconds in all": ("nginx", ("<=", 0.70), ("<=", 0.55)),
    }
    return [result(f"{name} {figure}", title, figure, by, *bounds[figure]) for figure, by in samples.items()]


def memory_disk(bytes_):
    """/dev/shm if it has that many bytes free, else None."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and shutil.disk_usage(shared).free > bytes_ else None


def seeded(scene, where, count):
    """Return a cache directory with `count` zips, created if missing, and the number of its zips."""
    where = Path(where).resolve()
    if not (where / "format").exists():
        say(f"  storing {count:,} zips")
        # Every zip is synced before the next one. In memory that takes one minute instead of ten; then the result is copied.
        with tempfile.TemporaryDirectory(prefix="srm-seed-", dir=memory_disk(count * 24 << 10)) as made:
            seed = subprocess.run([scene.programs["seed"], f"{made}/cache", str(count), "4096"], capture_output=True, text=True)
            copy = seed.returncode or subprocess.run(["cp", "-a", f"{made}/cache", where], capture_output=True, text=True).returncode
        if copy:
            raise stage.Broken(f"seed: {seed.stderr} {copy}")
    return where, sum(1 for name in where.glob("blobs/*/*") if name.suffix != ".json")


def first_hit(scene, name, port, cache, count):
    """Milliseconds from exec to the end of the first hit."""
    begun = time.monotonic()
    server = scene.start_mirror(name, port, cache=cache, wait=False)
    while True:
        try:
            status, headers, _ = get(f"{server.url}/seed/p{count - 1}/zipball/v1.0.0")
            break
        except ConnectionError:
            if not server.alive() or time.monotonic() > begun + 120:
                raise stage.Broken(f"{name}: {scene.said(name)}") from None
            time.sleep(0.001)
    took = (time.monotonic() - begun) * 1000
    if status != 200 or not is_hit(headers):
        raise stage.Broken(f"{name}: the first response is no hit: {status} {headers}")
    return took


def settle(server, seconds=60):
    """Wait until a server is idle for a second: after a start it scans its folders."""
    deadline, before = time.monotonic() + seconds, cpu(server)
    while time.monotonic() < deadline:
        time.sleep(1)
        now = cpu(server)
        if now - before < 0.02:
            return
        before = now


@row("many", "a mirror with many cached zips: start, memory, growth")
def many(scene, arguments, name, title):
    wanted = 4_000 if arguments.quick else 100_000
    large, count = seeded(scene, os.environ.get("CACHE100K") or scene.dir / "large", wanted)
    small, few = seeded(scene, scene.dir / "small", 100)
    label = f"{count:,} cached zips"
    starts, resident, anonymous = [], [], []
    for turn in range(arguments.rounds):
        if turn:
            scene.stop("large")
        starts.append(first_hit(scene, "large", config.LARGE, large, count))
        settle(scene.servers["large"])
        resident.append(memory(scene.servers["large"], "VmRSS"))
        anonymous.append(memory(scene.servers["large"]))
    scene.start_mirror("small", config.SMALL, cache=small)
    # 100 zips of each are hot in memory; only the total number of zips differs.
    scripts = {"small": few // 100, "large": count // 100}
    for who, step in scripts.items():
        script = scene.dir / f"{who}.lua"
        script.write_text(
            "local n = 0\nrequest = function()\n  n = (n + 1) % 100\n"
            f"  return wrk.format('GET', '/seed/p' .. n * {step} .. '/zipball/v1.0.0')\nend\n"
        )
        for n in range(100):
            get(f"{scene.servers[who].url}/seed/p{n * step}/zipball/v1.0.0")
        settle(scene.servers[who])

    def one(server, _):
        return {RATE: wrk(server.url, 64, arguments.seconds, scene.dir / f"{server.name}.lua")["rate"]}

    rates = in_turn(scene, ("large", "small"), arguments.rounds, one)[RATE]
    scene.stop("large"), scene.stop("small")
    note = "" if count >= 100_000 else f"measured with {count:,} zips, not 100,000"
    return [
        result(f"{name} start", f"start with {label}", "ms until the first hit", {"mirror": starts}, None, ("<=", 300), ("<=", 100), note),
        result(f"{name} idle", f"idle with {label}", "resident MiB", {"mirror": resident}, None, ("<=", 100), ("<=", 60), note),
        result(f"{name} idle anonymous", f"idle with {label}", "of it anonymous, MiB", {"mirror": anonymous}),
        result(
            f"{name} growth", f"hits of 4 KiB with {label}, against 100", RATE,
            {"mirror": rates["large"], "100 zips": rates["small"]}, "100 zips", (">=", 0.95), None, note,
        ),
    ]


class DroppedPages:
    """Context manager: repeatedly drops the large files of a cache from the page cache."""

    def __init__(self, cache):
        self.files = [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > stage.MIB // 2]
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.drop, daemon=True)

    def drop(self):
        opened = [os.open(path, os.O_RDONLY) for path in self.files]
        for file in opened:
            os.fsync(file)  # only clean pages can be dropped
        while not self.done.is_set():
            for file in opened:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            self.done.wait(0.25)  # a kernel does not drop pages that were read milliseconds ago
        for file in opened:
            os.close(file)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


@row("pages", "16 hot JSON clients beside 4 readers of cold 100 MiB zips")
def pages(scene, arguments, name, title):
    seconds, disk_rates = max(2, arguments.seconds), []
    with contextlib.ExitStack() as clients, Throttle(scene.dir, [scene.servers[who] for who in ("mirror", "nginx")]) as throttle:

        def one(server, _):
            hot_url, bulk_url = server.url + stage.JSON, server.url + stage.zip_path("z100")
            alone = wrk(hot_url, 16, 1, threads=1)
            with DroppedPages(scene.dir / f"{server.name}-cache"):
                time.sleep(0.1)
                before = disk_read(server)
                hot = clients.enter_context(started(wrk_command(hot_url, 16, seconds, threads=1)))
                bulk = load(bulk_url, mode="drop", connections=4, seconds=seconds)
                beside = read_wrk(hot.communicate()[0], hot_url)
                after = disk_read(server)
            if before is not None and after is not None:
                disk_rates.append((server.name, (after - before) / bulk["seconds"] / 1e6))
            return {
                "hot p99 alone, ms": alone["p99_ms"], "hot p99 beside, ms": beside["p99_ms"],
                f"hot {RATE}": beside["rate"], f"cold {SPEED}": bulk["bytes"] / bulk["seconds"] / 1e6,
            }

        samples = in_turn(scene, ("mirror", "nginx"), arguments.few, one)
    note = throttle.note
    for who in ("mirror", "nginx"):
        if rates := [rate for by, rate in disk_rates if by == who]:
            note += f"; {who} read {statistics.median(rates):,.0f} MB/s from the disk"
    return judge(name, title, samples, {}, note=note)
