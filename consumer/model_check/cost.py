"""What a model costs: samples per second, memory, and which block size suits it."""

import time

from consumer.model_check.blocks import Loaded
from consumer.model_check.findings import Check, Outcome
from consumer.model_check.fresh import Fresh

SHORTEST, LONGEST = 5e-3, 20e-3
"""Seconds that a block should take: more than its handling costs, less than a person notices."""
LARGEST_BLOCK = 2**20
MOST_DOUBLES = 2**24
"""In one block's samples at most while a block size is sought: 128 MiB."""


def loading(fresh: Fresh) -> Check:
    """Say what a producer waits for, which loads a model only to validate a run."""
    return Check("loading", Outcome.INFO, f"{fresh.loading:.2g} s of CPU in a fresh process")


def memory(fresh: Fresh) -> Check:
    """Say what a slot with this model takes."""
    mib = 2**20
    text = (
        f"a process takes {fresh.peak / mib:.0f} MiB, "
        f"{(fresh.peak - fresh.before) / mib:.0f} MiB of it for the model and its blocks"
    )
    return Check("memory", Outcome.INFO, text if fresh.peak else "not known on this system")


def speed(loaded: Loaded) -> Check:
    """Measure one core, and suggest a block size where the model's own is too small or large."""
    usual = loaded.model.block_size
    taken = seconds(loaded, usual)
    rate = f"{usual / taken:,.0f} samples per second"
    now = f"a block of {usual} takes {taken * 1e3:.3g} ms"
    if usual == 1 or SHORTEST <= taken <= LONGEST:
        return Check("speed", Outcome.INFO, f"{rate}; {now}: a good block size")
    size, then = _block_size(loaded)
    advice = f"suggested block_size = {size} ({then * 1e3:.3g} ms)"
    return Check("speed", Outcome.INFO, f"{rate}; {now}: {advice}")


def _block_size(loaded: Loaded) -> tuple[int, float]:
    """Return the first power of two that takes long enough, and the seconds it takes."""
    most = min(LARGEST_BLOCK, MOST_DOUBLES // len(loaded.columns))
    size = 2
    while (taken := seconds(loaded, size)) < SHORTEST and 2 * size <= most:
        size *= 2
    return size, taken


def seconds(loaded: Loaded, size: int) -> float:
    """Return the CPU seconds of one block: the least of three, of one where it takes long."""
    best = float("inf")
    for block in range(3):
        start = time.process_time()
        loaded.simulate((0, block), size)
        best = min(best, time.process_time() - start)
        if best > LONGEST:
            break
    return max(best, 1e-9)
