"""A histogram as messages and results hold it: bytes, so that who asks for none loads no numpy.

What is computed with it is in `protocol.histogram`.
"""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_BINS = 8192
"""Bins of one histogram in a message: their counts are the longest bin that a message may hold."""

MAX_HISTOGRAMS = 8
"""Outputs with a histogram, so that a partial stays below its limit."""


class Histogram(BaseModel):
    """Counts of the bins that hold something.

    Attributes
    ----------
    bins
        Numbers of the bins, ascending, each as a big-endian signed 32-bit integer.
    counts
        Samples in each of them, each as a big-endian unsigned 64-bit integer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bins: Annotated[bytes, Field(min_length=4)]
    counts: Annotated[bytes, Field(min_length=8)]

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if len(self.bins) % 4 or len(self.counts) != 2 * len(self.bins):
            raise ValueError(f"{len(self.bins)} bytes of bins, {len(self.counts)} bytes of counts")
        from protocol.histogram import check_order

        check_order(*self.arrays())
        return self

    def arrays(self) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """Return bins and counts; a count that no sum of samples reaches is negative."""
        from protocol.histogram import unpacked

        return unpacked(self)

    @property
    def total(self) -> int:
        """How many samples it counts."""
        from protocol.histogram import total

        return total(self.arrays()[1])

    def merge(self, other: "Histogram") -> "Histogram":
        """Return the histogram of the samples of both."""
        from protocol.histogram import merged

        return merged(self, other)
