"""Quick checks of a model: what every model must be, and whether its errors can be believed.

They find mistakes, they prove nothing: a model that passes may still compute the wrong number.
"""

from collections.abc import Iterator

import numpy as np

from consumer.model_check import bits, cost, independence
from consumer.model_check.blocks import OTHER_SEED, Block, BlockError, Loaded, Subject
from consumer.model_check.findings import Check, Evidence, Outcome
from consumer.model_check.fresh import in_fresh_processes
from protocol.definition import Method
from protocol.model import moments

BLOCKS = 256
FEWEST_BLOCKS = 32
BUDGET_SECONDS = 2.0
"""CPU time for the blocks that are compared; a slow model gets smaller and fewer ones."""
REPEATED = 8
"""Blocks of one cell, and cells, that are simulated again."""
CLOSE = 1e-9


def check_model(subject: Subject) -> Iterator[Check]:
    """Yield one finding after the other.

    The seed is fixed. How many samples are compared depends on the model's speed.

    Parameters
    ----------
    subject
        The model, its parameters, and the sampling method.

    Raises
    ------
    UsageError
        There is no such model, or it refuses the parameters.
    """
    loaded = subject.load()
    try:
        yield _runs(loaded)
        yield _moments_agree(loaded)
        evidence = _collect(loaded)
        count = len(evidence.blocks) + len(evidence.cells) - 1
        text = f"no NaN or infinity in {count} blocks of {evidence.size} samples"
        yield Check("finite", Outcome.OK, text)
        again = [*evidence.digests(REPEATED)]
        yield from bits.same_bits(subject, evidence, again)
        yield bits.different_bits(evidence)
        yield independence.serial("blocks uncorrelated", evidence.blocks, loaded.columns)
        yield independence.serial("cells uncorrelated", evidence.cells, loaded.columns)
        # A Sobol block is one sample of an estimate: its points depend on each other by design.
        if loaded.sampling.method is not Method.SOBOL and evidence.size > 1:
            yield independence.dispersion(evidence)
        if loaded.sampling.control_variates:
            yield independence.centred(evidence)
        yield cost.speed(loaded)
        fresh, reverse = in_fresh_processes(subject, (again, again[::-1]), evidence.size)
        yield from bits.same_bits_elsewhere(evidence, fresh, reverse)
        yield cost.loading(fresh)
        yield cost.memory(fresh)
    except BlockError as error:
        yield Check(error.check, Outcome.FAILED, str(error))


def _runs(loaded: Loaded) -> Check:
    """Try the smallest block, a small one, and the usual one; what is wrong raises."""
    usual = loaded.model.block_size
    small = (2, 64) if loaded.sampling.method is Method.SOBOL else (2, 6)
    sizes = (1,) if usual == 1 else (*small, usual)
    for size in sizes:
        loaded.samples((0, 0), size)
    listed = ", ".join(map(str, sizes))
    text = f"blocks of {listed} samples; columns {', '.join(loaded.columns)}"
    return Check("runs", Outcome.OK, text)


def _moments_agree(loaded: Loaded) -> Check:
    """Compare what is merged with the samples, at which everything else here looks."""
    place, size = (0, 1), loaded.model.block_size
    samples = loaded.samples(place, size)
    expected, given = moments(samples, len(loaded.outputs)), loaded.simulate(place, size)
    total = np.abs(samples).sum(axis=1)
    sums = np.abs(np.subtract(given.sums, expected.sums)) <= CLOSE * total
    if not sums.all():
        column = loaded.columns[int(np.argmin(sums))]
        text = f"`simulate` and `samples` differ in the sum of {column}"
    elif not np.allclose(given.squares, expected.squares, CLOSE, CLOSE * float(total.max())):
        text = "`simulate` and `samples` differ in the sums of squares"
    elif (given.minimum, given.maximum) != (expected.minimum, expected.maximum):
        text = "`simulate` and `samples` differ in minimum or maximum"
    else:
        return Check("moments", Outcome.OK, "`simulate` agrees with `samples`")
    return Check("moments", Outcome.FAILED, text)


def _collect(loaded: Loaded) -> Evidence:
    size = usual = loaded.model.block_size
    if usual > 1:
        size = 1 << (usual.bit_length() - 1)
    while size > 2 and 2 * BLOCKS * cost.seconds(loaded, size) > BUDGET_SECONDS:  # noqa: PLR2004
        size //= 2
    each = cost.seconds(loaded, size)
    count = min(BLOCKS, max(FEWEST_BLOCKS, int(BUDGET_SECONDS / (2 * each))))
    blocks = [Block.of(loaded.samples((0, block), size)) for block in range(count)]
    others = [Block.of(loaded.samples((cell, 0), size)) for cell in range(1, count)]
    other_seed = Block.of(loaded.samples((0, 0), size, OTHER_SEED))
    return Evidence(loaded, size, blocks, [blocks[0], *others], other_seed)
