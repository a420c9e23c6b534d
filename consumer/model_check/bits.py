"""Checks of bits: a block's samples depend on the block and on nothing else."""

from collections.abc import Iterator, Sequence

from consumer.model_check.blocks import Place, Subject, digests
from consumer.model_check.findings import Check, Evidence, Outcome
from consumer.model_check.fresh import Fresh

CERTAIN_BITS = 64.0
"""From here on two blocks do not agree by chance."""


def same_bits(subject: Subject, evidence: Evidence, again: Sequence[Place]) -> Iterator[Check]:
    """Simulate blocks again in this process, and in reverse order by a newly loaded model."""
    yield _compared(
        "same bits twice",
        evidence,
        digests(evidence.loaded, again, evidence.size),
        "does it draw from anything but the stream, or keep anything between calls?",
    )
    yield _compared(
        "same bits in reverse order",
        evidence,
        digests(subject.load(), again[::-1], evidence.size),
        "does it keep anything between calls?",
    )


def same_bits_elsewhere(evidence: Evidence, fresh: Fresh, reverse: Fresh) -> Iterator[Check]:
    """Compare blocks with those of a fresh process, and of one that took them in reverse order."""
    yield _compared(
        "same bits in a fresh process",
        evidence,
        fresh.digests,
        "does it depend on the clock, the environment, the order of a set, or what ran before?",
    )
    yield _compared(
        "same bits in a fresh process in reverse order",
        evidence,
        reverse.digests,
        "does the first call leave anything to the others?",
    )


def _compared(name: str, evidence: Evidence, again: dict[Place, bytes], question: str) -> Check:
    first = evidence.digests(len(evidence.blocks))
    differ = [place for place, digest in again.items() if first[place] != digest]
    if not differ:
        return Check(name, Outcome.OK, f"{len(again)} blocks")
    cell, block = differ[0]
    text = f"{len(differ)} of {len(again)} differ, cell {cell}, block {block} first: {question}"
    return Check(name, Outcome.FAILED, text)


def different_bits(evidence: Evidence) -> Check:
    """Look for two blocks with the same samples, where that cannot be chance."""
    name = "different bits in different blocks"
    blocks = [(f"cell 0, block {i}", block) for i, block in enumerate(evidence.blocks)]
    blocks += [(f"cell {i}, block 0", block) for i, block in enumerate(evidence.cells) if i]
    blocks += [("cell 0, block 0 under another seed", evidence.other_seed)]
    seen: dict[bytes, str] = {}
    for where, block in blocks:
        if block.bits < CERTAIN_BITS:
            continue
        if before := seen.get(block.digest):
            text = f"{before} and {where} are the same: does it draw from the stream it is given?"
            return Check(name, Outcome.FAILED, text)
        seen[block.digest] = where
    if len(seen) <= 1:
        return Check(name, Outcome.UNKNOWN, "the samples of a block vary too little to tell")
    return Check(name, Outcome.OK, f"no two of {len(seen)} blocks are the same")
