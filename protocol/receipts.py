"""Which acknowledgements a channel owes, with as few messages as may be; pure, for any adapter.

An acknowledgement of many says "everything up to this delivery", so it is one for those before the
oldest delivery that is still open.
"""

CROWD = 8
"""So many answered at once show that deliveries are plenty: who needs one of its own can wait."""


class Receipts:
    """The deliveries of one channel that are not settled yet."""

    def __init__(self) -> None:
        self._open: dict[int, None] = {}
        self._answered: set[int] = set()

    def delivered(self, tag: int) -> None:
        """Take note of a delivery; tags ascend."""
        self._open[tag] = None

    def answered(self, tag: int) -> None:
        """Take note that a delivery can be acknowledged."""
        self._answered.add(tag)

    def refused(self, tag: int) -> None:
        """Take note that a delivery was settled on its own."""
        self._open.pop(tag, None)

    def due(self, *, patient: bool) -> list[tuple[int, bool]]:
        """Return what to acknowledge now: delivery tags, and whether each stands for all before it.

        Parameters
        ----------
        patient
            Of a crowd keep those back that an older delivery holds up; `waiting` then says so.
        """
        due: list[tuple[int, bool]] = []
        crowd = len(self._answered) >= CROWD
        first: list[int] = []
        for tag in self._open:
            if tag not in self._answered:
                break
            first.append(tag)
        if first:
            due.append((first[-1], len(first) > 1))
        if not (patient and crowd):
            due += [(tag, False) for tag in sorted(self._answered.difference(first))]
            first = list(self._answered)
        for tag in first:
            self._open.pop(tag, None)
        self._answered.difference_update(first)
        return due

    @property
    def waiting(self) -> bool:
        """Whether something answered is not acknowledged yet."""
        return bool(self._answered)
