"""What the benchmark of the kernels says of the machine."""

import pytest

from ops.bench.kernels import vector_bits


@pytest.mark.parametrize(
    ("features", "bits"),
    [
        ({"sse4.2": True, "avx2": False, "avx512f": False}, 128),
        ({"avx": True, "avx2": True, "avx512f": False}, 256),
        ({"avx2": True, "avx512f": True}, 512),
        ({}, 128),
    ],
)
def test_the_width_of_vectors_is_that_of_the_widest_doubles(
    features: dict[str, bool], bits: int
) -> None:
    assert vector_bits(features) == bits
