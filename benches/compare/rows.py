"""The rows of the table: the request, the servers, and the bounds."""

import time
from dataclasses import dataclass
from typing import Callable

import stage
from measure import cpu, load, wrk
from table import result


@dataclass
class Row:
    name: str
    title: str
    measure: Callable


ROWS = []


def row(name, title, **more):
    """Decorator: adds a measuring function to the table. It is called with the stage, the arguments, name and title."""

    def put(function):
        ROWS.append(Row(name, title, lambda scene, arguments: function(scene, arguments, name, title, **more)))
        return function

    return put


def in_turn(scene, names, rounds, measure_one):
    """Measure A B C A B C ..., so that other load on the machine affects all. Return samples by figure and server."""
    samples = {}
    for turn in range(rounds):
        for name in names:
            for figure, value in measure_one(scene.servers[name], turn).items():
                samples.setdefault(figure, {}).setdefault(plain(name), []).append(value)
    return samples


def plain(name):
    return name.removesuffix("-log")


def judge(name, title, samples, bounds, against="nginx", note=""):
    """One line per figure; `bounds` maps a figure to its required and its desired bound."""
    return [
        result(f"{name} {figure}", title, figure, by_server, against, *bounds.get(figure, (None, None)), note)
        for figure, by_server in samples.items()
    ]


RATE, CPU_REQUEST, SPEED, CPU_GB = "requests/s", "CPU us/request", "MB/s", "CPU ms/GB"


def written(scene, name):
    """Number of lines of an access log, after its buffers have been written."""
    time.sleep(1.2)
    with open(scene.access_log(name), "rb") as log:
        return sum(part.count(b"\n") for part in iter(lambda: log.read(1 << 20), b""))


def json_row(scene, arguments, name, title, connections, names=("mirror", "nginx", "varnish")):
    lines = {name: written(scene, name) for name in names if name.endswith("-log")}

    def one(server, _):
        before = cpu(server)
        done = wrk(server.url + stage.JSON, connections, arguments.seconds)
        figures = {RATE: done["rate"], CPU_REQUEST: (cpu(server) - before) * 1e6 / done["requests"], "p99 ms": done["p99_ms"]}
        if server.name in lines:  # a log that drops lines would look cheap
            now = written(scene, server.name)
            figures["lines logged per 100 requests"] = (now - lines[server.name]) * 100 / done["requests"]
            lines[server.name] = now
        return figures

    bounds = {RATE: ((">=", 1.10), (">=", 1.25)), CPU_REQUEST: (("<=", 0.85), ("<=", 0.70))}
    return judge(name, title, in_turn(scene, names, arguments.rounds, one), bounds)


row("json-64", "JSON hit, 64 connections", connections=64)(json_row)
row("json-1000", "JSON hit, 1000 connections", connections=1000)(json_row)
row("json-log", "JSON hit, 64 connections, access log on", connections=64, names=("mirror-log", "nginx-log"))(json_row)


@row("list-gzip", "list of 1,000 releases with gzip, 16 connections")
def list_gzip(scene, arguments, name, title):
    def one(server, _):
        before = cpu(server)
        done = wrk(server.url + stage.LIST, 16, arguments.seconds, field="Accept-Encoding: gzip")
        return {RATE: done["rate"], CPU_REQUEST: (cpu(server) - before) * 1e6 / done["requests"], "p99 ms": done["p99_ms"]}

    bounds = {RATE: ((">=", 0.90), (">=", 1.0)), CPU_REQUEST: (("<=", 1.20), ("<=", 1.05))}
    return judge(name, title, in_turn(scene, ("mirror", "nginx"), arguments.rounds, one), bounds)


def zip_row(scene, arguments, name, title, package, faster=1.0, mode="drop"):
    def one(server, _):
        before = cpu(server)
        done = load(server.url + stage.zip_path(package), mode=mode, connections=16, seconds=arguments.seconds)
        return {SPEED: done["bytes"] / done["seconds"] / 1e6, CPU_GB: (cpu(server) - before) * 1e12 / done["bytes"]}

    bounds = {SPEED: ((">=", 0.90), (">=", faster)), CPU_GB: (("<=", 1.20), ("<=", 1.05))}
    return judge(name, title, in_turn(scene, ("mirror", "nginx", "varnish"), arguments.rounds, one), bounds)


row("zip-1", "zip hit from disk, 1 MiB, 16 connections", package="z1")(zip_row)
row("zip-10", "zip hit from disk, 10 MiB, 16 connections", package="z10", faster=1.1)(zip_row)
row("zip-100", "zip hit from disk, 100 MiB, 16 connections", package="z100")(zip_row)
row("zip-copy", "zip hit from disk, 10 MiB, 16 connections, clients copy", package="z10", faster=1.1, mode="copy")(zip_row)
