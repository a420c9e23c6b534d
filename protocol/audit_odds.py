"""How likely audits catch a host that is wrong now and then, and the sentences that say so.

Each of a host's chunks is audited with probability p, whatever came before, and nobody can foresee
which. Where a share w of them is wrong, a chunk is wrong and audited with probability p·w, so that
n chunks pass with probability (1 - p·w)ⁿ: the host is caught with probability 1 - (1 - p·w)ⁿ. An
audit catches every wrong chunk, since it compares exact statistics, as long as another host that
computes it is right. `protocol/README.md` says what happens then.
"""

import math

from protocol.sentences import counted

WRONG_SHARES = (0.01, 0.1, 1.0)
CHUNKS = 1_000


def catch_probability(share: float, wrong: float, chunks: int) -> float:
    """Return with which probability a host is caught within so many chunks.

    Parameters
    ----------
    share
        Probability with which each chunk is audited.
    wrong
        Share of the chunks that are wrong.
    chunks
        How many it computes.
    """
    missed = share * wrong
    if missed >= 1.0:
        return 1.0 if chunks else 0.0
    return -math.expm1(chunks * math.log1p(-missed))


def odds_text(share: float) -> str:
    """Say how likely hosts are caught where this share of chunks is audited."""
    if not share:
        return "No chunk is audited: every host is trusted."
    odds = (
        f"{percent(wrong)} of its chunks with probability "
        f"{percent(catch_probability(share, wrong, CHUNKS))}"
        for wrong in WRONG_SHARES
    )
    return (
        f"{percent(share)} of the chunks of a known host are computed again on another one, more "
        f"of a new one and of one that was wrong. Within {CHUNKS:,} chunks a host is caught that "
        f"is wrong in {', in '.join(odds)}: 1 - (1 - {share:g}·w)ⁿ for a share w of n chunks."
    )


def audited_text(passed: int, skipped: int) -> str:
    """Say how many chunks of a run two hosts agreed on, and what that tells."""
    unaudited = counted(skipped, "chosen chunk")
    if not passed:
        return f"not audited: no other host was there to compute {unaudited} again"
    chance = percent(catch_probability(1.0, 0.1, passed))
    told = (
        f"audited: {counted(passed, 'chunk')} had the same bits on another host, which finds hosts "
        f"wrong in 10 % of their chunks with probability {chance}"
    )
    if skipped:
        told += f"; {unaudited} could not be audited, nobody else was there"
    return told


def percent(share: float) -> str:
    """Return a share in percent; what is not certain does not look so."""
    rounded = f"{100 * share:.2g}" if share < 0.1 else f"{100 * share:.3g}"  # noqa: PLR2004
    if share < 1.0 and float(rounded) >= 100:  # noqa: PLR2004
        return "over 99.9 %"
    return f"{rounded} %"
