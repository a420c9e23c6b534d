"""How fast a run goes by its last few seconds, and how long it still takes, for people; pure."""

RATE_SECONDS = 2.0

GROWTHS = 4
"""So often samples must have come: where chunks take long, they come more rarely than looks."""

OVERDUE = 2
"""After so many times as long as these took, nothing comes: chunks of a run that begins grow."""

FORGET = 12
"""After so many times its seconds without samples a rate begins anew: there was no work."""


class Rate:
    """Samples per second over about the last seconds; `latest` is what was last told.

    Where samples come in rarely, it reaches back until they came a few times, so that it is not 0
    between two chunks. It falls while they are overdue, and is 0 once they are for good.

    Parameters
    ----------
    seconds
        How many.
    """

    def __init__(self, seconds: float = RATE_SECONDS) -> None:
        self._seconds = seconds
        self._points: list[tuple[float, int]] = []  # when samples came, and how many there were
        self.latest: float | None = None

    def of(self, samples: int, now: float) -> float | None:
        """Take in how many samples there are now (s); None before two looks tell anything."""
        points = self._points
        if not points or samples != points[-1][1]:
            if len(points) > 1 and now - points[-2][0] < self._seconds / 10:
                points.pop()
            points.append((now, samples))
        while len(points) > GROWTHS + 1 and now - points[1][0] >= self._seconds:
            points.pop(0)
        self.latest = self._rate(now)
        return self.latest

    def _rate(self, now: float) -> float | None:
        (since, before), (last, samples) = self._points[0], self._points[-1]
        span, silence = last - since, now - last
        overdue = max(OVERDUE * span, self._seconds)
        if silence > max(overdue, FORGET * self._seconds):
            self._points = [(now - self._seconds, samples)]
        if silence > overdue:
            return 0.0
        usual = span / max(1, len(self._points) - 1)
        elapsed = span + max(0.0, silence - usual)
        # A cell that ends at an earlier checkpoint takes back what it has beyond.
        return max(0.0, (samples - before) / elapsed) if elapsed > 0.0 else None


def seconds_left(samples: int, rate: float | None) -> float | None:
    """Return how long so many samples take, None where nothing moves."""
    return samples / rate if rate else None


def clock_text(seconds: float | None) -> str:
    """Return a time span as `05:31` or `2:05:31`, dashes where it is not known."""
    if seconds is None:
        return "--:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def short_number(number: float) -> str:
    """Return a number with three digits and its prefix, ready for a unit: `1.25 M `."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit} "
    return f"{number:.3g} "
