"""Which holes a release of RabbitMQ has, by the ranges of their records."""

import pytest

from ops.broker_holes import HOLES, holes, version_of


@pytest.mark.parametrize(
    ("version", "records"),
    [
        ("3.10.8", ["CVE-2025-50200", "CVE-2023-46118"]),
        ("3.11.24", ["CVE-2025-50200"]),
        ("3.12.6", ["CVE-2025-50200", "CVE-2023-46118"]),
        ("3.12.7", ["CVE-2025-50200", "CVE-2024-51988"]),
        ("3.13.7", ["CVE-2026-67235", "CVE-2025-50200"]),
        ("3.13.15", []),
        ("4.0.5", ["CVE-2026-67235"]),
        ("4.0.20", []),
        ("4.1.10", ["CVE-2026-67235"]),
        ("4.2.5", ["CVE-2026-67238", "CVE-2026-67235"]),
        ("4.2.6", ["CVE-2026-67238"]),
        ("4.2.7", []),
        ("4.3.0-rc.1", ["CVE-2026-67238"]),
        ("4.3.1", []),
        ("5.0.0", []),
    ],
)
def test_a_release_has_the_holes_of_its_range(version: str, records: list[str]) -> None:
    assert [hole.record for hole in holes(version)] == records


def test_every_range_has_a_beginning_before_its_end() -> None:
    assert all(first < fixed for hole in HOLES for first, fixed in hole.ranges)


@pytest.mark.parametrize(
    ("text", "version"), [("4.0.5", (4, 0, 5)), ("4.3.0-beta.1", (4, 3, 0)), ("master", ())]
)
def test_a_version_is_its_numbers(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version
