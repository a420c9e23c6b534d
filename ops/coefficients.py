"""Print the coefficients of the normal distribution's functions in `consumer.kernels.elementary`.

Needs mpmath, which users do not have; run it as `python -m ops.coefficients` to derive them again.
Each is an interpolant in the Chebyshev points of its interval, solved with 60 digits.
"""

from collections.abc import Callable

from mpmath import mp, mpf

Function = Callable[[mpf], mpf]
Coefficients = list[mpf]


def interpolant(
    function: Function, interval: tuple[str, str], degrees: tuple[int, int]
) -> tuple[Coefficients, Coefficients]:
    """Return numerator and denominator, constant terms first, the latter's being 1."""
    low, high = map(mpf, interval)
    upper, lower = degrees
    count = upper + lower + 1
    matrix, right = mp.matrix(count, count), mp.matrix(count, 1)
    for row in range(count):
        x = (low + high + (high - low) * mp.cos(mp.pi * (2 * row + 1) / (2 * count))) / 2
        y = function(x)
        for power in range(upper + 1):
            matrix[row, power] = x**power
        for power in range(1, lower + 1):
            matrix[row, upper + power] = -y * x**power
        right[row] = y
    solution = list(mp.lu_solve(matrix, right))
    return solution[: upper + 1], [mpf(1), *solution[upper + 1 :]]


def central(s: mpf) -> mpf:
    """Return (x / u - sqrt(2 pi)) / u^2 at u^2 = 0.180625 - s, where u = Phi(x) - 1/2."""
    u = mp.sqrt(mpf("0.180625") - s)
    return (mp.sqrt(2) * mp.erfinv(2 * u) / u - mp.sqrt(2 * mp.pi)) / u**2


def tail(r: mpf) -> mpf:
    """Return r - x with Phi(-x) = exp(-r^2 / 2), by Newton's method on the logarithm."""
    x = r - mp.log(r) / r
    step = mpf(1)
    while abs(step) > mpf(10) ** -50:
        below = mp.ncdf(-x)
        step = (mp.log(below) + r * r / 2) * below / mp.npdf(x)
        x += step
    return r - x


def near_tail(s: mpf) -> mpf:
    """Return how `tail` at r = 2.25 + s differs from its value at 2.25, rounded to 12 bits."""
    return tail(s + mpf("2.25")) - mpf("0.842041015625")


def scaled_tail(t: mpf) -> mpf:
    """Return Phi(-y) exp(y^2 / 2) (y + 1.25) at y = 5 (1 + t) / (1 - t)."""
    y = 5 * (1 + t) / (1 - t)
    return mp.erfc(y / mp.sqrt(2)) / 2 * mp.exp(y * y / 2) * (y + mpf("1.25"))


def show(name: str, coefficients: Coefficients) -> None:
    """Print coefficients as doubles, the highest power first, as Horner's rule takes them."""
    print(name, *(repr(float(value)) for value in reversed(coefficients)), sep="\n    ")  # noqa: T201


def main() -> None:
    """Print all of them."""
    mp.dps = 60
    for name, function, interval, degrees in (
        ("quantile, |p - 1/2| <= 0.425", central, ("0", "0.180625"), (8, 8)),
        ("quantile, r to 8.66, in r - 2.25", near_tail, ("0", "6.41"), (9, 9)),
        ("quantile, r to 38.7, in r - 8.5", lambda s: tail(s + mpf("8.5")), ("0", "30.2"), (8, 8)),
        ("distribution function, to -39", scaled_tail, ("-1", "0.773"), (22, 0)),
    ):
        above, below = interpolant(function, interval, degrees)
        show(name, above)
        show("  over", below)


if __name__ == "__main__":
    main()
