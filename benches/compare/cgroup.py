"""Limits the disk bandwidth of processes with control groups (v1 or v2), where that is permitted."""

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
READ_BYTES_PER_SECOND = 150_000_000


def whole_disk(directory):
    """Return MAJOR:MINOR of the disk of a directory. Limits apply to whole disks, not to partitions."""
    number = os.stat(directory).st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if (device / "partition").exists():
        device = device.resolve().parent
    return (device / "dev").read_text().strip()


class Throttle:
    """Context manager: limits the servers' reads from the disk to READ_BYTES_PER_SECOND in total; `note` reports success."""

    def __init__(self, directory, servers):
        self.directory, self.servers, self.note = directory, servers, ""
        self.is_v2 = (CGROUP_ROOT / "cgroup.controllers").exists()
        self.root = CGROUP_ROOT if self.is_v2 else CGROUP_ROOT / "blkio"
        self.group, self.homes = self.root / f"srm-compare-{os.getpid()}", {}

    def __enter__(self):
        try:
            self.limit()
            kind = "io.max" if self.is_v2 else "blkio of cgroup v1"
            self.note = f"the disk is limited to {READ_BYTES_PER_SECOND / 1e6:.0f} MB/s for the two together ({kind})"
        except OSError as error:
            self.note = f"the disk is not throttled: {error.strerror}: {error.filename}"
        return self

    def limit(self):
        device = whole_disk(self.directory)
        if self.is_v2:
            (self.root / "cgroup.subtree_control").write_text("+io")
        self.group.mkdir()
        if self.is_v2:
            (self.group / "io.max").write_text(f"{device} rbps={READ_BYTES_PER_SECOND}")
        else:
            (self.group / "blkio.throttle.read_bps_device").write_text(f"{device} {READ_BYTES_PER_SECOND}")
        for pid in [pid for server in self.servers for pid in server.pids()]:
            lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
            own = next(path for _, kind, path in lines if "blkio" in kind.split(",") or (self.is_v2 and not kind))
            self.homes[pid] = self.root / own.lstrip("/")
            (self.group / "cgroup.procs").write_text(str(pid))

    def __exit__(self, *_):
        for pid, home in self.homes.items():
            try:
                (home / "cgroup.procs").write_text(str(pid))
            except OSError:
                pass  # the process has ended
        try:
            self.group.rmdir()
        except OSError:
            pass  # was not created
