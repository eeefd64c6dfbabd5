"""A slower disk for some processes, by control groups of either version, where that is permitted."""

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LIMIT = 150_000_000


def whole_disk(directory):
    """MAJOR:MINOR of the disk that holds a directory; limits are a whole disk's, not a partition's."""
    number = os.stat(directory).st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if (device / "partition").exists():
        device = device.resolve().parent
    return (device / "dev").read_text().strip()


class Throttle:
    """While it is entered, the servers' processes read at most LIMIT bytes a second from the disk; `told` says if so."""

    def __init__(self, directory, servers):
        self.directory, self.servers, self.told = directory, servers, ""
        self.newer = (ROOT / "cgroup.controllers").exists()
        self.root = ROOT if self.newer else ROOT / "blkio"
        self.group, self.homes = self.root / f"srm-compare-{os.getpid()}", {}

    def __enter__(self):
        try:
            self.limit()
            kind = "io.max" if self.newer else "blkio of cgroup v1"
            self.told = f"the disk is held to {LIMIT / 1e6:.0f} MB/s for the two together ({kind})"
        except OSError as why:
            self.told = f"the disk is not throttled: {why.strerror}: {why.filename}"
        return self

    def limit(self):
        device = whole_disk(self.directory)
        if self.newer:
            (self.root / "cgroup.subtree_control").write_text("+io")
        self.group.mkdir()
        if self.newer:
            (self.group / "io.max").write_text(f"{device} rbps={LIMIT}")
        else:
            (self.group / "blkio.throttle.read_bps_device").write_text(f"{device} {LIMIT}")
        for pid in [pid for server in self.servers for pid in server.pids()]:
            lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
            own = next(path for _, kind, path in lines if "blkio" in kind.split(",") or (self.newer and not kind))
            self.homes[pid] = self.root / own.lstrip("/")
            (self.group / "cgroup.procs").write_text(str(pid))

    def __exit__(self, *_):
        for pid, home in self.homes.items():
            try:
                (home / "cgroup.procs").write_text(str(pid))
            except OSError:
                pass  # it ended
        try:
            self.group.rmdir()
        except OSError:
            pass  # never made
