"""The names of the Python API, each imported when it is first asked for."""

import pytest

import producer


@pytest.mark.parametrize("name", producer.__all__)
def test_every_name_of_the_api_is_found_where_it_is_defined(name: str) -> None:
    assert getattr(producer, name).__name__ == name


def test_a_name_that_is_not_of_the_api_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'producer' has no attribute 'Broker'"):
        producer.Broker  # type: ignore[attr-defined]  # noqa: B018
