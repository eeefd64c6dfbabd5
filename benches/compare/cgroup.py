"""A slower disk for some processes, where control groups of version 2 permit it."""

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LIMIT = 150_000_000


class Throttle:
    """While it is entered, the servers' processes read at most LIMIT bytes a second from the disk; `told` says if so."""

    def __init__(self, directory, servers, root=ROOT):
        self.directory, self.servers, self.root = directory, servers, root
        self.group, self.homes, self.told = root / f"srm-compare-{os.getpid()}", {}, ""

    def __enter__(self):
        try:
            if "io" not in (self.root / "cgroup.controllers").read_text().split():
                raise OSError("cgroup v2 has no io controller here")
            device = os.stat(self.directory).st_dev
            (self.root / "cgroup.subtree_control").write_text("+io")
            self.group.mkdir()
            (self.group / "io.max").write_text(f"{os.major(device)}:{os.minor(device)} rbps={LIMIT}")
            for pid in [pid for server in self.servers for pid in server.pids()]:
                own = Path(f"/proc/{pid}/cgroup").read_text().partition("::")[2].strip().lstrip("/")
                (self.group / "cgroup.procs").write_text(str(pid))
                self.homes[pid] = self.root / own
            self.told = f"disk held to {LIMIT / 1e6:.0f} MB/s by io.max"
        except OSError as why:
            self.told = f"the disk is not throttled (io.max: {why.strerror or why})"
        return self

    def __exit__(self, *_):
        for pid, home in self.homes.items():
            try:
                (home / "cgroup.procs").write_text(str(pid))
            except OSError:
                pass  # it ended
        if self.group.exists():
            try:
                self.group.rmdir()
            except OSError:
                pass  # still in use; it is empty when the servers have ended
