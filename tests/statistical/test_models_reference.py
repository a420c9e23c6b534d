"""Pi against its digits: within 4.5 standard errors, a chance of 7e-6; the seed is fixed."""

import math

from consumer.models.pi import Pi
from ops.bench.direct import run
from protocol.definition import Sampling


def test_the_mean_of_pi_is_pi() -> None:
    found = run(Pi(), Sampling(), 2**22, seed=20_260_101).outputs["pi"]
    assert found.mean is not None
    assert found.standard_error is not None
    assert found.standard_error < 0.001
    assert abs(found.mean - math.pi) < 4.5 * found.standard_error
