"""How fast a run goes by its last few seconds, and how long it still takes, for people; pure."""

RATE_SECONDS = 2.0


class Rate:
    """Samples per second over about the last seconds; `latest` is what was last told.

    Parameters
    ----------
    seconds
        How many.
    """

    def __init__(self, seconds: float = RATE_SECONDS) -> None:
        self._seconds = seconds
        self._points: list[tuple[float, int]] = []
        self.latest: float | None = None

    def of(self, samples: int, now: float) -> float | None:
        """Take in how many samples there are now (s); None before two looks tell anything."""
        if not self._points or now - self._points[-1][0] >= self._seconds / 10:
            self._points.append((now, samples))
        while len(self._points) > 1 and now - self._points[1][0] >= self._seconds:
            self._points.pop(0)
        since, before = self._points[0]
        # A cell that ends at an earlier checkpoint takes back what it has beyond.
        self.latest = max(0.0, (samples - before) / (now - since)) if now > since else None
        return self.latest


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
