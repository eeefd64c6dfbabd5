"""The clients: single requests, and a load of them."""

import hashlib
import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import waiting
from waiting import Failed

PORT = 8080
# A client waits so long for the next bytes, seconds.
PATIENCE = 60


def await_(what, condition, seconds=60):
    """As `waiting.await_`: a fleet takes longer than one mirror."""
    return waiting.await_(what, condition, seconds)


@dataclass
class Answer:
    """What became of a request."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    sha256: str = ""
    # True for a body that ended as its framing says.
    whole: bool = False
    # Why the answer broke off, or none came.
    error: str = ""
    seconds: float = 0

    @property
    def refused(self):
        """True where not the head of an answer came."""
        return not self.status

    def says(self, package):
        """What is wrong with it as the zip of a package; empty for nothing."""
        if self.error:
            return f"{self.status or 'no answer'}: {self.error}"
        if self.status != 200:
            return f"{self.status}: {self.body[:200].decode(errors='replace')}"
        return "" if self.sha256 == package.sha256 else f"WRONG BYTES: {len(self.body)} bytes, SHA-256 {self.sha256}"


def ask(address, path, method="GET", body=None, token=None, kind=None, progress=None):
    """One request on a connection of its own. `kind` is the type of the body; `progress` is called with the length
    of what has come."""
    answer, began = Answer(), time.monotonic()
    connection = http.client.HTTPConnection(address, PORT, timeout=PATIENCE)
    try:
        fields = {"Authorization": token and f"Bearer {token}", "Content-Type": kind}
        connection.request(method, path, body, {name: value for name, value in fields.items() if value})
        response = connection.getresponse()
        answer.status = response.status
        answer.headers = {name.lower(): value for name, value in response.getheaders()}
        received = bytearray()
        while part := response.read(65536):
            received += part
            if progress:
                progress(len(received))
        answer.body = bytes(received)
        answer.sha256 = hashlib.sha256(received).hexdigest()
        # A chunked body that breaks off is an exception, one with a length is not.
        length = answer.headers.get("content-length")
        answer.whole = length is None or int(length) == len(received)
        if not answer.whole:
            answer.error = f"{len(received)} bytes of {length}"
    except (OSError, http.client.HTTPException) as why:
        answer.error = f"{type(why).__name__}: {why}"
    finally:
        connection.close()
    answer.seconds = time.monotonic() - began
    return answer


def at_once(calls):
    """Runs all calls in threads that begin together; returns their results in order, or raises what one has raised."""
    results, raised, start = [None] * len(calls), [], threading.Barrier(len(calls))

    def run(number):
        start.wait()
        try:
            results[number] = calls[number]()
        except Exception as why:  # raised again below
            raised.append(why)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return results


class Load:
    """Clients that ask every node for stored and for new packages, until the block ends.

    `stored` are packages that every node has soon; `new` are those that no node has: every node is asked for them in the same
    order, with a pause after each, seconds. A client that `moves_on` asks the next node when one refuses."""

    STORED_CLIENTS = 2
    PAUSE = 0.05

    def __init__(self, addresses, stored, new, new_pause=0.3, moves_on=False):
        self.addresses, self.stored, self.new = list(addresses), stored, new
        self.new_pause, self.moves_on = new_pause, moves_on
        self.ended, self.lock = threading.Event(), threading.Lock()
        self.counts, self.wrong, self.failed, self.slowest = Counter(), [], [], Counter()

    def __enter__(self):
        self.threads = []
        for number, address in enumerate(self.addresses):
            for client in range(self.STORED_CLIENTS):
                # Each begins elsewhere, so that all are asked for at any time.
                order = self.stored[(number + client * 5) % len(self.stored):] + self.stored
                self.threads.append(threading.Thread(target=self._run, args=("stored", address, order), daemon=True))
            self.threads.append(threading.Thread(target=self._run, args=("new", address, self.new), daemon=True))
        for thread in self.threads:
            thread.start()
        return self

    def ask_for_elsewhere(self, packages):
        """Begins to ask every node once for packages that are stored, on one of the nodes and in the bucket alone."""
        for address in self.addresses:
            self.threads.append(threading.Thread(target=self._run, args=("elsewhere", address, packages), daemon=True))
            self.threads[-1].start()

    def __exit__(self, kind, *_):
        self.ended.set()
        if kind is not None:
            return  # The threads end by themselves, some only when a node answers.
        for thread in self.threads:
            thread.join()

    def _run(self, kind, address, packages):
        while not self.ended.is_set():
            for package in packages:
                if self.ended.wait(self.new_pause if kind == "new" else self.PAUSE):
                    return
                self._note(kind, address, package, self._ask(address, package))
            if kind != "stored":
                return

    def _ask(self, address, package):
        first = self.addresses.index(address)
        for turn in range(len(self.addresses) if self.moves_on else 1):
            answer = ask(self.addresses[(first + turn) % len(self.addresses)], package.path)
            if not answer.refused and answer.status != 503:
                break
            with self.lock:
                self.counts["refused"] += 1
        return answer

    def _note(self, kind, address, package, answer):
        wrong = answer.says(package)
        # A version that cannot be decided on is 503; everything else that is no zip is a fault.
        is_put_off = kind == "new" and answer.status == 503 and not answer.error
        with self.lock:
            self.counts[kind, address] += 1
            self.counts[kind] += 1
            self.slowest[kind] = max(self.slowest[kind], answer.seconds)
            if is_put_off:
                self.counts["503"] += 1
            elif wrong.startswith("WRONG"):
                self.wrong.append(f"{address}{package.path}: {wrong}")
            elif wrong:
                self.failed.append(f"{kind} {address}{package.path} after {answer.seconds:.1f} s: {wrong}")

    def at_least(self, stored, new):
        """True when every node has answered so many requests of each kind."""
        with self.lock:
            return all(
                self.counts["stored", address] >= stored and self.counts["new", address] >= new
                for address in self.addresses
            )

    def asked_elsewhere(self):
        with self.lock:
            return self.counts["elsewhere"]

    def so_far(self):
        with self.lock:
            return {(kind, address): self.counts[kind, address] for kind in ("stored", "new") for address in self.addresses}

    def check(self):
        """Every answer was right; returns the figures."""
        if self.wrong or self.failed:
            shown = [*self.wrong[:3], *self.failed[:5]]
            raise Failed(f"{len(self.wrong)} wrong, {len(self.failed)} failed:\n" + "\n".join(shown))
        return (
            f"{', '.join(f'{self.counts[kind]} {kind} (longest {self.slowest[kind]:.1f} s)' for kind in self.slowest)}; "
            f"0 wrong, 0 failed, {self.counts['503']} new ones put off by 503"
        )
