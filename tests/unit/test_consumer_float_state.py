"""How doubles are computed: found changed, refused, restored."""

import ctypes
import platform
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from consumer import float_state
from consumer.answers import Worker
from consumer.execution import execute
from protocol.definition import Sampling
from protocol.messages import Chunk, Failure, FailureKind, Partial
from protocol.model import GeneratorModel

LIBM = ctypes.CDLL(None)
UPWARD, DOWNWARD, TO_ZERO = 0x800, 0x400, 0xC00
FLUSH_RESULTS, FLUSH_OPERANDS = 0x8000, 0x0040

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the bits of the control register are those of x86"
)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    yield
    float_state.restore()


def rounding(mode: int) -> None:
    assert LIBM.fesetround(mode) == 0


def flush(bit: int) -> None:
    """Set a bit of MXCSR, which stands last in the environment of <fenv.h>."""
    environment = (ctypes.c_uint32 * 8)()
    assert LIBM.fegetenv(environment) == 0
    environment[7] |= bit
    assert LIBM.fesetenv(environment) == 0


CHANGES = [
    *((rounding, mode) for mode in (UPWARD, DOWNWARD, TO_ZERO)),
    *((flush, bit) for bit in (FLUSH_RESULTS, FLUSH_OPERANDS)),
]


@pytest.mark.parametrize(("change", "value"), CHANGES)
def test_every_change_is_found_and_undone(change: Callable[[int], None], value: int) -> None:
    assert float_state.is_standard()
    change(value)
    found = float_state.is_standard()
    float_state.restore()
    assert not found
    assert float_state.is_standard()


class Careless(GeneratorModel):
    """A model that changes the rounding and forgets it."""

    name: ClassVar[str] = "careless"
    outputs: ClassVar[tuple[str, ...]] = ("x",)
    careless: bool = True

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        drawn = rng.random((n, 1))
        if self.careless:
            rounding(UPWARD)
        return drawn


def chunk(*, careless: bool) -> Chunk:
    return Chunk(
        run="r", definition=bytes(32), attempt=1, cell=0, first_block=0, blocks=2, block_size=8,
        model="careless", model_version=1, outputs=("x",), params={"careless": careless},
        sampling=Sampling(), seed=1,
    )  # fmt: skip


def test_a_chunk_whose_model_changes_it_fails() -> None:
    answer = execute(chunk(careless=True), Worker("host-1", "host"), lambda _: Careless)
    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.MODEL_ERROR
    assert "changes how doubles are computed" in answer.text


def test_the_next_chunk_is_computed_as_if_nothing_had_happened() -> None:
    worker = Worker("host-1", "host")
    clean = execute(chunk(careless=False), worker, lambda _: Careless)
    execute(chunk(careless=True), worker, lambda _: Careless)
    after = execute(chunk(careless=False), worker, lambda _: Careless)
    assert isinstance(clean, Partial)
    assert isinstance(after, Partial)
    assert after.statistics == clean.statistics
