"""What an agent counts of its answers, and that its telemetry can always be sent."""

import pytest

from consumer.tally import Tally
from protocol.definition import Sampling
from protocol.messages import (
    CHUNK_SECONDS,
    MAX_MODELS,
    Chunk,
    FailureKind,
    Telemetry,
    decode,
    encode,
)
from tests.support.run_values import telemetry


def chunk(model: str = "pi", blocks: int = 3) -> Chunk:
    return Chunk(
        run="r", definition=bytes(32), attempt=1, cell=0, first_block=0, blocks=blocks,
        block_size=10, model=model, model_version=1, params={}, outputs=("x",),
        sampling=Sampling(), seed=1,
    )  # fmt: skip


def test_partials_are_counted_by_model_with_samples_and_time() -> None:
    tally = Tally()
    tally.answered(chunk(), None, 0.3, 0.25)
    tally.answered(chunk(blocks=1), None, 0.4, 0.125)
    tally.answered(chunk("asian"), None, 700.0)
    found = tally.totals(1, 2, 3)
    assert (found.reconnections, found.cancels, found.rejected) == (1, 2, 3)
    assert found.failures == {}
    assert found.models["pi"].samples == 40
    assert found.models["pi"].seconds == pytest.approx(0.7)
    assert found.models["pi"].cpu_seconds == pytest.approx(0.375)
    assert found.models["pi"].chunks == (0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0)
    assert found.models["asian"].chunks[-1] == 1


@pytest.mark.parametrize(("index", "end"), list(enumerate(CHUNK_SECONDS)))
def test_the_upper_end_belongs_to_its_class(index: int, end: float) -> None:
    tally = Tally()
    tally.answered(chunk(), None, end)
    tally.answered(chunk(), None, end * 1.001)
    classes = tally.totals(0, 0, 0).models["pi"].chunks
    assert (classes[index], classes[index + 1]) == (1, 1)


def test_failures_are_counted_by_kind_and_give_no_samples() -> None:
    tally = Tally()
    for kind in (FailureKind.CRASH, FailureKind.CRASH, FailureKind.DECLINED):
        tally.answered(chunk(), kind)
    found = tally.totals(0, 0, 0)
    assert found.failures == {FailureKind.CRASH: 2, FailureKind.DECLINED: 1}
    assert found.models == {}


def test_more_models_than_a_message_holds_are_counted_together() -> None:
    tally = Tally()
    for number in range(2 * MAX_MODELS):
        tally.answered(chunk(f"m{number}"), None, 0.1)
    tally.answered(chunk("other"), None, 0.1)
    for kind in FailureKind:
        tally.answered(chunk(), kind)
    found = tally.totals(0, 0, 0)
    assert len(found.models) == MAX_MODELS
    assert sum(sum(model.chunks) for model in found.models.values()) == 2 * MAX_MODELS + 1
    message = telemetry(totals=found)
    assert decode(message.type, encode(message), Telemetry) == message
