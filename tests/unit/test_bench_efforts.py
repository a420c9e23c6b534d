"""What the benchmark says a standard error costs: what a run would do, or a fair extrapolation."""

import pytest

from consumer.models.european import European
from ops.bench import direct, efforts
from ops.bench.efforts import Effort
from protocol.definition import Method, Sampling

SOBOL = Sampling(method=Method.SOBOL)
WITH_CONTROLS = Sampling(method=Method.SOBOL, control_variates=True)


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efforts, "REPEATS", 1)


def european(sampling: Sampling, target: float) -> Effort:
    return efforts.effort("european", European(), "some way", sampling, target)


def test_an_error_is_paid_for_up_to_the_checkpoint_where_it_is_believed() -> None:
    found = european(WITH_CONTROLS, 0.01)
    assert not found.extrapolated
    # 243 blocks are the first checkpoint with 200 degrees of freedom, however small the error.
    assert found.samples == 243 * European.block_size
    assert found.standard_error is not None
    assert found.standard_error < 0.001


def test_a_run_that_is_too_long_is_extrapolated_to_one_of_its_checkpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = european(Sampling(), 0.01)
    monkeypatch.setattr(efforts, "LONGEST_SECONDS", 0.0)
    guessed = european(Sampling(), 0.01)
    assert (whole.extrapolated, guessed.extrapolated) == (False, True)
    assert guessed.standard_error is not None
    assert whole.standard_error is not None
    assert guessed.standard_error <= 0.01
    blocks = direct.definition(European(), Sampling(), 2**40).checkpoints
    assert guessed.samples in {count * European.block_size for count in blocks}
    # The first checkpoint's variance is known to some percent: the same one, or the next.
    assert whole.samples is not None
    assert 1 / 1.6 < guessed.samples / whole.samples < 1.6


def test_an_error_that_is_never_believed_costs_nothing_that_could_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(efforts, "HOPELESS_SECONDS", 0.0)
    found = european(SOBOL, 0.01)
    assert (found.samples, found.cpu_seconds, found.standard_error) == (None, None, None)
