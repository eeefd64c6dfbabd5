"""What the programs of the proofs have in common: a promise that was not kept, and waiting with a deadline."""

import time


class Failed(Exception):
    """A promise that was not kept."""


def await_(what, condition, seconds=30):
    """Polls until `condition` is true, and returns its value: the programs tell of themselves in files only."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s in vain for {what}")
        time.sleep(0.05)
    return value
