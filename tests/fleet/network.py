"""Namespaces of this run alone: one per machine of the proof, all on one bridge. They end with this program."""

import os
import shutil
import subprocess
import sys

INSIDE = "SRM_FLEET_NAMESPACE"
# The clients are in the namespace of this program.
CLIENTS = "10.86.0.100"
MACHINES = {"a": "10.86.0.1", "b": "10.86.0.2", "c": "10.86.0.3", "bucket": "10.86.0.10", "forge": "10.86.0.20"}


def enter():
    """Runs this program again in a network of its own; returns inside, or False where that is not permitted."""
    if INSIDE in os.environ:
        return True
    for flags in (["-m", "-n"], ["-U", "-r", "-m", "-n"]):
        command = ["unshare", *flags]
        permitted = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/run"], capture_output=True)
        if permitted.returncode == 0:
            os.environ[INSIDE] = " ".join(flags)
            os.execvp("unshare", [*command, sys.executable, *sys.argv])
    return False


def inside(machine):
    """The words before a command that is to run on a machine."""
    return ["nsenter", f"--net=/run/netns/{machine}"]


def must(*command, given=None):
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """The machines and their links."""

    def __init__(self):
        os.makedirs("/run/netns", exist_ok=True)
        must("mount", "-t", "tmpfs", "none", "/run/netns")
        must("ip", "netns", "add", "switch")
        must("ip", "-n", "switch", "link", "add", "bridge", "type", "bridge")
        must("ip", "-n", "switch", "link", "set", "bridge", "up")
        for machine, address in MACHINES.items():
            must("ip", "netns", "add", machine)
            self._plug(machine, address, ["ip", "-n", machine])
            # What is dropped when it arrives is lost in silence; dropped when it is sent, it would be an error there.
            table = "table inet cut {\n set from { type ipv4_addr; }\n counter lost { }\n"
            chain = " chain arriving { type filter hook input priority 0; ip saddr @from counter name lost drop; }\n}\n"
            must(*inside(machine), "nft", "-f", "-", given=table + chain)
        self._plug("clients", CLIENTS, ["ip"])

    def close(self):
        for machine in (*MACHINES, "switch"):
            subprocess.run(["ip", "netns", "delete", machine], capture_output=True)
        subprocess.run(["ip", "link", "delete", "eth0"], capture_output=True)
        for mounted in ("/etc/hosts", "/etc/nsswitch.conf", "/run/netns"):
            subprocess.run(["umount", mounted], capture_output=True)

    def _plug(self, machine, address, ip):
        """Gives a machine its address, on a cable to the bridge."""
        must(*ip, "link", "add", "eth0", "type", "veth", "peer", "name", machine, "netns", "switch")
        must("ip", "-n", "switch", "link", "set", "dev", machine, "master", "bridge", "up")
        must(*ip, "address", "add", f"{address}/24", "dev", "eth0")
        must(*ip, "link", "set", "lo", "up")
        must(*ip, "link", "set", "eth0", "up")

    def cut(self, one, other):
        """From now on, every packet between two machines is lost."""
        for here, there in ((one, other), (other, one)):
            must(*inside(here), "nft", "add", "element", "inet", "cut", "from", f"{{ {MACHINES[there]} }}")

    def mend(self):
        """No packet is lost any more."""
        for machine in MACHINES:
            must(*inside(machine), "nft", "flush", "set", "inet", "cut", "from")

    def lost(self, *machines):
        """How many packets these machines have lost."""
        said = [must(*inside(one), "nft", "list", "counter", "inet", "cut", "lost").split() for one in machines]
        return sum(int(words[words.index("packets") + 1]) for words in said)

    def name(self, name, machines):
        """From now on, a name has the addresses of these machines, for every program of this run."""
        hosts = "127.0.0.1 localhost\n" + "".join(f"{MACHINES[machine]} {name}\n" for machine in machines)
        for file, text in (("hosts", hosts), ("nsswitch.conf", "hosts: files\n")):
            own = f"/run/netns/.{file}"
            is_new = not os.path.exists(own)
            with open(own, "w") as out:
                out.write(text)
            if is_new:
                must("mount", "--bind", own, f"/etc/{file}")

    def rate(self, bits):
        """Limits what the forge sends, bits a second; None is no limit."""
        at = ["dev", "eth0", "root"]
        if bits is None:
            subprocess.run([*inside("forge"), "tc", "qdisc", "del", *at], capture_output=True)
        else:
            limit = ["tbf", "rate", str(bits), "burst", "65536", "latency", "2s"]
            must(*inside("forge"), "tc", "qdisc", "replace", *at, *limit)


# What is run, and the Debian package that has it.
PROGRAMS = {
    "ip": "iproute2", "tc": "iproute2", "nft": "nftables", "nsenter": "util-linux", "openssl": "openssl", "curl": "curl",
    "radosgw": "radosgw", "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "ceph": "ceph-common",
}


def missing_packages():
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    return sorted(missing | (set() if faketime() else {"libfaketime"}))


def faketime():
    """The library that shifts a program's clock; None where it is not installed."""
    from glob import glob

    return next(iter(glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)


def clock(seconds):
    """The variables of a program whose clock is so many seconds ahead."""
    if not seconds:
        return {}
    shift = {"FAKETIME": f"{seconds:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": faketime(), **shift}
