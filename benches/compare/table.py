"""Turns samples into a table: medians, spread, ratios, and rows that miss a bound."""

import json
import operator
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "benches/README.md"
BEGIN, END = "<!-- table: benches/compare/run --update -->", "<!-- end of the table -->"
BUILT = "SRM_COMPARE_BUILT"
COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq}
COLUMNS = ["row", "mirror", "nginx", "varnish", "ratio", "must", "aim", ""]


def result(name, title, unit, samples, against=None, must=None, aim=None, note=""):
    """One line of the table. `samples` has a figure per round for each server. `judged` is the ratio of the mirror's median
    to that of `against`, or the mirror's median itself."""
    middle = {who: statistics.median(values) for who, values in samples.items() if values}
    judged = None
    if "mirror" in middle and (against is None or middle.get(against)):
        judged = middle["mirror"] / middle[against] if against else middle["mirror"]
    verdict = ""
    if judged is not None and must:
        ok = [bool(bound and COMPARE[bound[0]](judged, bound[1])) for bound in (must, aim)]
        verdict = "SHORT" if not ok[0] else "aim" if ok[1] else "must"
    return {
        "name": name, "title": title, "unit": unit, "samples": samples, "median": middle, "against": against,
        "spread": {who: [min(values), max(values)] for who, values in samples.items() if values},
        "judged": judged, "must": must, "aim": aim, "verdict": verdict, "note": note,
    }


def number(value):
    """Format with three or four significant digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cell(row, who):
    if who not in row["median"]:
        return ""
    low, high = row["spread"][who]
    middle = row["median"][who]
    return number(middle) if low == high else f"{number(middle)} ({number(low)}-{number(high)})"


def bound(row, which):
    return f"{row[which][0]} {row[which][1]:g}" if row[which] else ""


def lines(told):
    for row in told["rows"]:
        others = {who: row["against"] for who in ("nginx", "varnish")}
        title = f"{row['title']}, {row['unit']}"
        ratio = f"{row['judged']:.2f}" if row["judged"] is not None and row["against"] else ""
        cells = [cell(row, "mirror"), *(cell(row, who) for who in others)]
        if row["against"] not in (None, "nginx"):
            cells[1] = f"{row['against']}: {cell(row, row['against'])}"
        yield [title, *cells, ratio, bound(row, "must"), bound(row, "aim"), row["verdict"]]


def text(told):
    filled = [COLUMNS, *lines(told)]
    widths = [max(len(line[n]) for line in filled) for n in range(len(COLUMNS))]
    shown = [[c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths))] for line in filled]
    return "\n".join("  ".join(line).rstrip() for line in shown) + "\n" + notes(told)


def markdown(told):
    rule = ["---", *["---:"] * (len(COLUMNS) - 1)]
    marked = [[*line[:-1], f"**{line[-1]}**" if line[-1] == "SHORT" else line[-1]] for line in lines(told)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [COLUMNS, rule, *marked]) + "\n" + notes(told)


def notes(told):
    found = dict.fromkeys(f"{row['title']}: {row['note']}" for row in told["rows"] if row["note"])
    return "".join(f"\n- {note}" for note in found) + ("\n" if found else "")


def first_line(*command):
    try:
        ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return ""
    return next(iter((ran.stdout + ran.stderr).strip().splitlines()), "")


def about(arguments, mirror, seconds):
    """Machine, time and versions, without which a figure means nothing."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    kib = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])
    changed = subprocess.run(["git", "status", "--porcelain", "src", "Cargo.toml", "Cargo.lock"], cwd=ROOT, capture_output=True, text=True)
    wrk = re.search(r"\d+\.\d+\.\d+\S*", first_line("wrk", "-v"))
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "quick": arguments.quick, "rounds": arguments.rounds, "seconds_each": arguments.seconds, "took_s": round(seconds),
        "machine": f"{os.cpu_count()} x {model[1] if model else platform.machine()}, {kib >> 20} GiB",
        "load_before": arguments.load_before, "kernel": platform.release(), "congestion_control": "reno",
        "nginx": first_line("nginx", "-v").rpartition("/")[2],
        "varnish": first_line("varnishd", "-V").partition("varnish-")[2].split(" ")[0],
        "wrk": wrk[0] if wrk else "", "mirror": first_line(mirror, "--version"),
        "commit": first_line("git", "rev-parse", "--short", "HEAD") + (" and changes" if changed.stdout.strip() else "")
        + (", the mirror built elsewhere (BIN)" if os.environ.get(BUILT) == "elsewhere" else ""),
    }


def sentence(of):
    kind = "**a quick run: orders of magnitude only**; " if of["quick"] else ""
    return (
        f"{of['at']}, {kind}{of['rounds']} rounds of {of['seconds_each']:g} s, commit {of['commit']}. {of['machine']}, Linux {of['kernel']}, "
        f"load {of['load_before']:.1f} before it, {of['congestion_control']}, nginx {of['nginx']}, Varnish {of['varnish']}, wrk {of['wrk']}.\n"
    )


def publish(told, arguments):
    print(markdown(told) if arguments.markdown else text(told))
    print(sentence(told["about"]))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(told, indent=1) + "\n")
    if arguments.update:
        old = README.read_text()
        before, found, rest = old.partition(BEGIN)
        after = rest.partition(END)[2]
        if not found or END not in rest:
            sys.exit(f"{README} lacks its markers")
        README.write_text(f"{before}{BEGIN}\n\n{sentence(told['about'])}\n{markdown(told)}\n{END}{after}")
        draw = [sys.executable, str(ROOT / "benches/compare/draw"), "-", str(ROOT / "benches/compare.svg")]
        subprocess.run(draw, input=json.dumps(told), text=True, check=True)
